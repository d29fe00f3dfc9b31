"""`ckpt=last`: where a run or a sweep that was ended goes on. Nothing heavy is imported here, as in launch.py."""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.types import RunMode

from tubelet.training.alone import Refused
from tubelet.training.json_files import read_json

log = logging.getLogger(__name__)
MULTIRUN = {"-m", "--multirun"}
LAST = "last"  # the word
WHICH_SWEEP = "ckpt=last: a sweep goes on in its folder; give hydra.sweep.dir=runs/sweep/... too"
LEFT_BY_SWEEPS = ("multirun.yaml", "search.journal", "[0-9]/metrics.json")
HOW_SWEEPS_GROW = (
    "a sweep goes on with values added at the end of its first swept key; for others give another hydra.sweep.dir, "
    "or delete that folder"
)
NEWEST, PREVIOUS = "last.ckpt", "previous.ckpt"
FREE_OF_DATA = {  # keys of `data` that may change when a run goes on
    *("root", "eval_batch_size", "num_workers", "reader", "on_error", "max_failed", "batch_size", "index"),
    *("time_limit",),
}
FREE = {
    "ckpt",
    "launcher",
    "trainer.max_time",
    *(f"data.{key}" for key in FREE_OF_DATA),
}  # and overrides of a job of a sweep
OVER = ("finished", "pruned")  # the statuses of a job that has nothing left to do


def last_checkpoint(run_dir: Path) -> Path | None:
    """The newest one to resume from. A kill while files were moved may have left only the one before it."""
    there = (run_dir / "checkpoints" / name for name in (NEWEST, PREVIOUS))
    return next((path for path in there if path.exists()), None)


def is_sweep(arguments: Sequence[str]) -> bool:
    """By what was typed: a file of conf/sweep makes one without -m."""
    chosen = [
        a for a in arguments if a.startswith("hydra.sweep.dir=") or (a.startswith("sweep=") and a != "sweep=null")
    ]
    return bool(chosen or MULTIRUN & set(arguments))


