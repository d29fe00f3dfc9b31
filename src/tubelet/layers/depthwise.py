"""Depthwise convolution in three dimensions, with a backward of its own on a CPU.

Letters: B clips, C channels, t h w places along each axis; primes mark what a stride has changed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelet.layers.embed import Size3


def depthwise(x: Tensor, weight: Tensor, stride: Size3) -> Tensor:
    """(B, C, t, h, w), (C, 1, 3, 3, 3) -> (B, C, t', h', w'): windows of 3, beyond the edge zeros."""
    # Only a CPU's own backward is known to be slow: see OwnBackward. Elsewhere nobody has measured.
    if x.device.type == "cpu":
        return OwnBackward.apply(x, weight, stride)
    return F.conv3d(x, weight, None, stride, padding=1, groups=len(weight))


class OwnBackward(torch.autograd.Function):
    """The same convolution, whose gradients are convolutions that oneDNN has fast kernels for.

    Torch's own backward of a depthwise conv3d took 15 to 40 times the forward, 25 % of a training step of MViTv2-S. On
    96 channels of 8 x 56 x 56 places, channels last: 29 ms for the input and 45 ms for the weights; here 3 and 8.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Size3) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv3d(x, weight, None, stride, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)  # under autocast, grad is of its type
        of_x = input_gradient(grad, weight, ctx.stride, x.shape) if ctx.needs_input_grad[0] else None
        of_weight = weight_gradient(grad, x, weight, ctx.stride) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


def input_gradient(grad: Tensor, weight: Tensor, stride: Size3, size: torch.Size) -> Tensor:
    """(B, C, t', h', w'), (C, 1, 3, 3, 3) -> `size`, (B, C, t, h, w): the convolution with the kernel turned round.

    A stride has left places out; they get zeros.
    """
    b, c, *grid = size
    spread = grad.permute(0, 2, 3, 4, 1)  # (B, t', h', w', C)
    if max(stride) > 1:
        t, h, w = stride
        spread = grad.new_zeros(b, *grid, c)
        spread[:, ::t, ::h, ::w] = grad.permute(0, 2, 3, 4, 1)
    # The stride of a single clip says nothing about its layout, but torch goes by it, and may take the layout for
    # channels first: two copies and a kernel ten times slower. Reshaping sets it right.
    spread = spread.reshape(-1, c).view(b, *grid, c)
    return F.conv3d(spread.permute(0, 4, 1, 2, 3), weight.flip(2, 3, 4), None, padding=1, groups=len(weight))


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Size3) -> Tensor:
    """(B, C, t', h', w'), (B, C, t, h, w), (C, 1, 3, 3, 3) -> the last: a convolution of frames for each of 3 times."""
    grad, x = grad.transpose(1, 2), x.transpose(1, 2)  # (B, t', C, h', w') and (B, t, C, h, w)
    (step, *in_space), length, last = stride, x.shape[1], grad.shape[1] - 1
    taps = []
    for tap in (-1, 0, 1):
        # Windows from `first` to `end`, not included, have a frame of the clip at this tap.
        first, end = -(min(tap, 0) // step), min(last, (length - 1 - tap) // step) + 1
        frames = x[:, first * step + tap : (end - 1) * step + tap + 1 : step].flatten(0, 1)
        needed = (grad[:, first:end].flatten(0, 1), frames, weight[:, :, tap + 1])
        kind = (None, in_space, [1, 1], [1, 1], False, [0, 0], len(weight), [False, True, False])
        taps.append(torch.ops.aten.convolution_backward(*needed, *kind)[1])
    return torch.stack(taps, dim=2)
