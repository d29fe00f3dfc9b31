"""The videos of a run that could not be read: each is named once a split, and training bears only so many of them."""

import json
import os
from collections.abc import Iterable
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import NamedTuple

from tubelet.training.ranks import is_first_rank
from tubelet.video.failures import error_of


class Failure(NamedTuple):
    """A line of the file. epoch: of the first read of the path for this split that failed; epochs count from 0."""

    path: str
    stage: str
    reason: str
    epoch: int
    split: str


def failure_of(failure: str, epoch: int, split: str) -> Failure:
    """failure: the text of a DecodeError"""
    error = error_of(failure)
    return Failure(error.path, error.stage, error.reason, epoch, split)


class TooManyFailures(ValueError):
    pass


class Quarantine:
    """The file of a run, begun anew when the run begins; there is none as long as nothing has failed.

    A path has a line for each split in which it failed: the figures of each are worth less for it, and a training video
    counts against the budget whether or not validation met it first.

    num_videos: that are trained on, a path that is listed twice counted once
    max_failed: the share of them that may fail, between 0 and 1; rounded up to whole videos, so that of a small data
        set one may fail, and none with 0
    """

    def __init__(self, run_dir: str, num_videos: int, max_failed: float):
        if not 0 <= max_failed <= 1:
            raise ValueError(f"data.max_failed={max_failed} is not a share from 0 to 1")
        self.file, self.num_videos, self.max_failed = Path(run_dir, "quarantine.jsonl"), num_videos, max_failed
        self.allowed = ceil(Fraction(str(max_failed)) * num_videos)
        self.entries: dict[tuple[str, str], Failure] = {}  # by path and split
        if is_first_rank():
            self.file.unlink(missing_ok=True)

    def add(self, found: Iterable[Failure]) -> None:
        """Every rank adds what all ranks found, and the first one writes it. Raises TooManyFailures."""
        new: dict[tuple[str, str], Failure] = {}
        for one in found:
            if (one.path, one.split) not in self.entries:
                new.setdefault((one.path, one.split), one)
        self.entries |= new
        if new and is_first_rank():
            self._append("".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in new.values()))
        self._check()

    def _append(self, lines: str) -> None:
        """In one write, so that a run that is killed leaves no half of a line."""
        opened = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(opened, lines.encode("utf-8", "surrogateescape"))  # a path may be of any bytes
        finally:
            os.close(opened)

    def _check(self) -> None:
        failed = [one for one in self.entries.values() if one.split == "train"]
        if len(failed) > self.allowed:
            last = failed[-1]
            raise TooManyFailures(
                f"{len(failed)} of {self.num_videos} training videos could not be read, and data.max_failed="
                f"{self.max_failed} allows {self.allowed}; the last: {last.path}: cannot {last.stage}: {last.reason}. "
                f"All are in {os.path.relpath(self.file)}; a larger data.max_failed goes on without them"
            )

    def told(self) -> str | None:
        """Where the failures are named; None where there are none."""
        return os.path.relpath(self.file) if self.entries else None
