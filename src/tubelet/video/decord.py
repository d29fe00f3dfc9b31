"""The only file that imports decord: random access for files in which it is proven exact (see open.py)."""

import re
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from tubelet.video.reader import DecodeError, Reader, check_indices
from tubelet.video.scaling import scale


def has_decord() -> bool:
    """Whether it can be imported: it has no wheels for some systems."""
    return find_spec("decord") is not None


def decord_version() -> str | None:
    """Of whichever package it was installed from; None where there is none."""
    for name in ("decord", "decord2", "eva-decord"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return None


class SeekingReader(Reader):
    """decord with one thread. It decodes ahead while idle, so close it as soon as the frames are read."""

    name = "decord"

    def __init__(self, path: str, fps: float, short_side: int | None = None):
        import decord  # imported late: a machine that only reads through PyAV need not have it

        decord.logging.set_level(decord.logging.QUIET)
        self._path, self._short_side = path, short_side
        try:
            self._video = decord.VideoReader(path, num_threads=1)
            self.num_frames = len(self._video)
        except Exception as error:  # decord raises RuntimeError or its own DECORDError, which has no common base
            raise DecodeError(path, "open", _reason(error)) from error
        self.fps = fps

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers -> uint8 RGB (T, C, H, W)."""
        check_indices(self._path, indices, self.num_frames)
        wanted, places = np.unique(np.asarray(indices), return_inverse=True)  # sorted: one pass through the file
        try:
            frames = self._video.get_batch(wanted).asnumpy()  # (T, H, W, C)
        except Exception as error:
            raise DecodeError(self._path, "decode", _reason(error)) from error
        return scale(torch.from_numpy(frames[places]).permute(0, 3, 1, 2), self._short_side)

    def close(self) -> None:
        self._video = None


def _reason(error: Exception) -> str:
    """The first line, without decord's time stamps and the places in its own source."""
    return re.sub(r"\[[\d:]+\] \S+:\d+: ", "", str(error)).strip().split("\n")[0]
