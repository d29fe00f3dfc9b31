"""A comparison of runs: what differs between them, their accuracy over seeds, and what each costs."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tubelet.analysis.cost import Cost, count
from tubelet.evaluation.checkpoint import build_module

OF_ONE_RUN = ("seed=", "run_dir=", "hydra.", "ckpt=")  # overrides that make no other experiment


@dataclass(frozen=True)
class Run:
    """The record of one training run; `config` is empty where the run failed before it was written."""

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]

    @property
    def finished(self) -> bool:
        return self.record["status"] == "finished"

    @property
    def experiment(self) -> tuple[str, tuple[str, ...]]:
        """The same for runs that differ in their seed only: name, and the overrides that count."""
        kept = (part for part in self.record.get("overrides", ()) if not part.lstrip("+").startswith(OF_ONE_RUN))
        return str(self.record.get("name")), tuple(sorted(kept))

    @property
    def val_top1(self) -> float | None:
        return self.record.get("best", {}).get("val/top1", self.record.get("last_val", {}).get("val/top1"))


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed only. Accuracies are means over those that finished; None where there is none.

    top1_spread: the standard deviation between seeds (of a sample), None for a single one
    macs: of one clip, as published
    """

    name: str
    top1: float | None
    top1_spread: float | None
    seeds: int
    val_top1: float | None
    parameters: int | None
    macs: int | None
    clips_per_second: float | None
    peak_memory_mib: float | None
    not_finished: str


def read_runs(folder: Path) -> list[Run]:
    """Every training run below `folder`, by path. Raises ValueError where there is none."""
    runs = []
    for path in sorted(folder.rglob("metrics.json"), key=_in_order):
        record, config = json.loads(path.read_text()), path.with_name("config.yaml")
        if "resumed_from" in record:  # evaluations leave a metrics.json too
            plain = yaml.safe_load(config.read_text()) if config.exists() else {}
            runs.append(Run(path.parent, record, plain))
    if not runs:
        raise ValueError(f"{folder}: there is no metrics.json of a training run in it or below")
    return runs


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Job 10 of a sweep after job 9."""
    return [(int(part) if part.isdigit() else -1, part) for part in path.parts]


def compare(runs: Sequence[Run]) -> list[Row]:
    """A row for each experiment, in the order of the folders."""
    groups: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    shared = set.intersection(*(set(overrides) for _, overrides in groups))
    costs: dict[str, Cost | None] = {}
    rows = []
    for (name, overrides), group in groups.items():
        differing = [part for part in group[0].record.get("overrides", ()) if part in set(overrides) - shared]
        differing.sort(key=lambda part: not part.startswith("model="))  # the model first, the rest as typed
        rows.append(_row(" ".join(differing) or name, group, costs))
    return rows


def _row(name: str, runs: Sequence[Run], costs: dict[str, Cost | None]) -> Row:
    finished = [run for run in runs if run.finished]
    tests = [run.record["test"]["top1"] for run in finished]
    cost = next((cost_of(run, costs) for run in runs if run.config), None)
    recorded = (run.record["parameters"] for run in runs if "parameters" in run.record)
    statuses = [run.record["status"] for run in runs if not run.finished]
    return Row(
        name=name,
        top1=_mean(tests),
        top1_spread=statistics.stdev(tests) if len(tests) > 1 else None,
        seeds=len(finished),
        val_top1=_mean([run.val_top1 for run in finished]),
        parameters=next(recorded, cost.parameters if cost else None),
        macs=cost.macs() if cost else None,
        clips_per_second=_mean([run.record.get("clips_per_second") for run in finished]),
        peak_memory_mib=_mean([run.record.get("peak_memory_mib") for run in finished]),
        not_finished=", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)),
    )


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
