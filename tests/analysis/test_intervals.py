"""Intervals of accuracies, against printed tables and by hand."""

import math

import numpy as np
import pytest

from tubelet.analysis.intervals import interval, overlap, t_quantile, t_reach, wilson


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (10, 2.2281), (29, 2.0452), (120, 1.9799)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    """The 97.5 % column of any printed table of Student's t."""
    assert t_quantile(freedom) == pytest.approx(quantile, abs=6e-5)


def test_the_t_interval_of_three_seeds_by_hand():
    assert t_reach([0.5, 0.6, 0.7]) == pytest.approx(4.3027 * 0.1 / math.sqrt(3), abs=1e-5)  # standard deviation 0.1


def test_wilsons_interval_has_ends_at_which_the_score_is_196():
    """Its definition: the shares p with |share - p| = 1.96 sqrt(p (1 - p) / n)."""
    for end in wilson(0.3, 50):
        assert abs(0.3 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 50), rel=1e-6)


def test_wilsons_interval_of_no_error_has_a_width():
    assert wilson(1.0, 10) == (pytest.approx(10 / (10 + 1.959964**2)), 1.0)


def test_seeds_that_agree_leave_the_interval_of_the_videos():
    assert interval([0.8, 0.8], 400) == pytest.approx(wilson(0.8, 400))
    assert interval([0.8], 400) == pytest.approx(wilson(0.8, 400))


def test_an_unknown_number_of_videos_has_no_interval():
    assert interval([0.8], None) is None
    assert interval([0.5, 0.6, 0.7], None) is None


def test_seeds_and_videos_add_in_quadrature_by_hand():
    """Wilson's of 0.5 over 400 videos reaches 1.96 sqrt(0.25 / 400 + 1.96^2 / (4 x 400^2)) / (1 + 1.96^2 / 400)."""
    reach = math.hypot(0.048765, 2.7764 * 0.0158114 / math.sqrt(5))
    values = [0.48, 0.49, 0.50, 0.51, 0.52]  # standard deviation sqrt(0.00025) = 0.0158114
    assert interval(values, 400) == pytest.approx((0.5 - reach, 0.5 + reach), abs=2e-6)


def test_the_interval_stays_within_0_and_1():
    assert interval([0.1, 0.9], 50) == (0.0, 1.0)


def simulate(num_seeds, seed_sd, num_videos, times=4000):
    """Shares of the intervals that hold the accuracy of a recipe, 0.75, and of two of them that are disjoint.

    The hardest case: all seeds of a row answer the same videos rightly but for a level of their own, so that more
    seeds tell nothing more of the videos, and the two rows have met other videos. The table of docs/compare.md.
    """
    rng = np.random.default_rng(9)
    on_these_videos = rng.binomial(num_videos, 0.75, (times, 2, 1)) / num_videos
    tops = on_these_videos + seed_sd * rng.standard_normal((times, 2, num_seeds))
    pairs = [[interval(seeds, num_videos) for seeds in pair] for pair in tops.tolist()]
    held = sum(low <= 0.75 <= high for pair in pairs for low, high in pair)
    return held / (2 * times), sum(not overlap(*pair) for pair in pairs) / times


@pytest.mark.parametrize(("num_seeds", "seed_sd", "num_videos"), [(2, 0.03, 3783), (3, 0.02, 400), (5, 0.03, 400)])
def test_intervals_of_several_seeds_hold_the_recipes_accuracy_and_those_of_equal_recipes_overlap(
    num_seeds, seed_sd, num_videos
):
    held, disjoint = simulate(num_seeds, seed_sd, num_videos)
    assert held > 0.95
    assert disjoint < 0.008


def test_the_interval_of_one_seed_is_of_the_videos_only():
    """It is right where seeds do not differ, and wrong half of the time where they differ by 0.02."""
    held, disjoint = simulate(1, 0.0, 3783)
    assert held > 0.94
    assert disjoint < 0.01
    held, disjoint = simulate(1, 0.02, 3783)
    assert 0.4 < held < 0.6
    assert 0.25 < disjoint < 0.45


def test_intervals_that_touch_overlap():
    assert overlap((0.1, 0.3), (0.3, 0.4))
    assert overlap((0.1, 0.9), (0.3, 0.4))
    assert not overlap((0.1, 0.3), (0.31, 0.4))
    assert not overlap((0.31, 0.4), (0.1, 0.3))
