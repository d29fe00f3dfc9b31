"""The limit: libav, as built into PyAV, with one thread, decoding from the key frame before a clip to its last frame.

Every frame is decoded and none is converted, kept or looked at. A file without times is decoded from its beginning.
"""

from bisect import bisect_right
from collections.abc import Sequence

import av
import torch
from torch import Tensor

from pipelines.task import Batch, Task
from tubelet.video.header import Header
from tubelet.video.order import Draw
from tubelet.video.pyav import LinearReader, read_header


def decode(path: str, header: Header, numbers: list[int]) -> None:
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


def batches(task: Task) -> dict[str, Batch]:
    headers = {path: read_header(path) for path, _ in task.files}
    lengths = {}
    for path, _ in task.files:
        with LinearReader(path) as linear:
            lengths[path] = linear.num_frames, linear.fps

    def nothing(draws: Sequence[Draw]) -> Tensor:
        for draw in draws:
            path = task.path(draw)
            decode(path, headers[path], task.frames(draw, *lengths[path]))
        return torch.empty(0)

    return {"uint8": nothing}
