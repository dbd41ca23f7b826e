"""Durations in buckets."""

import pytest

from evedge.core.histogram import Histogram


def test_a_bucket_takes_what_is_at_most_its_upper_end():
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.11, 1.0, 1.01):
        histogram.observe(seconds)
    assert list(histogram.cumulative()) == [(0.1, 2), (1.0, 4), (float("inf"), 5)]
    assert histogram.count == 5
    assert histogram.sum_s == pytest.approx(2.22)


def test_it_goes_on_from_what_was_counted_elsewhere():
    histogram = Histogram((0.1, 1.0), [1, 2, 3], 12.0)
    histogram.observe(0.5)
    assert list(histogram.cumulative()) == [(0.1, 1), (1.0, 4), (float("inf"), 7)]


def test_counts_that_do_not_fit_the_bounds_are_refused():
    with pytest.raises(ValueError, match="2 counts do not fit 2 bounds"):
        Histogram((0.1, 1.0), [1, 2])
