"""McNemar's test, the paired bootstrap and Holm's correction: by hand, and on simulated models."""

import numpy as np
import pytest

from tubelet.analysis.paired import Pair, by_class, count, difference_interval, holm, mcnemar


def simulate(rng, num_videos, gain=0.0):
    """Answers of two models to videos of all degrees of difficulty; B answers `gain` of the videos better than A."""
    share = rng.beta(1.5, 1.5, num_videos)  # of trainings that answer this video rightly
    right_a, right_b = rng.random((2, num_videos)) < share
    return right_a, right_b | (rng.random(num_videos) < gain)


def called_different(num_pairs, num_videos, gain=0.0):
    """Shares of pairs that McNemar's test and the interval call different."""
    rng = np.random.default_rng(20)
    pairs = [count(*simulate(rng, num_videos, gain)) for _ in range(num_pairs)]
    by_test = sum(mcnemar(pair.only_a, pair.only_b) < 0.05 for pair in pairs)
    intervals = [difference_interval(pair, seed) for seed, pair in enumerate(pairs)]
    by_interval = sum(low > 0 or high < 0 for low, high in intervals)
    return by_test / num_pairs, by_interval / num_pairs


def test_of_1000_pairs_of_equal_models_at_most_65_are_called_different():
    """At a level of 5 %; a share of exactly 5 % would give more than 65 in one of 60 such trials."""
    by_test, by_interval = called_different(1000, 400)
    assert 0.02 < by_test <= 0.065
    assert 0.02 < by_interval <= 0.065


def test_a_real_difference_is_found():
    """B answers one video in five rightly whatever it is, so it is better by 0.2 x 0.5 = 0.1.

    The models disagree on 0.37 of 400 videos, so that is sqrt(400 / 0.37) x 0.1 = 3.3 standard deviations, which 0.9 of
    the pairs show at a level of 5 %.
    """
    by_test, by_interval = called_different(100, 400, gain=0.2)
    assert by_test > 0.8
    assert by_interval > 0.8


def test_the_counts_are_those_of_the_answers():
    a = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    b = np.array([1, 0, 0, 1, 0, 0, 0], bool)
    pair = count(a, b)
    assert pair == Pair(both=1, only_a=2, only_b=1, neither=3)
    assert (pair.top1, pair.difference) == ((3 / 7, 2 / 7), -1 / 7)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 5, 2 / 32), (5, 0, 2 / 32), (2, 10, 2 * (1 + 12 + 66) / 2**12), (1, 2, 1.0)],
)
def test_mcnemars_p_is_that_of_the_binomial_distribution_by_hand(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == p


def test_mcnemars_p_is_exact_for_many_videos():
    """Beyond 1000 videos 2**-n is no float; the normal approximation with continuity correction is close there."""
    assert mcnemar(2400, 2600) == pytest.approx(0.004887, rel=0.01)  # erfc((200 - 1) / sqrt(2 * 5000))


def test_the_interval_of_many_videos_is_that_of_the_normal_distribution():
    pair = Pair(both=4000, only_a=900, only_b=1200, neither=3900)
    low, high = difference_interval(pair)
    sd = np.sqrt(((1200 + 900) / 10_000 - 0.03**2) / 10_000)
    assert low == pytest.approx(0.03 - 1.96 * sd, abs=0.05 * sd)  # 10,000 resamples know it to 2 % of sd or so
    assert high == pytest.approx(0.03 + 1.96 * sd, abs=0.05 * sd)
    assert difference_interval(pair) == (low, high)
    assert difference_interval(pair, seed=1) != (low, high)


def test_drawing_counts_is_drawing_videos():
    """The interval from resampled videos, one by one, agrees to the noise of 10,000 resamples."""
    rng = np.random.default_rng(3)
    right_a, right_b = simulate(rng, 60)
    gains = right_b.astype(int) - right_a
    resampled = gains[rng.integers(60, size=(10_000, 60))].mean(1)  # (resamples, videos) -> (resamples,)
    expected = np.quantile(resampled, [0.025, 0.975])
    assert difference_interval(count(right_a, right_b)) == pytest.approx(expected, abs=1.01 / 60)


def test_two_equal_files_differ_by_nothing():
    pair = Pair(both=5, only_a=0, only_b=0, neither=2)
    assert (pair.difference, difference_interval(pair), mcnemar(0, 0)) == (0, (0, 0), 1)


def test_holms_correction_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.5; 0.024 x 2 = 0.048 may not fall below the 0.06 before it."""
    assert holm([0.5, 0.01, 0.024, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])


def test_classes_come_from_gain_to_loss_and_only_what_survives_the_correction_differs():
    labels = ["slow"] * 12 + ["fast"] * 20 + ["same"] * 3
    right_a = np.array([0] * 12 + [1] * 5 + [0] * 15 + [1, 1, 0], bool)
    right_b = np.array([1] * 12 + [0] * 5 + [0] * 15 + [1, 1, 0], bool)
    classes = by_class(labels, right_a, right_b)
    assert [(one.name, one.pair.videos, one.pair.difference) for one in classes] == [
        *(("slow", 12, 1.0), ("same", 3, 0.0), ("fast", 20, -0.25))
    ]
    assert [one.p for one in classes] == [2 / 2**12, 1.0, 2 / 2**5]
    assert [one.p_holm for one in classes] == pytest.approx([6 / 2**12, 1.0, 4 / 2**5])
    assert [one.differs for one in classes] == [True, False, False]
