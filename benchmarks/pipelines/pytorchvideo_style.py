"""What pytorchvideo's tutorial on Kinetics describes, written here from that description.

The clip is a span of time: PyAV seeks to before it, decodes every frame up to its end, and all frames of the span
become one float tensor. Then UniformTemporalSubsample, division by 255, Normalize, RandomShortSideScale 256 to 320,
RandomCrop 224, RandomHorizontalFlip, all in float32 on the CPU. It has no uint8 batch and no choice of augmentation.
"""

from collections.abc import Sequence

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.task import CROP, MEAN, STD, Batch, Task
from tubelet.video.order import Draw

SHORT_SIDES = (256, 320)  # pixels
MARGIN = 1024  # units of the stream's time: the seek is that much before the span


def span(path: str, first: float, last: float) -> Tensor:
    """Seconds -> float (C, T, H, W) of all frames shown between them, both included."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        start = int(first / stream.time_base) + (stream.start_time or 0)
        end = int(last / stream.time_base) + (stream.start_time or 0)
        container.seek(max(start - MARGIN, 0), stream=stream)
        images = []
        for frame in container.decode(stream):
            if frame.pts > end:
                break
            if frame.pts >= start:
                images.append(frame.to_ndarray(format="rgb24", threads=1))
    return torch.from_numpy(np.stack(images)).permute(3, 0, 1, 2).to(torch.float32)


def augment(video: Tensor, num_frames: int) -> Tensor:
    """float (C, T, H, W), from 0 to 255 -> (C, num_frames, 224, 224)."""
    kept = torch.linspace(0, video.shape[1] - 1, num_frames).long()
    video = video.index_select(1, kept) / 255.0
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (MEAN, STD))
    video = (video - mean) / std
    short = int(torch.randint(SHORT_SIDES[0], SHORT_SIDES[1] + 1, ()))
    scale = short / min(video.shape[2:])
    size = [round(side * scale) for side in video.shape[2:]]
    video = torch.nn.functional.interpolate(video, size, mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(side - CROP + 1, ())) for side in size)
    video = F.crop(video, top, left, CROP, CROP)
    return video.flip(-1) if torch.rand(()) < 0.5 else video


def batches(task: Task) -> dict[str, Batch]:
    known: dict[str, tuple[int, float]] = {}  # frames and their rate: it is given the length, as its file lists give it

    def clip(draw: Draw) -> Tensor:
        path = task.path(draw)
        if path not in known:
            with av.open(path) as container:
                stream = container.streams.video[0]
                known[path] = sum(1 for _ in container.decode(stream)), float(stream.average_rate)
        num_frames, fps = known[path]
        numbers = task.frames(draw, num_frames, fps)
        video = span(path, numbers[0] / fps, numbers[-1] / fps)
        return augment(video, len(numbers))

    def in_floats(draws: Sequence[Draw]) -> Tensor:
        return torch.stack([clip(draw) for draw in draws]).to(task.device)

    return {"float": in_floats}
