"""Weights of one size made into weights of another: a patch kernel given frames, tables of positions given places.

Letters: D width, C channels, p q pixels of a patch, t times, h w places. A table is (1, t * h * w, D), time slowest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelet.layers.embed import Size3


def central_frame(kernel: Tensor, frames: int) -> Tensor:
    """(D, C, p, q) -> (D, C, frames, p, q): the kernel at index frames // 2, zeros elsewhere; ViViT, equation 9."""
    inflated = kernel.new_zeros(*kernel.shape[:2], frames, *kernel.shape[2:])
    inflated[:, :, frames // 2] = kernel
    return inflated


def average(kernel: Tensor, frames: int) -> Tensor:
    """(D, C, p, q) -> (D, C, frames, p, q): every frame has the kernel over `frames`; ViViT, equation 8."""
    return (kernel / frames).unsqueeze(2).repeat(1, 1, frames, 1, 1)


def resize_space(table: Tensor, old: tuple[int, int], new: tuple[int, int], nearest: bool = False) -> Tensor:
    """(n, h * w, D) -> (n, h' * w', D). Bicubic with antialiasing, as timm does it; nearest, as TimeSformer does."""
    images = table.unflatten(1, old).permute(0, 3, 1, 2)  # (n, D, h, w)
    if nearest:
        images = F.interpolate(images, new, mode="nearest")
    else:
        images = F.interpolate(images, new, mode="bicubic", align_corners=False, antialias=True)
    return images.flatten(2).transpose(1, 2)


def resize_time(table: Tensor, t: int, nearest: bool = False) -> Tensor:
    """(n, t, D) -> (n, t', D). Linear between the middles of the frames, or nearest, as TimeSformer does."""
    rows = table.transpose(1, 2)  # (n, D, t)
    rows = F.interpolate(rows, t, mode="nearest") if nearest else F.interpolate(rows, t, mode="linear")
    return rows.transpose(1, 2)


def resize_rows(table: Tensor, rows: int) -> Tensor:
    """(n, d) -> (n', d): a table of relative positions, linearly, as SlowFast does it."""
    return resize_time(table[None], rows)[0]


def resize_space_time(table: Tensor, old: Size3, new: Size3) -> Tensor:
    """(1, t * h * w, D) -> (1, t' * h' * w', D): bicubic in space, then linear in time."""
    t, *places = old
    frames = table.unflatten(1, (t, -1))[0]  # (t, h * w, D)
    if tuple(places) != tuple(new[1:]):
        frames = resize_space(frames, (places[0], places[1]), (new[1], new[2]))
    if t != new[0]:
        frames = resize_time(frames.transpose(0, 1), new[0]).transpose(0, 1)  # (t', h' * w', D)
    return frames.flatten(0, 1)[None]


def tile_space(space: Tensor, times: Tensor | None, t: int) -> Tensor:
    """(1, s, D), (1, t, D) or nothing -> (1, t * s, D): the places repeated for each time, plus the row of the time."""
    grid = space[:, None].repeat(1, t, 1, 1)  # (1, t, s, D)
    return (grid if times is None else grid + times[:, :, None]).flatten(1, 2)


def sinusoids(rows: int, dim: int) -> Tensor:
    """-> (1, rows, D): VideoMAE's fixed positions over the flattened index, sines on even, cosines on odd channels."""
    channel = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(rows, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]
