"""Multi-head self-attention, Vaswani et al. 2017, section 3.2.

Letters: D width, d = D / heads, N tokens of one sequence; in a grid, t times and s places.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention along the last axis but one; every axis before it is a batch of sequences.

    So a sequence (B, N, D) attends jointly, and a grid (B, t, s, D) over space within each frame. Parameters are named
    as in timm's ViT.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"model: dim={dim} is not a multiple of heads={heads}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., N, D) -> (B, ..., N, D)."""
        return self.proj(attend(self.split(x)).flatten(-2))

    def split(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., 3, heads, d): queries, keys and values."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1))


class TimeAttention(Attention):
    """The same over time, at each place of a grid."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class SplitHeadAttention(Attention):
    """The first half of the heads attends over time at each place, the second half over space within each frame.

    Arnab et al. 2021 (ViViT), section 3.3, Model 4; the order of the halves is that of the official code.
    """

    def __init__(self, dim: int, heads: int):
        if heads % 2:
            raise ValueError(f"model: heads={heads} is odd; half of them attend over time, half over space")
        super().__init__(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        of_time, of_space = self.split(x).chunk(2, dim=-2)  # each (B, t, s, 3, heads / 2, d)
        over_time = attend(of_time.transpose(1, 2)).transpose(1, 2)  # (B, t, s, heads / 2, d)
        return self.proj(torch.cat([over_time, attend(of_space)], dim=-2).flatten(-2))


def attend(qkv: Tensor) -> Tensor:
    """(..., N, 3, heads, d) -> (..., N, heads, d)."""
    sequences = qkv.flatten(0, -5)  # (S, N, 3, heads, d): fused kernels want one batch axis
    q, k, v = sequences.permute(2, 0, 3, 1, 4)  # each (S, heads, N, d)
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).unflatten(0, qkv.shape[:-4])
