"""The pre-norm transformer block of ViT (Dosovitskiy et al., ICLR 2021), with its parts. D width."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tubelet.layers.linear import Linear

NORM_EPS = 1e-6  # scenic, TimeSformer, SlowFast and timm all use this, not torch's 1e-5


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)). The attention is handed in, so a new one needs no new block."""

    def __init__(self, dim: int, attn: nn.Module, act: nn.Module, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), act)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, only_first: bool = False) -> Tensor:
        """(B, ..., N, D) -> (B, ..., N, D), or with `only_first` the first token of that, (B, ..., 1, D)."""
        attn: Callable[[Tensor], Tensor] = getattr(self.attn, "of_first") if only_first else self.attn  # noqa: B009
        x = (x[..., :1, :] if only_first else x) + self.drop_path(attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class FactorisedBlock(nn.Module):
    """Attention over space and attention over time, then one MLP, each pre-norm with a skip path of its own.

    ViViT (Arnab et al. 2021), section 3.3, Model 3.

    space, time: modules (B, t, s, D) -> (B, t, s, D)
    time_first: the order of the two
    """

    def __init__(
        self,
        dim: int,
        space: nn.Module,
        time: nn.Module,
        act: nn.Module,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        time_first: bool = False,
    ):
        super().__init__()
        self.norm_space, self.attn_space = nn.LayerNorm(dim, eps=NORM_EPS), space
        self.norm_time, self.attn_time = nn.LayerNorm(dim, eps=NORM_EPS), time
        self.norm_mlp, self.mlp = nn.LayerNorm(dim, eps=NORM_EPS), Mlp(dim, round(dim * mlp_ratio), act)
        self.drop_path = DropPath(drop_path)
        self.time_first = time_first

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        x = self.over_space(self.over_time(x)) if self.time_first else self.over_time(self.over_space(x))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))

    def over_space(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        return x + self.drop_path(self.attn_space(self.norm_space(x)))

    def over_time(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        return x + self.drop_path(self.attn_time(self.norm_time(x)))


def stack(
    dim: int, attention: Sequence[nn.Module], act: nn.Module, mlp_ratio: float, rates: Sequence[float]
) -> list[Block]:
    """A block for each attention and its drop path rate."""
    return [Block(dim, attn, act, mlp_ratio, rate) for attn, rate in zip(attention, rates, strict=True)]


class Mlp(nn.Module):
    """Two linear layers with an activation between. Papers differ in the GELU: exact, or its tanh form in ViViT.

    dim_out: D'; None is D
    """

    def __init__(self, dim: int, hidden: int, act: nn.Module, dim_out: int | None = None):
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.act = act
        self.fc2 = Linear(hidden, dim_out or dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        return self.fc2(self.act(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth, Huang et al. 2016: in training, zero a residual branch, and scale what stays by 1 / (1 - rate).

    axes: one draw for every index of so many first axes; 1 drops whole clips
    """

    def __init__(self, rate: float, axes: int = 1):
        super().__init__()
        self.rate, self.axes = rate, axes

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., D) -> (B, ..., D)."""
        if not self.training or self.rate == 0.0:
            return x
        drawn = x.shape[: self.axes] + (1,) * (x.ndim - self.axes)
        keep = torch.rand(drawn, device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1.0 - self.rate)


def drop_path_rates(last: float, depth: int) -> list[float]:
    """The rate of each of `depth` blocks: 0 in the first, growing linearly to `last`, which is in [0, 1)."""
    if depth < 1:
        raise ValueError(f"model: depth={depth} is not at least 1 block")
    if not 0.0 <= last < 1.0:
        raise ValueError(f"model: drop_path={last} is not in [0, 1)")
    return [last * i / max(depth - 1, 1) for i in range(depth)]
