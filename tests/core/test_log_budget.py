from __future__ import annotations

from evedge.core.log_budget import LogBudget


def test_lines_beyond_the_budget_are_left_out_and_counted_in_the_next_window():
    budget = LogBudget(lines=2, window_s=60)
    assert [budget.take("k", now) for now in (0, 1, 2, 3)] == [0, 0, None, None]
    assert budget.take("k", 60) == 2
    assert budget.take("k", 61) == 0


def test_keys_do_not_spend_each_others_lines():
    budget = LogBudget(lines=1)
    assert [budget.take(key, 0) for key in "aab"] == [0, None, 0]


def test_the_key_longest_unheard_is_forgotten_first():
    budget = LogBudget(lines=1, max_keys=2)
    for key in "aba":
        budget.take(key, 0)
    budget.take("c", 0)
    assert budget.take("a", 0) is None
    assert budget.take("b", 0) == 0
