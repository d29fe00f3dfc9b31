"""Intervals of accuracies, against printed tables and by hand."""

import math

import pytest

from tubelet.analysis.intervals import interval, overlap, t_interval, t_quantile, wilson


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (10, 2.2281), (29, 2.0452), (120, 1.9799)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    """The 97.5 % column of any printed table of Student's t."""
    assert t_quantile(freedom) == pytest.approx(quantile, abs=6e-5)


def test_the_t_interval_of_three_seeds_by_hand():
    low, high = t_interval([0.5, 0.6, 0.7])  # mean 0.6, standard deviation 0.1
    assert high - 0.6 == pytest.approx(4.3027 * 0.1 / math.sqrt(3), abs=1e-5)
    assert 0.6 - low == pytest.approx(high - 0.6)


def test_the_t_interval_stays_within_0_and_1():
    assert t_interval([0.1, 0.9]) == (0.0, 1.0)


def test_wilsons_interval_has_ends_at_which_the_score_is_196():
    """Its definition: the shares p with |share - p| = 1.96 sqrt(p (1 - p) / n)."""
    for end in wilson(0.3, 50):
        assert abs(0.3 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 50), rel=1e-6)


def test_wilsons_interval_of_no_error_has_a_width():
    assert wilson(1.0, 10) == (pytest.approx(10 / (10 + 1.959964**2)), 1.0)


def test_seeds_that_agree_leave_the_interval_of_the_videos():
    assert interval([0.8, 0.8], 400) == wilson(0.8, 400)
    assert interval([0.8], 400) == wilson(0.8, 400)
    assert interval([0.8], None) is None
    assert interval([0.5, 0.6, 0.7], None) == t_interval([0.5, 0.6, 0.7])


def test_intervals_that_touch_overlap():
    assert overlap((0.1, 0.3), (0.3, 0.4))
    assert overlap((0.1, 0.9), (0.3, 0.4))
    assert not overlap((0.1, 0.3), (0.31, 0.4))
    assert not overlap((0.31, 0.4), (0.1, 0.3))
