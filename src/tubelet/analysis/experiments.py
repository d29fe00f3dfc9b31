"""Which runs are of one experiment: those whose config.yaml says the same, however they were typed."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tubelet.analysis.runs import Run
from tubelet.training.resume import FREE, KEPT

# What a resumed run must share with the one it goes on from; and how long a run trains, and how it is tested.
NODES = (*(node for node in KEPT if node != "seed"), "views", "trainer", "callbacks")
ONE_BY_ONE = ("seed", "data.split")  # of the runs of one experiment
AS_TYPED = ("data.root", "data.fraction_seed")  # these count where they were typed: see `_plain`
NOT_COUNTED = {*ONE_BY_ONE, *(f"data.{key}" for key in FREE["data"]), *AS_TYPED}
OF_TRAINER = {  # of its keys, what counts: not on which device it runs, nor what it shows
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "precision", "gradient_clip_algorithm"),
    *("val_check_interval", "check_val_every_n_epoch", "limit_train_batches", "limit_val_batches"),
    "limit_test_batches",
}
NO_RESULT = ("callbacks.last.", "callbacks.lr.", "callbacks.prune.")  # saving, logging, and an end before the result
PATHS = ("dirpath", "run_dir")  # of callbacks
LAUNCH = ("run_dir", "runs", "ckpt", "launcher", "logger", "hydra")  # where and how a run was started

Settings = dict[str, str]  # key of config.yaml, such as optim.lr -> its value as JSON


def experiments(runs: Sequence[Run]) -> list[list[Run]]:
    """In the order of their first runs. One that ended before its config was written belongs to those typed alike."""
    of_typed: dict[object, set] = {}
    for run in runs:
        if run.config:
            of_typed.setdefault(_words(run), set()).add(_identity(run))
    groups: dict[object, list[Run]] = {}
    for run in runs:
        alike = of_typed.get(_words(run), set())
        key = _identity(run) if run.config else next(iter(alike)) if len(alike) == 1 else _words(run)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def counting(run: Run) -> list[str]:
    """The overrides that make another experiment, as typed; of those of one key the last, which holds."""
    last = {split_override(part)[0]: part for part in run.record["overrides"]}
    return [part for key, part in last.items() if _counts(key)]


def split_override(part: str) -> tuple[str, str]:
    """Key and value of `key=value`, without the + of a new key; `~key`, which takes a key away, has no value."""
    key, _, value = part.lstrip("+").partition("=")
    return key, value


def _counts(key: str) -> bool:
    return key in AS_TYPED or (key not in NOT_COUNTED and key.partition(".")[0] not in LAUNCH)


def settings(run: Run) -> Settings:
    """What of its config makes the experiment. What is null is left out, as if the key were not known yet."""
    typed = dict(map(split_override, counting(run)))
    found = {key: value for node in NODES for key, value in _leaves(node, run.config.get(node)) if _decides(key)}
    found |= {key: value for key in AS_TYPED if (value := _plain(run, key, key in typed)) is not None}
    return {key: json.dumps(value, sort_keys=True) for key, value in found.items() if value is not None}


def _plain(run: Run, key: str, typed: bool) -> Any:
    """Another disk, or a folder of each job, is no other experiment, and the choice of a fraction follows the seed.

    Typed, they are meant.
    """
    value = run.config.get("data", {}).get(key.partition(".")[2])
    if typed or value is None:
        return value
    return os.path.basename(os.path.normpath(str(value))) if key == "data.root" else None


def _decides(key: str) -> bool:
    node, _, rest = key.partition(".")
    if node == "trainer":
        return rest in OF_TRAINER
    return key not in NOT_COUNTED and not key.startswith(NO_RESULT) and key.rpartition(".")[2] not in PATHS


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(f"{path}.{key}", child)
    else:
        yield path, value


def _identity(run: Run) -> tuple[str, tuple[tuple[str, str], ...]]:
    return str(run.record.get("name")), tuple(sorted(settings(run).items()))


def _words(run: Run) -> tuple[str, ...]:
    return (str(run.record.get("name")), *sorted(counting(run)))
