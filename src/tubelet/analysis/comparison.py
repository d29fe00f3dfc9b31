"""A comparison of runs: what differs between them, their accuracy over seeds and its rank, and what each costs."""

import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tubelet.analysis.cost import Cost, count
from tubelet.analysis.experiments import counting, experiments, settings, split_override
from tubelet.analysis.intervals import Interval, interval, overlap
from tubelet.analysis.repetitions import Splits, by_seed, complete, mean, num_videos, over_splits, splits_of, told
from tubelet.analysis.runs import Run
from tubelet.evaluation.checkpoint import build_module

MOST_KEYS = 4  # told of those that differ
DIGITS = 12  # of a figure: the same mean, added up in another order, differs behind them


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed, or in the official split of the data, only.

    Accuracies are means over the seeds that finished every split; None where there is none. That of a seed is the mean
    over its splits.

    recorded_name: that of the runs' records
    overrides: by key, those that are not the same in all rows; name: the same in one line, `model` first
    folders: of all its runs
    top1_spread: the standard deviation between the seeds (of a sample), None for a single one
    interval: of top1, 95 % (see analysis/intervals.py)
    splits: official ones that finished, 1 for data that has none
    val: best validation, by `monitor`; of the runs that the search ended early, where no other has finished
    least: the least of it is the best, as of a loss
    macs: of one clip, as published
    notes: what a reader must know of its figures
    """

    recorded_name: str
    name: str
    overrides: dict[str, str]
    folders: tuple[Path, ...]
    top1: float | None
    top1_spread: float | None
    interval: Interval | None
    seeds: int
    splits: int
    val: float | None
    monitor: str
    least: bool
    parameters: int | None
    macs: int | None
    clips_per_second: float | None
    peak_memory_mib: float | None
    not_finished: str
    notes: tuple[str, ...]

    @property
    def videos_only(self) -> bool:
        """The interval tells nothing of other seeds, for there is one."""
        return self.seeds == 1


@dataclass(frozen=True)
class Ranked:
    """A row in its place.

    rank: 1 more than the number of rows with a higher figure, so equal figures share one; None without the figure
    ties: ranks of the other rows whose intervals overlap its own
    """

    row: Row
    figure: float | None
    rank: int | None
    ties: tuple[int, ...]


def rank(rows: Sequence[Row], figure: Callable[[Row], float | None]) -> list[Ranked]:
    """By falling figure, equal ones in their order; rows without it come last. Ties are always those of test top-1."""
    known = [(value, row) for row in rows if (value := figure(row)) is not None]
    known.sort(key=lambda pair: -pair[0])
    values = [round(value, DIGITS) for value, _ in known]
    places = [(1 + values.index(round(value, DIGITS)), row) for value, row in known]
    ranked = [Ranked(row, figure(row), number, _ties(row, places)) for number, row in places]
    return [*ranked, *(Ranked(row, None, None, ()) for row in rows if figure(row) is None)]


def by_test(row: Row) -> float | None:
    return row.top1


def by_validation(row: Row) -> float | None:
    """None where no run has finished: the best validation of a training that was ended early is of another training."""
    if row.top1 is None or row.val is None:
        return None
    return -row.val if row.least else row.val


def _ties(row: Row, places: Sequence[tuple[int, Row]]) -> tuple[int, ...]:
    if row.interval is None:
        return ()
    others = ((number, other.interval) for number, other in places if other is not row)
    tied = (number for number, its in others if its is not None and overlap(row.interval, its))
    return tuple(dict.fromkeys(tied))


def compare(runs: Sequence[Run]) -> list[Row]:
    """A row for each experiment, in the order of the folders."""
    groups = experiments(runs)
    common = [set.intersection(*(set(counting(run)) for run in group)) for group in groups]
    shared = set.intersection(*common)
    costs: dict[str, Cost | None] = {}
    rows = []
    for group, overrides in zip(groups, common, strict=True):
        differing = [part for part in counting(group[0]) if part in overrides - shared]
        differing.sort(key=lambda part: not part.startswith("model="))  # the model first, the rest as typed
        row = _row(str(group[0].record.get("name")), group, costs)
        rows.append(replace(row, name=" ".join(differing) or row.name, overrides=dict(map(split_override, differing))))
    return _alike_told(rows, groups)


def _alike_told(rows: Sequence[Row], groups: Sequence[Sequence[Run]]) -> list[Row]:
    """Notes what of config.yaml tells rows apart whose overrides do not: a yaml was edited in between."""
    configured = [next((settings(run) for run in group if run.config), {}) for group in groups]
    told = []
    for row, mine in zip(rows, configured, strict=True):
        alike = [its for one, its in zip(rows, configured, strict=True) if one.name == row.name and its and mine]
        keys = sorted({key for its in alike for key in {*its, *mine} if its.get(key) != mine.get(key)})
        values = [f"{key}={mine.get(key, 'null')}" for key in keys[:MOST_KEYS]]
        values += [f"{len(keys) - MOST_KEYS} more"] * (len(keys) > MOST_KEYS)
        where = os.path.relpath(row.folders[0])
        note = f"typed as another row is, but config.yaml in {where} has {', '.join(values)}"
        told.append(replace(row, notes=(*row.notes, note)) if keys else row)
    return told


def override_keys(rows: Sequence[Row]) -> list[str]:
    """Those that differ, in the order of the rows, `model` first."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    return sorted(keys, key=lambda key: key != "model")


