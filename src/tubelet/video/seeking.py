"""Random access through PyAV, for files in which it is proven exact (see open.py)."""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from torch import Tensor

from tubelet.video.header import Header
from tubelet.video.pyav import LinearReader, PyavReader, frames_from, open_stream
from tubelet.video.reader import DecodeError, check_indices

JUMP = 8  # frames: over fewer it is cheaper to decode than to seek


class KeyFrameReader(PyavReader):
    """Seeks to the key frame before the frames wanted and decodes from there; each frame is known by its time.

    In H.264, frames that are not wanted and from which none is predicted are not decoded: the others are the same.

    Where a seek does not lead to the frames, or a picture is damaged, the file is read linearly: what conceals damage
    depends on the frames that were decoded before. From then on its name is that of the linear reader.
    """

    name = "pyav_seek"

    def __init__(self, path: str, header: Header, short_side: int | None = None):
        super().__init__(path, short_side)
        self.num_frames, self.fps = len(header.times), header.fps
        self._times, self._keys = header.times, header.key_frames
        self._numbers = {time: number for number, time in enumerate(header.times)}

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers -> uint8 RGB (T, C, H, W)."""
        check_indices(self.path, indices, self.num_frames)
        wanted = sorted({int(i) for i in indices})
        images = self._images(wanted)
        if len(images) < len(wanted):
            self.name = LinearReader.name  # by which runs count what read their videos
            with LinearReader(self.path, None, self.short_side) as linear:
                return linear.read(indices)
        return self.stack(images, indices)

    def _images(self, wanted: list[int]) -> dict[int, np.ndarray]:
        """Frame numbers, sorted -> the pictures found, by number."""
        images: dict[int, np.ndarray] = {}
        with suppress(DecodeError), open_stream(self.path, strict=True) as opened:
            for key, run in self._runs(wanted):
                times = {self._times[number] for number in run}
                for frame in frames_from(opened, self._times[key] if key else None, times):
                    number = -1 if frame.pts is None else self._numbers.get(frame.pts, -1)
                    if number in run:
                        images[number] = self.to_rgb(frame)
                    if number >= run[-1]:
                        break
        return images

    def _runs(self, wanted: list[int]) -> list[tuple[int, list[int]]]:
        """Frame numbers, sorted -> those that are decoded in one go, each with the key frame to begin at."""
        runs: list[tuple[int, list[int]]] = []
        for number in wanted:
            key = self._keys[bisect_right(self._keys, number) - 1]
            if not runs or key - runs[-1][1][-1] > JUMP:
                runs.append((key, []))
            runs[-1][1].append(number)
        return runs
