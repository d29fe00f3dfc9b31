"""Attention to pooled tokens: MViT (Fan et al., ICCV 2021) and MViTv2 (Li et al., CVPR 2022).

Letters: B clips, t h w tokens along each axis, N = t * h * w, D width, C any width, d = D / heads. Primes mark what a
stride has changed: N' queries, N'' keys and values. A sequence is the class token, if there is one, and then the
places, time slowest; shapes are written with it.
"""

from collections.abc import Callable
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.layers.block import NORM_EPS
from tubelet.layers.embed import Size3
from tubelet.layers.grids import Grids
from tubelet.layers.relative import RelativeAttention

Pool = Callable[[int, Size3], nn.Module]  # (channels, stride) -> a module (S, C, t, h, w) -> (S, C, t', h', w')


class Depthwise(nn.Conv3d):
    """Learned pooling, as in published models: windows of 3, each channel for itself, the same for all heads."""

    def __init__(self, dim: int, stride: Size3):
        super().__init__(dim, dim, 3, stride, padding=1, groups=dim, bias=False)


class Largest(nn.MaxPool3d):
    """The largest value of each window of 3, each channel for itself."""

    def __init__(self, dim: int, stride: Size3):
        super().__init__(3, stride, padding=1)


class Average(nn.Module):
    """The mean of each window of 3, each channel for itself. Beyond the edge zeros are counted, as in SlowFast."""

    def __init__(self, dim: int, stride: Size3):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(S, C, t, h, w) -> (S, C, t', h', w')."""
        # Padded here, because avg_pool3d refuses a grid of less than 3, also one that its own padding makes larger.
        return F.avg_pool3d(F.pad(x, (1,) * 6), 3, self.stride)


def with_norm(pool: nn.Module, dim: int) -> tuple[nn.Module, nn.Module]:
    """(the pooling, the norm after it): what is learned is normed, and the rest is not, as in SlowFast."""
    learned = any(True for _ in pool.parameters())
    return pool, nn.LayerNorm(dim, eps=NORM_EPS) if learned else nn.Identity()


def skip_pool(stride: Size3) -> nn.Module:
    """Max pooling over windows of stride + 1, as in SlowFast; of an odd stride, where that would give another grid."""
    window = tuple(step // 2 * 2 + 1 for step in stride)
    padding = tuple(size // 2 for size in window)
    return nn.MaxPool3d(window, stride, padding) if max(stride) > 1 else nn.Identity()


def pool_tokens(x: Tensor, grid: Size3, pool: nn.Module) -> Tensor:
    """(..., N, C) or (..., 1 + N, C), grid (t, h, w) -> (..., N', C) or (..., 1 + N', C). A class token stays."""
    if isinstance(pool, nn.Identity):
        return x
    class_token, places = x.split([x.shape[-2] - prod(grid), prod(grid)], dim=-2)
    places = places.transpose(-2, -1).flatten(0, -3)  # (S, C, N)
    places = pool(places.unflatten(2, grid)).flatten(2).transpose(1, 2)  # (S, N', C)
    return torch.cat([class_token, places.unflatten(0, x.shape[:-2])], dim=-2)


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are each pooled, the same for all heads: section 3.1 of Fan et al.

    A class token is normed with the rest, but not pooled. Where the stride of the queries is 1, they are neither.

    grids: where the tokens lie, and the strides
    pool: Depthwise, Largest or Average
    """

    pools_every_query = False

    def __init__(self, dim: int, dim_out: int, heads: int, grids: Grids, class_token: bool, pool: Pool = Depthwise):
        super().__init__()
        if heads < 1 or dim_out % heads:
            raise ValueError(f"model: dim={dim_out} is not a multiple of heads={heads}")
        d = dim_out // heads
        self.heads, self.grid = heads, grids.tokens
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)
        is_pooled = self.pools_every_query or max(grids.q_stride) > 1
        self.pool_q, self.norm_q = with_norm(pool(d, grids.q_stride) if is_pooled else nn.Identity(), d)
        self.pool_k, self.norm_k = with_norm(pool(d, grids.kv_stride), d)
        self.pool_v, self.norm_v = with_norm(pool(d, grids.kv_stride), d)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', D')."""
        out = self.attend(*self.pooled(x))  # (B, heads, 1 + N', d)
        return self.proj(out.transpose(1, 2).flatten(2))

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1 + N, D) -> q (B, heads, 1 + N', d), k and v (B, heads, 1 + N'', d)."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, 1 + N, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, 1 + N, d)
        return self.pool_each(q, k, v)

    def pool_each(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, heads, 1 + N, d) three times -> (B, heads, 1 + N', d), (B, heads, 1 + N'', d) twice."""
        q = self.norm_q(pool_tokens(q, self.grid, self.pool_q))
        k = self.norm_k(pool_tokens(k, self.grid, self.pool_k))
        return q, k, self.norm_v(pool_tokens(v, self.grid, self.pool_v))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, 1 + N', d), (B, heads, 1 + N'', d) twice -> (B, heads, 1 + N', d)."""
        return F.scaled_dot_product_attention(q, k, v)


class RelativePoolingAttention(PoolingAttention):
    """Relative positions, and the pooled query is added to what it finds: section 4.1 of Li et al., MViTv2.

    Queries are pooled, with stride 1, in every block. The query of a class token is not added.
    """

    pools_every_query = True

    def __init__(self, dim: int, dim_out: int, heads: int, grids: Grids, class_token: bool, pool: Pool = Depthwise):
        super().__init__(dim, dim_out, heads, grids, class_token, pool)
        d = dim_out // heads
        self.class_token = int(class_token)
        self.rel_pos_t, self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, d), std=0.02)) for rows in grids.rows
        )
        self.relative = RelativeAttention(grids.q, grids.kv, d, class_token)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, 1 + N', d), (B, heads, 1 + N'', d) twice -> (B, heads, 1 + N', d)."""
        out = self.relative(q, k, v, (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w))
        of_class, places = out[:, :, : self.class_token], out[:, :, self.class_token :]
        return torch.cat([of_class, places + q[:, :, self.class_token :]], dim=2)


class PoolFirstAttention(PoolingAttention):
    """Pools the input, and projects what is left of it to queries, keys and values; keeps the width.

    POOL_FIRST in SlowFast; no published Kinetics model has it. The input is cut into heads to be pooled.
    """

    def __init__(self, dim: int, dim_out: int, heads: int, grids: Grids, class_token: bool, pool: Pool = Depthwise):
        if dim != dim_out:
            raise ValueError(
                f"model: PoolFirstAttention keeps the width, and was given {dim} and {dim_out}; set widen_in_mlp=True"
            )
        super().__init__(dim, dim_out, heads, grids, class_token, pool)

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1 + N, D) -> q (B, heads, 1 + N', d), k and v (B, heads, 1 + N'', d)."""
        of_heads = x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, 1 + N, d)
        pooled = (each.transpose(1, 2).flatten(2) for each in self.pool_each(of_heads, of_heads, of_heads))
        matrices = zip(pooled, self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
        q, k, v = (F.linear(*each).unflatten(2, (self.heads, -1)).transpose(1, 2) for each in matrices)
        return q, k, v
