"""Multi-head self-attention, Vaswani et al. 2017, section 3.2.

Letters: D width, d = D / heads, N tokens of one sequence; in a grid, t times and s places.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.layers.linear import Linear, linear


class MultiHead(nn.Module, ABC):
    """What every attention here has: queries, keys and values by one matrix, heads, and a projection of what is found.

    Which tokens attend to which is `find`, of the classes below. Parameters are named as in timm's ViT.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"model: dim={dim} is not a multiple of heads={heads}")
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., N, D) -> (B, ..., N, D)."""
        return self.proj(self.find(x))

    @abstractmethod
    def find(self, x: Tensor) -> Tensor:
        """(B, ..., N, D) -> (B, ..., N, D): what each token finds, all heads side by side, before the projection."""

    def split(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., 3, heads, d): queries, keys and values."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1))


class Attention(MultiHead):
    """Self-attention along the last axis but one; every axis before it is a batch of sequences.

    So a sequence (B, N, D) attends jointly, and a grid (B, t, s, D) over space within each frame.
    """

    def find(self, x: Tensor) -> Tensor:
        """(B, ..., N, D) -> (B, ..., N, D)."""
        return attend(*self.split(x).unbind(-3)).flatten(-2)

    def of_first(self, x: Tensor) -> Tensor:
        """(B, ..., N, D) -> (B, ..., 1, D): what the first token finds, without asking for the others."""
        dim = x.shape[-1]
        weights, biases = (each.split([dim, 2 * dim]) for each in (self.qkv.weight, self.qkv.bias))
        q = linear(x[..., :1, :], weights[0], biases[0]).unflatten(-1, (self.heads, -1))  # (B, ..., 1, heads, d)
        kv = linear(x, weights[1], biases[1]).unflatten(-1, (2, self.heads, -1))  # (B, ..., N, 2, heads, d)
        return self.proj(attend(q, *kv.unbind(-3)).flatten(-2))


class TimeAttention(MultiHead):
    """Self-attention over time, at each place of a grid.

    A place and a head are one sequence among s * heads, so that nothing is moved in memory.
    """

    def find(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        matrices = zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
        d = x.shape[-1] // self.heads
        q, k, v = (linear(x, *matrix).unflatten(-1, (self.heads, d)).flatten(2, 3) for matrix in matrices)
        return attend(q, k, v).flatten(2).unflatten(2, (x.shape[2], -1))  # q (B, t, s * heads, d)


class SplitHeadAttention(MultiHead):
    """The first half of the heads attends over time at each place, the second half over space within each frame.

    Arnab et al. 2021 (ViViT), section 3.3, Model 4; the order of the halves is that of the official code.
    """

    def __init__(self, dim: int, heads: int):
        if heads % 2:
            raise ValueError(f"model: heads={heads} is odd; half of them attend over time, half over space")
        super().__init__(dim, heads)

    def find(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        of_time, of_space = self.split(x).chunk(2, dim=-2)  # each (B, t, s, 3, heads / 2, d)
        over_time = attend(*of_time.transpose(1, 2).unbind(-3)).transpose(1, 2)  # (B, t, s, heads / 2, d)
        return torch.cat([over_time, attend(*of_space.unbind(-3))], dim=-2).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
    """(..., N, heads, d), (..., N', heads, d) twice -> (..., N, heads, d), which lies in memory as the queries do.

    scale: of the scores; None is d ** -0.5
    """
    clips = q.shape[:-3]
    q, k, v = (each.flatten(0, -4).transpose(1, 2) for each in (q, k, v))  # (S, heads, N, d): one batch axis, as fused
    return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).unflatten(0, clips)  # kernels want it
