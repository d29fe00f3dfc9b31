"""Multi-head self-attention, Vaswani et al. 2017, section 3.2. D width, N tokens of one sequence, d = D / heads."""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention along the last axis but one; every axis before it is a batch of sequences.

    So a sequence (B, N, D) attends jointly, a grid (B, t, s, D) attends over space within each frame, and the same
    grid transposed to (B, s, t, D) attends over time at each place. Parameters are named as in timm's ViT.
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
        sequences = x.flatten(0, -3)  # (S, N, D): fused kernels want one batch axis
        qkv = self.qkv(sequences).unflatten(-1, (3, self.heads, -1))  # (S, N, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (S, heads, N, d)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2)).view(x.shape)
