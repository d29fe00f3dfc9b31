"""The pre-norm transformer block of ViT (Dosovitskiy et al., ICLR 2021), with its parts. D width."""

import torch
from torch import Tensor, nn

NORM_EPS = 1e-6  # scenic, TimeSformer, SlowFast and timm all use this, not torch's 1e-5


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)). The attention is handed in, so a new one needs no new block."""

    def __init__(self, dim: int, attn: nn.Module, act: nn.Module, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., N, D) -> (B, ..., N, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Mlp(nn.Module):
    """Two linear layers with an activation between. Papers differ in the GELU: exact, or its tanh form in ViViT."""

    def __init__(self, dim: int, hidden: int, act: nn.Module):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = act
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(self.act(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth, Huang et al. 2016: in training, zero a residual branch, and scale what stays by 1 / (1 - rate).

    One draw per sequence, that is, for every index of the axes before the last two.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(..., N, D) -> (..., N, D)."""
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(*x.shape[:-2], 1, 1, device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1.0 - self.rate)


def drop_path_rates(last: float, depth: int) -> list[float]:
    """The rate of each block: 0 in the first, growing linearly to `last`, which is in [0, 1)."""
    if not 0.0 <= last < 1.0:
        raise ValueError(f"model: drop_path={last} is not in [0, 1)")
    return [last * i / max(depth - 1, 1) for i in range(depth)]
