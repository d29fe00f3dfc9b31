"""Training runs on disk: metrics.json and config.yaml of each folder, looked at before anything is made of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TOP1 = "val/top1"
FIGURES = ("test.top1", "last_val.val/top1", "parameters", "clips_per_second", "peak_memory_mib")


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
    def seed(self) -> str:
        """Of the config, or, where it tells none, as it was typed."""
        return str(self.config.get("seed", self._typed("seed") or 0))

    @property
    def split(self) -> str | None:
        """The official split of the data, where it has some; without a config, as it was typed."""
        split = self.config["data"].get("split") if "data" in self.config else self._typed("data.split")
        return None if split is None else str(split)

    def _typed(self, key: str) -> str | None:
        typed = [part.partition("=")[2] for part in self.record["overrides"] if part.startswith(f"{key}=")]
        return typed[-1] if typed else None

    @property
    def monitor(self) -> str:
        """The figure of the validation by which its best checkpoint was chosen."""
        best = self.record.get("best")
        return next(iter(best), TOP1) if isinstance(best, dict) else TOP1

    @property
    def least_is_best(self) -> bool:
        best = (self.config.get("callbacks") or {}).get("best")
        return isinstance(best, dict) and best.get("mode") == "min"

    @property
    def val(self) -> float | None:
        """The best validation, by `monitor`; the last one's top-1 where none was chosen."""
        best = self.figure(f"best.{self.monitor}")
        return self.figure("last_val.val/top1") if best is None and self.monitor == TOP1 else best

    def figure(self, name: str) -> float | None:
        """Such as test.top1, where the run has it."""
        value: Any = self.record
        for key in name.split("."):
            value = value.get(key, {}) if isinstance(value, dict) else {}
        return None if value == {} else value


def read_runs(folder: Path) -> tuple[list[Run], dict[Path, str]]:
    """Every training run below `folder`, by path, and the records that cannot be read, each with what is wrong.

    Raises ValueError where there is no run.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file; give the folder of a sweep, or any with runs below it")
    if not folder.exists():
        raise ValueError(f"{folder}: there is no such folder")
    runs, unreadable = [], {}
    for path in sorted(folder.rglob("metrics.json"), key=_in_order):
        try:
            run = read_run(path)
        except (ValueError, OSError, yaml.YAMLError) as error:
            unreadable[path] = " ".join(str(error).split())
        else:
            runs += [run] if run else []
    if not runs:
        wrong = "".join(f"; {path}: {why}" for path, why in unreadable.items())
        raise ValueError(f"{folder}: there is no metrics.json of a training run in it or below{wrong}")
    return runs, unreadable


def read_run(path: Path) -> Run | None:
    """None for an evaluation, which leaves a metrics.json too. Raises ValueError for what is no record of a run."""
    record, config = json.loads(path.read_text()), path.with_name("config.yaml")
    if isinstance(record, dict) and "ckpt" in record:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("status"), str):
        raise ValueError("is not the record of a run: it has no status")
    overrides = record.get("overrides")
    if not isinstance(overrides, list) or not all(isinstance(part, str) for part in overrides):
        raise ValueError(f"overrides={json.dumps(overrides)} is not a list of overrides")
    plain = yaml.safe_load(config.read_text()) if config.exists() else {}
    if config.exists() and not _has_model(plain):
        raise ValueError("config.yaml beside it has no model and clip")
    run = Run(path.parent, record, plain)
    for name in (*FIGURES, f"best.{run.monitor}"):
        value = run.figure(name)
        if not (value is None or type(value) in (int, float)):
            raise ValueError(f"{name}={json.dumps(value)} is not a number")
    if run.finished and run.figure("test.top1") is None:
        raise ValueError("is of a finished run, and has no test.top1")
    return run


def is_of_search(run: Run) -> bool:
    return (run.folder.parent / "search.journal").exists()


def tests_validation(run: Run) -> bool:
    """Whether its test was of the validation's videos (see training/protocol.py)."""
    test = run.record.get("test")
    return isinstance(test, dict) and "(those of validation)" in str(test.get("protocol"))


def _has_model(config: Any) -> bool:
    model, clip = (config.get(key) if isinstance(config, dict) else None for key in ("model", "clip"))
    return isinstance(model, dict) and isinstance(clip, dict) and {"num_frames", "crop"} <= set(clip)


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Job 10 of a sweep after job 9."""
    return [(int(part) if part.isdigit() else -1, part) for part in path.parts]
