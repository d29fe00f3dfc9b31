"""Random access through PyAV, for files in which it is proven exact (see open.py)."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress

import numpy as np
from torch import Tensor

from tubelet.video.header import Header
from tubelet.video.pyav import Frame, LinearReader, Opened, PyavReader, open_stream
from tubelet.video.reader import DecodeError, check_indices

JUMP = 8  # frames: over fewer it is cheaper to decode than to seek


class KeyFrameReader(PyavReader):
    """Seeks to the key frame before the frames wanted and decodes from there; each frame is known by its time.

    Frames that are not wanted, and from which none that is wanted is predicted, are not decoded where that is known:
    in H.264 those from which none is, and, where each key frame starts afresh, those after the last one wanted of a
    group. The others are the same.

    Where a seek does not lead to the frames, or a picture is damaged, the file is read linearly: what conceals damage
    depends on the frames that were decoded before. From then on its name is that of the linear reader.
    """

    name = "pyav_seek"

    def __init__(self, path: str, header: Header, short_side: int | None = None):
        super().__init__(path, short_side)
        self.num_frames, self.fps = len(header.times), header.fps
        self._times, self._keys = header.times, header.key_frames
        self._afresh = header.seekable and header.codec != "hevc"  # there, what is shown before a key frame follows it
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
                groups = self._groups(run) if self._afresh else None
                for frame in frames_from(opened, self._times[key] if key else None, times, groups):
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

    def _groups(self, run: list[int]) -> dict[int, set[int]]:
        """Frame numbers, sorted -> times of the frames wanted, by the time of the key frame before them."""
        groups: dict[int, set[int]] = {}
        for number in run:
            key = self._keys[bisect_right(self._keys, number) - 1]
            groups.setdefault(self._times[key], set()).add(self._times[number])
        return groups


def frames_from(
    opened: Opened, time: int | None, wanted: Set[int], groups: Mapping[int, Set[int]] | None = None
) -> Iterator[Frame]:
    """The frames from the key frame shown at `time` on, or from one before it; None: from the beginning of a file.

    None at all where the seek does not land on a key frame. Others than those wanted may be left out: in H.264 those
    from which none is predicted, and with `groups` those after the last one wanted of each group.

    wanted: times of the frames needed
    groups: time of each key frame -> those wanted from it up to the next one; only where each key frame starts afresh
    """
    container, stream = opened
    may_skip = stream.codec_context.name == "h264"  # in H.265 a higher layer may be predicted from what is marked so
    left, left_of_group = set(wanted), set(wanted)
    if time is not None:
        container.seek(time, stream=stream)
    for place, packet in enumerate(container.demux(stream)):
        if time is not None and place == 0 and not (packet.is_keyframe and packet.pts is not None):
            return
        if groups is not None and packet.is_keyframe and packet.pts is not None:
            left_of_group = set(groups.get(packet.pts, ()))
        if not left_of_group and packet.size:
            continue
        if may_skip:
            stream.codec_context.skip_frame = "NONREF" if packet.pts not in wanted else "DEFAULT"
        yield from packet.decode()
        left.discard(packet.pts)
        left_of_group.discard(packet.pts)
        if not left and packet.size:
            yield from stream.decode(None)  # those that wait for their turn
            return
