"""Decoding, and nothing else: libav, as built into PyAV, with one thread. No frame is converted, kept or looked at.

`every_frame`: what FFmpeg itself does, from the key frame before a clip to its last frame; a file without times from
its beginning. `frames_needed`: as our reader decodes, which leaves out what the frames wanted do not depend on; where
that reader reads linearly, the same as `every_frame`. What the files hold is known beforehand.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import av
import numpy as np
import torch
from torch import Tensor

from pipelines.task import Batch, Task
from tubelet.video.header import Header
from tubelet.video.order import Draw
from tubelet.video.pyav import Frame, LinearReader, read_header
from tubelet.video.seeking import KeyFrameReader

Decode = Callable[[str, Header, list[int]], None]
NOTHING = np.empty((0, 0, 3), np.uint8)


class Unconverted(KeyFrameReader):
    def to_rgb(self, frame: Frame) -> np.ndarray:
        return NOTHING


def every_frame(path: str, header: Header, numbers: list[int]) -> None:
    key = header.key_frames[bisect_right(header.key_frames, numbers[0]) - 1] if header.key_frames else 0
    left = numbers[-1] - key + 1
    with av.open(path) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count, stream.thread_type = 1, "NONE"
        if key:
            container.seek(header.times[key], stream=stream)
        for _ in container.decode(stream):
            left -= 1
            if not left:
                break


def frames_needed(path: str, header: Header, numbers: list[int]) -> None:
    if header.seekable:
        Unconverted(path, header).read(numbers)
    else:
        every_frame(path, header, numbers)


def batches(task: Task, decode: Decode) -> dict[str, Batch]:
    headers = {path: read_header(path) for path, _ in task.files}
    lengths = {}
    for path, _ in task.files:
        with LinearReader(path) as linear:
            lengths[path] = linear.num_frames, linear.fps

    def nothing(draws: Sequence[Draw]) -> Tensor:
        for draw in draws:
            path = task.path(draw)
            decode(path, headers[path], task.frames(draw, *lengths[path]))
        return torch.empty(len(draws), 0)

    return {"uint8": nothing}
