"""What every reader of video files offers, and the one error that they raise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:  # the launcher names DecodeError, and must not wait for torch
    from torch import Tensor


class DecodeError(Exception):
    """A file that gives no frames. `stage` is open or decode; the message is one line and holds the path.

    A DataLoader makes the error of a worker process anew from one text, the traceback printed there; then path, stage
    and reason are read from that.
    """

    def __init__(self, path: str, stage: str | None = None, reason: str = ""):
        if stage is None:
            found = re.search(r"DecodeError: (.+?): cannot (open|decode): (.+)\s*\Z", path)
            path, stage, reason = found.groups() if found else ("a video", "decode", path)
        self.path, self.stage = path, stage
        self.reason = " ".join(str(reason).split()) or "no reason given by the decoder"
        super().__init__(path, stage, self.reason)  # the three arguments make the exception picklable

    def __str__(self) -> str:
        return f"{self.path}: cannot {self.stage}: {self.reason}"


class Reader(Protocol):
    """One open file: used by one thread, never pickled, closed at once (a context manager). Readers inherit this.

    Frames are numbered from 0 in the order in which they are shown; `num_frames` agrees with reading to the end.
    """

    name: str
    num_frames: int
    fps: float  # average frames a second, 0 where the file does not say

    @property
    def size(self) -> tuple[int, int]:
        """Height, width in pixels, of the first frame: only that tells of the rotation that a file asks for."""
        _, _, height, width = self.read([0]).shape
        return height, width

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers in any order, repeats allowed -> uint8 RGB (T, C, H, W). Raises DecodeError."""
        ...

    def close(self) -> None:
        """Lets go of what stays open between reads; of nothing, where that is nothing."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_indices(path: str, indices: Sequence[int], num_frames: int) -> None:
    """Raises IndexError for frame numbers that the file does not have; negative ones do not count from the end."""
    if min(indices) < 0 or max(indices) >= num_frames:
        raise IndexError(f"frames {min(indices)}..{max(indices)} asked of {path}, which has {num_frames}")
