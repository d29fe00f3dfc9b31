"""Two models on the same videos: how far apart they are, and whether chance alone would bring them as far apart.

Both answers take the videos as drawn at random and the two models as they are. What another seed of the training
would have changed is not in them: for that, train several seeds and look at `tubelet table`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # of the tests; the intervals hold 1 - LEVEL
NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Pair:
    """Numbers of videos by who answers them rightly: both models, A alone, B alone, neither."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def videos(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def top1(self) -> tuple[float, float]:
        """Of A and of B."""
        return (self.both + self.only_a) / self.videos, (self.both + self.only_b) / self.videos

    @property
    def difference(self) -> float:
        """Top-1 of B less that of A."""
        return (self.only_b - self.only_a) / self.videos


def count(right_a: np.ndarray, right_b: np.ndarray) -> Pair:
    """bool (n,), bool (n,), of the same videos in the same order."""
    both, only_a, only_b = (int(part.sum()) for part in (right_a & right_b, right_a & ~right_b, right_b & ~right_a))
    return Pair(both, only_a, only_b, len(right_a) - both - only_a - only_b)


def mcnemar(only_a: int, only_b: int) -> float:
    """How often two equal models share the videos on which one alone is right at least as unevenly as here.

    McNemar, Psychometrika 12 (1947), 153-157, in its exact form: each of these videos falls to either model with
    probability 1/2, so this is twice the lower tail of a binomial distribution, and at most 1. In whole numbers, so
    that it is exact for any count.
    """
    videos = only_a + only_b
    term = tail = 1
    for k in range(min(only_a, only_b)):
        term = term * (videos - k) // (k + 1)  # videos over k + 1
        tail += term
    return min(1.0, 2 * tail / 2**videos)


def difference_interval(pair: Pair, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the difference of top-1 over resamples of the videos; a video keeps the answers of both.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: the percentile interval. The difference
    needs the four counts of a resample only, and drawing n videos with replacement draws these from a multinomial
    distribution; so that is what is drawn.
    """
    shares = np.array([pair.only_b, pair.only_a, pair.both + pair.neither]) / pair.videos
    drawn = np.random.default_rng(seed).multinomial(pair.videos, shares, NUM_RESAMPLES)  # (resamples, 3)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [LEVEL / 2, 1 - LEVEL / 2]) / pair.videos
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p corrected for the number of them, so that below LEVEL a single false one is that rare among all.

    Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        corrected[i] = largest
    return corrected


@dataclass(frozen=True)
class ClassPair:
    """The videos of one class. p: of McNemar's test; p_holm: corrected for the number of classes."""

    name: str
    pair: Pair
    p: float
    p_holm: float

    @property
    def differs(self) -> bool:
        return self.p_holm < LEVEL


def by_class(labels: Sequence[str], right_a: np.ndarray, right_b: np.ndarray) -> list[ClassPair]:
    """From B's largest gain to its largest loss."""
    names, place = np.unique(labels, return_inverse=True)
    pairs = [count(right_a[place == k], right_b[place == k]) for k in range(len(names))]
    p_values = [mcnemar(pair.only_a, pair.only_b) for pair in pairs]
    classes = map(ClassPair, map(str, names), pairs, p_values, holm(p_values))
    return sorted(classes, key=lambda one: (-one.pair.difference, one.p, one.name))
