import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.core.backoff import Backoff


def test_delays_double_up_to_the_longest():
    backoff = Backoff(first_s=1, longest_s=15)
    assert [backoff.failed(1.0) for _ in range(6)] == [1.5, 3, 6, 12, 15, 15]


def test_chance_spreads_the_delay_but_never_below_the_first():
    assert Backoff(first_s=1, longest_s=15).failed(0.0) == 1
    later = Backoff(first_s=1, longest_s=15, failures=3)
    assert later.failed(0.0) == 4
    assert Backoff(first_s=1, longest_s=15, failures=3).failed(0.5) == 8


def test_a_success_starts_from_the_first_delay_again():
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(0.5)
    backoff.succeeded()
    assert backoff.failed(0.0) == backoff.first_s


@given(failures=st.integers(0, 10_000), chance=st.floats(0, 1), first=st.floats(0.1, 5), factor=st.floats(1, 100))
def test_no_delay_leaves_its_bounds(failures, chance, first, factor):
    backoff = Backoff(first_s=first, longest_s=first * factor, failures=failures)
    assert backoff.first_s <= backoff.failed(chance) <= backoff.longest_s * (1 + 1e-12)


def test_impossible_delays_are_refused():
    for first, longest in ((0, 1), (2, 1), (-1, 1)):
        with pytest.raises(ValueError):
            Backoff(first_s=first, longest_s=longest)
