"""The finished runs of one experiment by seed and official split: what counts as a seed, and over how many videos."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from tubelet.analysis.evaluated import read_evaluation
from tubelet.analysis.runs import Run

Splits = dict[str | None, list[Run]]  # the runs of one seed by split, None for data that has none; copies are several


def by_seed(runs: Sequence[Run]) -> dict[str, Splits]:
    """The finished ones."""
    seeds: dict[str, Splits] = {}
    for run in runs:
        if run.finished:
            seeds.setdefault(run.seed, {}).setdefault(run.split, []).append(run)
    return seeds


def splits_of(seeds: Mapping[str, Splits]) -> list[str | None]:
    """Those that any seed has."""
    return sorted({split for splits in seeds.values() for split in splits}, key=str)


def complete(seeds: Mapping[str, Splits]) -> list[Splits]:
    """The seeds with every split that any has: splits are not equally hard, so means over other ones do not compare."""
    return [splits for splits in seeds.values() if len(splits) == len(splits_of(seeds))]


def over_splits(splits: Splits, figure: Callable[[Run], float | None]) -> float | None:
    """Of one seed: the mean over its splits, copies of a run counting as one. None where one has no such figure."""
    return mean([mean([figure(run) for run in copies]) for copies in splits.values()])


def mean(values: Sequence[float | None]) -> float | None:
    """None where a value is missing: a mean of some of the runs would be compared with means of all."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there and len(there) == len(values) else None


def num_videos(splits: Splits) -> int | None:
    """Different ones in the tests of a seed; None for one split whose record tells none.

    The tests of HMDB51's splits share videos, so those of several splits are read from predictions.csv. Raises
    ValueError where that cannot be read.
    """
    runs = [copies[0] for copies in splits.values()]
    if len(runs) == 1:
        return runs[0].record["test"].get("videos")
    tests = [(tested := read_evaluation(run.folder)).below(tested.root) for run in runs]
    return len({video for tested in tests for video, _ in tested.right})


def told(runs: Sequence[Run], seeds: Mapping[str, Splits]) -> Iterator[str]:
    """What a reader must know of runs that were made twice, and of splits that are lacking."""
    wanted = splits_of(seeds)
    absent = sorted({run.split for run in runs if run.split is not None and run.split not in wanted})
    if seeds and absent:
        yield f"split {', '.join(absent)} has no finished run: the figures are of the others"
    for seed, splits in seeds.items():
        for split, copies in splits.items():
            if len(copies) > 1:
                of = "" if split is None else f" of split {split}"
                yield f"seed {seed}{of} in {len(copies)} runs; their mean counts, as of one seed"
        lacking = [str(split) for split in wanted if split not in splits]
        if lacking:
            yield f"seed {seed} has no finished run of split {', '.join(lacking)}, and is left out of the figures"