def refuse_scattered_ranks(arguments: Sequence[str]) -> None:
    """Raises ValueError where torchrun or srun starts the ranks, and each would name a folder after its own time."""
    ranks = max(int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    if ranks > 1 and is_sweep(arguments):
        raise ValueError(
            f"-m: {ranks} ranks are started from outside, for one job; start the sweep without torchrun or srun, "
            "which starts the ranks of each job itself"
        )
    if ranks > 1 and not any(argument.startswith("run_dir=") for argument in arguments):
        raise ValueError(f"run_dir has no value: {ranks} ranks are started from outside, and must write to one folder")


def refuse_folder_of_no_sweep(typed: Iterable[str]) -> None:
    """Raises ValueError where a single run was given the folder of a sweep. typed: overrides of Hydra's own keys"""
    given = next((override for override in typed if override.startswith("hydra.sweep.dir=")), None)
    if given:
        raise ValueError(f"{given} is for a sweep, but this is a single run: -m is missing; or give run_dir instead")


def into_the_same_folder(arguments: list[str], config_dir: str) -> list[str]:
    """A resumed run goes on in its own folder: `ckpt=last`, or `ckpt=<run_dir>/checkpoints/...`, sets `run_dir` too.

    `last` is the newest checkpoint of this model and data, or that of `run_dir` where it is given. Of a sweep each job
    has its own, in the folder of the sweep, which must be given.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    ckpt = given.get("ckpt", "null")
    if is_sweep(arguments):
        if ckpt == LAST:
            _check_sweep(given.get("hydra.sweep.dir"))
        return arguments
    if ckpt == "null":
        return arguments
    path = _newest(arguments, given, config_dir) if ckpt == LAST else Path(ckpt.strip("'\""))
    if not path.exists() and not path.with_name(PREVIOUS).exists():  # before a folder is made for the run
        raise FileNotFoundError(f"ckpt={path}: there is no such file")
    rest = [argument for argument in arguments if not argument.startswith("ckpt=")]
    if "run_dir" not in given and path.parent.name == "checkpoints":
        rest.append(f"run_dir='{path.parents[1]}'")
    return [*rest, f"ckpt='{path}'"]


def _check_sweep(typed: str | None) -> None:
    """Raises ValueError or FileNotFoundError where it names no sweep to go on with; one with ${...} may."""
    if typed is None:
        raise ValueError(WHICH_SWEEP)
    folder = Path(typed.strip("'\""))
    if "${" not in typed and not any(list(folder.glob(pattern)) for pattern in LEFT_BY_SWEEPS):
        raise FileNotFoundError(f"ckpt=last: there is no sweep in hydra.sweep.dir={folder}; leave ckpt out to begin it")


def _newest(arguments: list[str], given: dict[str, str], config_dir: str) -> Path:
    if "run_dir" in given:
        folder, runs = Path(given["run_dir"].strip("'\"")), ""
    else:
        options = [a for a in arguments if "=" in a and not a.startswith(("-", "ckpt=", "hydra."))]
        options += [f"hydra.searchpath=[file://{os.path.abspath(folder)}]" for folder in _config_dirs(arguments)]
        with hydra.initialize_config_dir(config_dir, version_base="1.3"):
            cfg = hydra.compose("train", options, return_hydra_config=True)
        if cfg.hydra.mode == RunMode.MULTIRUN:  # of an experiment that is a sweep
            raise ValueError(WHICH_SWEEP)
        choices = cfg.hydra.runtime.choices
        folder, runs = Path(cfg.runs, f"{choices.model}_{choices.data}"), "*"
    found = list(filter(None, map(last_checkpoint, folder.glob(runs) if runs else [folder])))
    if not found:
        raise FileNotFoundError(f"ckpt=last: there is no {folder / runs / 'checkpoints' / NEWEST}")
    return max(found, key=lambda path: path.stat().st_mtime)


def _config_dirs(arguments: list[str]) -> list[str]:
    """The user's own folder of yaml files, as given to Hydra: `--config-dir folder` or `--config-dir=folder`."""
    flag = ("--config-dir", "-cd")
    following = [value for name, value in pairwise(arguments) if name in flag]
    return following + [a.partition("=")[2] for a in arguments if a.startswith("--config-dir=")]


class Earlier(NamedTuple):
    """What an earlier start has left of a job of a sweep.

    over: finished or pruned; then `figure` is what the job gave, nan where that is no number
    checkpoint: where it goes on; None: from its beginning
    """

    over: bool
    figure: float
    checkpoint: str | None


def earlier_start(run_dir: Path, overrides: Iterable[str], ckpt: str | None) -> Earlier:
    """What the folder of a job of a sweep may be used for: to begin, to go on, or, where it is over, for nothing.

    Raises Refused where it holds a run that nobody asked to go on with, or that of a job with other overrides.
    """
    where = os.path.relpath(run_dir)
    if ckpt != LAST:
        if _holds_a_run(run_dir):
            raise Refused(f"{where} holds a run; ckpt=last goes on with the sweep, another hydra.sweep.dir begins one")
        return Earlier(False, math.nan, ckpt)
    record = _record(run_dir)
    now, then = deciding(overrides), deciding(record.get("overrides", overrides))
    if then != now:
        told = f"the job in {where} had {sorted(then - now)}, this one has {sorted(now - then)}"
        raise Refused(f"ckpt=last: {told}; {HOW_SWEEPS_GROW}")
    twin = None if record else _same_job_elsewhere(run_dir, now)
    if twin:
        raise Refused(f"ckpt=last: this job of {where} is in {os.path.relpath(twin)} already; {HOW_SWEEPS_GROW}")
    if record.get("status") in OVER:
        log.info("%s before: %s", record["status"], where)
        return Earlier(True, result_of(record), None)
    checkpoint = last_checkpoint(run_dir)
    return Earlier(False, math.nan, None if checkpoint is None else str(checkpoint))


def _same_job_elsewhere(run_dir: Path, now: set[str]) -> Path | None:
    """The folder of another number that holds this job: the values of a sweep were put in another order."""
    others = (path.parent for path in run_dir.parent.glob("*/metrics.json"))
    return next((other for other in others if deciding(_record(other).get("overrides", ())) == now), None)


def refuse_to_replace(run_dir: Path, ckpt: str | None) -> None:
    """Raises Refused where an evaluation of `ckpt` would replace a training run, or what another checkpoint gave."""
    record, elsewhere = _record(run_dir), "give another run_dir (with -m: hydra.sweep.dir) for its evaluation"
    where = os.path.relpath(run_dir)
    if "ckpt" not in record:
        if _holds_a_run(run_dir):
            raise Refused(f"{where} holds a training run; {elsewhere}")
        return
    before, now = (os.path.realpath(str(path)) for path in (record["ckpt"], ckpt))
    if record["status"] == "finished" and before != now:
        raise Refused(f"{where} holds an evaluation of {record['ckpt']}, this one is of {ckpt}; {elsewhere}")


def _holds_a_run(run_dir: Path) -> bool:
    return (run_dir / "metrics.json").exists() or (run_dir / "checkpoints").exists()


def _record(run_dir: Path) -> dict[str, Any]:
    """What a run or an evaluation has left of itself; empty where there is none."""
    path = run_dir / "metrics.json"
    try:
        return read_json(path) if path.exists() else {}
    except ValueError as error:
        raise Refused(str(error)) from error


def deciding(overrides: Iterable[str]) -> set[str]:
    """Those that make a job another one: not where and how it is started, nor how its videos are read."""
    keys = {override: override.lstrip("+~").partition("=")[0] for override in overrides}
    return {o for o, key in keys.items() if key not in FREE and not key.startswith(("hydra.", "hydra/"))}


def result_of(record: Mapping[str, Any]) -> float:
    """The figure of a job for a sweep: that of its best validation. No number where it has none: nothing is to be
    chosen by the test. Nor where it was stopped: a search leaves its trial open.
    """
    best = next(iter(record["best"].values()), None)
    return math.nan if best is None or record["status"] == "stopped" else best