def override_columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Key -> what each row has for it, to be shown; '-' where it was not typed, so that the default held."""
    return {key: rounded([_shown(row, key) for row in rows]) for key in override_keys(rows)}


def _shown(row: Row, key: str) -> str:
    return (row.overrides[key] or "yes") if key in row.overrides else "-"


def rounded(values: list[str]) -> list[str]:
    """Long numbers, as a search draws them, to four digits, or to as many as keep different ones apart."""
    for digits in range(4, 17):
        short = [
            value if len(value) < 10 or number(value) is None else f"{float(value):.{digits}g}" for value in values
        ]
        if len(set(short)) == len(set(values)):
            return short
    return values


def number(text: str) -> float | None:
    """Of an override's value; None for what is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _row(recorded_name: str, runs: Sequence[Run], costs: dict[str, Cost | None]) -> Row:
    finished = [run for run in runs if run.finished]
    seeds = by_seed(finished)
    counted, notes = complete(seeds), list(told(runs, seeds))
    tops = (over_splits(splits, lambda run: run.figure("test.top1")) for splits in counted)
    tests = [top1 for top1 in tops if top1 is not None]
    cost = next((cost_of(run, costs) for run in runs if run.config), None)
    recorded = (run.record["parameters"] for run in runs if "parameters" in run.record)
    statuses = [run.record["status"] for run in runs if not run.finished]
    return Row(
        recorded_name=recorded_name,
        name=recorded_name,
        overrides={},
        folders=tuple(run.folder for run in runs),
        top1=mean(tests),
        top1_spread=statistics.stdev(tests) if len(tests) > 1 else None,
        interval=_interval(tests, counted, notes),
        seeds=len(counted),
        splits=len(splits_of(seeds)),
        val=_val(runs, counted),
        monitor=runs[0].monitor,
        least=runs[0].least_is_best,
        parameters=next(recorded, cost.parameters if cost else None),
        macs=cost.macs() if cost else None,
        clips_per_second=mean([run.record.get("clips_per_second") for run in finished]),
        peak_memory_mib=mean([run.record.get("peak_memory_mib") for run in finished]),
        not_finished=", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)),
        notes=tuple(notes),
    )


def _interval(tests: Sequence[float], counted: Sequence[Splits], notes: list[str]) -> Interval | None:
    """Notes why there is none, where its videos cannot be counted."""
    if not tests:
        return None
    try:
        return interval(tests, num_videos(counted[0]))
    except ValueError as error:
        notes.append(f"no interval: {error}")
        return None


def _val(runs: Sequence[Run], counted: Sequence[Splits]) -> float | None:
    if any(run.finished for run in runs):
        return mean([over_splits(splits, lambda run: run.val) for splits in counted])
    return mean([run.val for run in runs if run.record["status"] == "pruned"])


def cost_of(run: Run, known: dict[str, Cost | None]) -> Cost | None:
    """Of the model in the run's config, each model once; None where it cannot be built, so that its size is unknown."""
    node = run.config["model"]
    key = json.dumps(node, sort_keys=True)
    if key not in known:
        build: Callable = partial(build_module, node)
        clip = run.config["clip"]
        try:
            known[key] = count(build, clip["num_frames"], clip["crop"], memory=False)
        except (ValueError, TypeError, ImportError):  # a class or an argument of another version of this package
            known[key] = None
    return known[key]
