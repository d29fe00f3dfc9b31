"""torchcodec as its documentation shows it: a decoder, the frames at the numbers wanted, torchvision's transforms."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchcodec.decoders import VideoDecoder
from torchvision.transforms import v2

from pipelines.ours import transforms
from pipelines.task import MEAN, STD, Batch, Task
from tubelet.video.order import Draw


def batches(task: Task) -> dict[str, Batch]:
    augment = v2.Compose(list(transforms(task.augment).values()))
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(MEAN), list(STD))])

    def clip(draw: Draw) -> Tensor:
        """uint8 (T, C, H, W)."""
        decoder = VideoDecoder(task.path(draw), num_ffmpeg_threads=1)
        about = decoder.metadata
        return augment(decoder.get_frames_at(task.frames(draw, about.num_frames, about.average_fps)).data)

    def in_bytes(draws: Sequence[Draw]) -> Tensor:
        return torch.stack([clip(draw).transpose(0, 1) for draw in draws])

    def in_floats(draws: Sequence[Draw]) -> Tensor:
        return torch.stack([normalise(clip(draw)).transpose(0, 1) for draw in draws]).to(task.device)

    return {"uint8": in_bytes, "float": in_floats}
