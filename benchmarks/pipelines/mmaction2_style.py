"""What mmaction2's documentation describes as its pipeline for Kinetics, written here from that description:

DecordInit, SampleFrames, DecordDecode, Resize (-1, 256), RandomResizedCrop, Resize (224, 224), Flip, FormatShape; then
mean and deviation in float32 on the CPU, clip by clip. decord has one thread, frames are numpy arrays (H, W, C), and
each is resized, cropped and flipped by itself. With crop_flip, a crop of 224 pixels takes the place of the second pair.
With randaugment, timm's comes first, on PIL pictures: SlowFast's code is made from it.
"""

import random
from collections.abc import Sequence

import decord
import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.task import CROP, MEAN, POLICY, RESIZE, STD, Batch, Task, area, square
from tubelet.video.order import Draw

try:
    import cv2
except ImportError:  # said in the table's heading
    cv2 = None

RESIZED_BY = "torchvision on uint8, bilinear without antialiasing (OpenCV is not installed)"
if cv2:
    cv2.setNumThreads(0)
    RESIZED_BY = f"OpenCV {cv2.__version__}, bilinear"


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, C) -> (height, width, C)."""
    if cv2:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = torch.from_numpy(image).permute(2, 0, 1)  # a view: channels stay last in memory, which is fastest
    return F.resize(picture, [height, width], antialias=False).permute(1, 2, 0).numpy()


def randomly(images: list[np.ndarray]) -> list[np.ndarray]:
    """timm's RandAugment, one frame after the other as PIL pictures, with the same draws for all."""
    change, seed, changed = rand_augment_transform(POLICY, {}), int(torch.randint(2**31, ())), []
    for image in images:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  timm draws from it
        changed.append(np.array(change(Image.fromarray(image))))
    return changed


def augment(images: list[np.ndarray], name: str) -> list[np.ndarray]:
    height, width = images[0].shape[:2]
    short = min(height, width)
    if name == "randaugment":
        images = randomly(images)
    images = [resize(image, round(height * RESIZE / short), round(width * RESIZE / short)) for image in images]
    top, left, h, w = (square if name == "crop_flip" else area)(*images[0].shape[:2])
    images = [image[top : top + h, left : left + w] for image in images]
    if name != "crop_flip":
        images = [resize(image, CROP, CROP) for image in images]
    if torch.rand(()) < 0.5:
        images = [image[:, ::-1] for image in images]
    return images


def batches(task: Task) -> dict[str, Batch]:
    mean, std = (np.array(x, np.float32).reshape(3, 1, 1, 1) * 255 for x in (MEAN, STD))

    def clip(draw: Draw) -> np.ndarray:
        """uint8 (C, T, H, W)."""
        container = decord.VideoReader(task.path(draw), num_threads=1)
        numbers = task.frames(draw, len(container), container.get_avg_fps())
        images = augment(list(container.get_batch(numbers).asnumpy()), task.augment)
        return np.ascontiguousarray(np.stack(images).transpose(3, 0, 1, 2))

    def normalised(draw: Draw) -> Tensor:
        video = clip(draw).astype(np.float32)
        video -= mean
        video /= std
        return torch.from_numpy(video)

    def in_bytes(draws: Sequence[Draw]) -> Tensor:
        return torch.stack([torch.from_numpy(clip(draw)) for draw in draws])

    def in_floats(draws: Sequence[Draw]) -> Tensor:
        return torch.stack([normalised(draw) for draw in draws]).to(task.device)

    return {"uint8": in_bytes, "float": in_floats}
