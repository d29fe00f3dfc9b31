"""How far the accuracy of a run may be from what it stands for: other test videos, and other seeds."""

import math
import statistics
from collections.abc import Sequence
from functools import cache

CONFIDENCE = 0.95

Interval = tuple[float, float]


def interval(seeds: Sequence[float], num_videos: int | None) -> Interval | None:
    """Of the mean of the accuracies of seeds, all on the same videos. None where the number of videos is not known.

    One seed: Wilson's, which holds what other videos would change, and nothing of what another seed would: too narrow
    for a recipe. From two seeds on the reach of the t interval, which holds that, is added in quadrature, as variances
    add. What chance changes in the answers of one seed is in both of them, so the sum errs on the wide side.
    """
    if num_videos is None:
        return None
    mean, (low, high) = statistics.fmean(seeds), wilson(statistics.fmean(seeds), num_videos)
    of_seeds = t_reach(seeds) if len(seeds) > 1 else 0.0
    return max(0.0, mean - math.hypot(mean - low, of_seeds)), min(1.0, mean + math.hypot(high - mean, of_seeds))


def wilson(share: float, num_videos: int) -> Interval:
    """Of a share of independent videos. Wilson, Journal of the American Statistical Association 22 (1927), 209-212."""
    z2 = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2 / num_videos
    middle = (share + z2 / 2) / (1 + z2)
    reach = math.sqrt(z2 * share * (1 - share) + z2 * z2 / 4) / (1 + z2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def t_reach(values: Sequence[float]) -> float:
    """How far the t interval of the mean of two or more values reaches to either side."""
    return t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


@cache
def t_quantile(freedom: int) -> float:
    """The t which CONFIDENCE of Student's distribution with so many degrees of freedom lies within, on both sides."""
    low, high = 0.0, math.pi / 2  # of theta, where t = sqrt(freedom) tan(theta)
    for _ in range(60):  # halves it down to rounding
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(theta: float, freedom: int) -> float:
    """Probability that |t| < sqrt(freedom) tan(theta): Abramowitz and Stegun, formulas 26.7.3 and 26.7.4."""
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(theta) ** 2 * (k - 1) / k
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total


def overlap(one: Interval, other: Interval) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
