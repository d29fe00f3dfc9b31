"""What pytorchvideo's tutorial on Kinetics describes, written here from that description.

The clip is a span of time: PyAV seeks to before it, decodes every frame up to its end, and all frames of the span
become one float tensor. Then UniformTemporalSubsample, division by 255, Normalize, and in float32 on the CPU what is
asked for: the tutorial's short side and crop, or RandomResizedCrop; RandomHorizontalFlip. It has no uint8 batch. Its
RandAugment has other operations than ours, so that there it is left out.
"""

from collections.abc import Sequence

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.task import CROP, MEAN, RESIZE, STD, Batch, Task, area, square
from tubelet.video.order import Draw

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


def resize(video: Tensor, height: int, width: int) -> Tensor:
    return torch.nn.functional.interpolate(video, (height, width), mode="bilinear", align_corners=False)


def augment(video: Tensor, num_frames: int, name: str) -> Tensor:
    """float (C, T, H, W), from 0 to 255 -> (C, num_frames, 224, 224)."""
    kept = torch.linspace(0, video.shape[1] - 1, num_frames).long()
    video = video.index_select(1, kept) / 255.0
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (MEAN, STD))
    video = (video - mean) / std
    if name == "crop_flip":
        scale = RESIZE / min(video.shape[2:])
        video = resize(video, *(round(side * scale) for side in video.shape[2:]))
    video = F.crop(video, *(square if name == "crop_flip" else area)(*video.shape[2:]))
    if name != "crop_flip":
        video = resize(video, CROP, CROP)
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
        return augment(video, len(numbers), task.augment)

    def in_floats(draws: Sequence[Draw]) -> Tensor:
        return torch.stack([clip(draw) for draw in draws]).to(task.device)

    return {} if task.augment == "randaugment" else {"float": in_floats}
