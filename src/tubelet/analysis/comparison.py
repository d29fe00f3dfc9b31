"""A comparison of runs: what differs between them, their accuracy over seeds, and what each costs."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tubelet.analysis.cost import Cost, count
from tubelet.analysis.runs import Run
from tubelet.evaluation.checkpoint import build_module


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed, or in the official split of the data, only.

    Accuracies are means over the seeds and splits that finished; None where there is none.

    top1_spread: the standard deviation between them (of a sample), None for a single one
    splits: official ones, 1 for data that has none
    repeated: seeds with more than one finished run of a split, which count once, by the mean of these
    macs: of one clip, as published
    """

    name: str
    top1: float | None
    top1_spread: float | None
    seeds: int
    splits: int
    val_top1: float | None
    parameters: int | None
    macs: int | None
    clips_per_second: float | None
    peak_memory_mib: float | None
    not_finished: str
    repeated: str


def compare(runs: Sequence[Run]) -> list[Row]:
    """A row for each experiment, in the order of the folders."""
    groups: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    shared = set.intersection(*(set(overrides) for _, overrides in groups))
    costs: dict[str, Cost | None] = {}
    rows = []
    for (name, overrides), group in groups.items():
        differing = [part for part in group[0].record["overrides"] if part in set(overrides) - shared]
        differing.sort(key=lambda part: not part.startswith("model="))  # the model first, the rest as typed
        rows.append(_row(" ".join(differing) or name, group, costs))
    return rows


def _row(name: str, runs: Sequence[Run], costs: dict[str, Cost | None]) -> Row:
    finished = [run for run in runs if run.finished]
    repetitions: dict[tuple[str, str | None], list[Run]] = {}
    for run in finished:
        repetitions.setdefault((run.seed, run.split), []).append(run)
    tests = [statistics.fmean(run.record["test"]["top1"] for run in same) for same in repetitions.values()]
    cost = next((cost_of(run, costs) for run in runs if run.config), None)
    recorded = (run.record["parameters"] for run in runs if "parameters" in run.record)
    statuses = [run.record["status"] for run in runs if not run.finished]
    return Row(
        name=name,
        top1=_mean(tests),
        top1_spread=statistics.stdev(tests) if len(tests) > 1 else None,
        seeds=len({seed for seed, _ in repetitions}),
        splits=len({split for _, split in repetitions}),
        val_top1=_mean([_mean([run.val_top1 for run in same]) for same in repetitions.values()]),
        parameters=next(recorded, cost.parameters if cost else None),
        macs=cost.macs() if cost else None,
        clips_per_second=_mean([run.record.get("clips_per_second") for run in finished]),
        peak_memory_mib=_mean([run.record.get("peak_memory_mib") for run in finished]),
        not_finished=", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)),
        repeated=", ".join(_told(*of, len(same)) for of, same in repetitions.items() if len(same) > 1),
    )


def _told(seed: str, split: str | None, num_runs: int) -> str:
    return f"seed {seed}{'' if split is None else f' of split {split}'} in {num_runs} runs"


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


def _mean(values: Sequence[float | None]) -> float | None:
    """None where a value is missing: a mean of some of the runs would be compared with means of all."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there and len(there) == len(values) else None
