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

from tubelet.layers.attention import attend
from tubelet.layers.block import NORM_EPS
from tubelet.layers.depthwise import depthwise
from tubelet.layers.embed import Size3
from tubelet.layers.grids import Grids, near_windows
from tubelet.layers.linear import Linear, linear
from tubelet.layers.relative import RelativeAttention

Pool = Callable[[int, Size3], nn.Module]  # (d, stride) -> a module (B, heads d, t, h, w) -> (B, heads d, t', h', w')
Matrix = tuple[Tensor, Tensor]  # weight (D', D) and bias (D')


class Depthwise(nn.Conv3d):
    """Learned pooling, as in published models: windows of 3, each channel for itself, the same for all heads."""

    def __init__(self, dim: int, stride: Size3):
        super().__init__(dim, dim, 3, stride, padding=1, groups=dim, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, heads d, t, h, w) -> (B, heads d, t', h', w')."""
        return depthwise(x, self.weight.repeat(x.shape[1] // self.out_channels, 1, 1, 1, 1), self.step)


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
    """(B, N, C) or (B, 1 + N, C), grid (t, h, w) -> (B, N', C) or (B, 1 + N', C). A class token stays.

    A pooling gets the layout channels_last_3d, a view of a sequence; any other were a copy before and one after it.
    """
    if isinstance(pool, nn.Identity):
        return x
    class_token, places = x.split([x.shape[1] - prod(grid), prod(grid)], dim=1)
    places = pool(places.unflatten(1, grid).permute(0, 4, 1, 2, 3))  # (B, C, t', h', w')
    return torch.cat([class_token, places.flatten(2).transpose(1, 2)], dim=1)


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are each pooled, the same for all heads: section 3.1 of Fan et al.

    A class token is normed with the rest, but not pooled. Where the stride of the queries is 1, they are neither.

    Windows of 3 at a stride of 4 or 8 reach 9/16 or 9/64 of the places. Only these get keys and values: of MViTv2-S at
    a batch of 1 that is 3 % of the forward and of the training step on a CPU. So `pool` may look no further.

    grids: where the tokens lie, and the strides
    pool: Depthwise, Largest or Average
    """

    pools_every_query = False
    kv_places: Tensor | None

    def __init__(self, dim: int, dim_out: int, heads: int, grids: Grids, class_token: bool, pool: Pool = Depthwise):
        super().__init__()
        if heads < 1 or dim_out % heads:
            raise ValueError(f"model: dim={dim_out} is not a multiple of heads={heads}")
        d = dim_out // heads
        self.heads, self.grid = heads, grids.tokens
        self.qkv = Linear(dim, 3 * dim_out)
        self.proj = Linear(dim_out, dim_out)
        near, self.kv_grid = near_windows(grids.tokens, grids.kv_stride)
        few = len(near) < prod(grids.tokens)
        places = torch.tensor([*range(class_token), *(class_token + place for place in near)]) if few else None
        self.register_buffer("kv_places", places, persistent=False)
        self.skipped_macs = (prod(grids.tokens) - len(near)) * 2 * dim * dim_out  # of a clip: tubelet.analysis.cost
        t, h, w = grids.kv_stride
        kv_stride = min(t, 3), min(h, 3), min(w, 3)
        is_pooled = self.pools_every_query or max(grids.q_stride) > 1
        self.pool_q, self.norm_q = with_norm(pool(d, grids.q_stride) if is_pooled else nn.Identity(), d)
        self.pool_k, self.norm_k = with_norm(pool(d, kv_stride), d)
        self.pool_v, self.norm_v = with_norm(pool(d, kv_stride), d)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', D')."""
        of_q, *of_kv = self.matrices()
        out = self.attend(self.queries(x, self.pool_q, of_q), *self.keys_and_values(x, *of_kv))  # (B, 1 + N', heads, d)
        return self.proj(out.flatten(2))

    def of_class_token(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1, D'): the first row of `forward`. This query alone is not pooled and has no place."""
        of_q, *of_kv = self.matrices()
        q = self.queries(x[:, :1], nn.Identity(), of_q)
        return self.proj(attend(q, *self.keys_and_values(x, *of_kv)).flatten(2))

    def queries(self, x: Tensor, pool: nn.Module, of_q: Matrix) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', heads, d)."""
        return self.normed(pool_tokens(linear(x, *of_q), self.grid, pool), self.norm_q)

    def keys_and_values(self, x: Tensor, of_k: Matrix, of_v: Matrix) -> tuple[Tensor, Tensor]:
        """(B, 1 + N, D) -> (B, 1 + N'', heads, d) twice."""
        # Apart from the queries and from each other, because each is then pooled as it lies: a third of one wide
        # product would have to be copied.
        x = self.near(x)
        k = pool_tokens(linear(x, *of_k), self.kv_grid, self.pool_k)
        v = pool_tokens(linear(x, *of_v), self.kv_grid, self.pool_v)
        return self.normed(k, self.norm_k), self.normed(v, self.norm_v)

    def matrices(self) -> list[Matrix]:
        """Of the queries, of the keys and of the values."""
        return list(zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True))

    def near(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + fewer, D): the class token, and what is within reach of a key's window."""
        return x if self.kv_places is None else x.index_select(1, self.kv_places)

    def normed(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, heads d) -> (B, N, heads, d)."""
        return norm(x.unflatten(2, (self.heads, -1)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, 1 + N', heads, d), (B, 1 + N'', heads, d) twice -> (B, 1 + N', heads, d)."""
        return attend(q, k, v)


class RelativePoolingAttention(PoolingAttention):
    """Relative positions, and the pooled query is added to what it finds: section 4.1 of Li et al., MViTv2.

    Queries are pooled, with stride 1, in every block. The query of a class token is not added.
    """

    pools_every_query = True
    is_place: Tensor

    def __init__(self, dim: int, dim_out: int, heads: int, grids: Grids, class_token: bool, pool: Pool = Depthwise):
        super().__init__(dim, dim_out, heads, grids, class_token, pool)
        d = dim_out // heads
        self.class_token = int(class_token)
        self.rel_pos_t, self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, d), std=0.02)) for rows in grids.rows
        )
        self.relative = RelativeAttention(grids.q, grids.kv, d, class_token)
        # 1 for a place and 0 for the class token: one product and sum, where slices would have to be joined again.
        is_place = torch.ones(self.class_token + prod(grids.q), 1, 1)
        is_place[: self.class_token] = 0.0
        self.register_buffer("is_place", is_place, persistent=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, 1 + N', heads, d), (B, 1 + N'', heads, d) twice -> (B, 1 + N', heads, d)."""
        out = self.relative(q, k, v, (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w))
        return torch.addcmul(out, q.to(out.dtype), self.is_place.to(out.dtype))


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
        self.skipped_macs = 0  # products are with pooled tokens, and all are read

    def queries(self, x: Tensor, pool: nn.Module, of_q: Matrix) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', heads, d)."""
        return self.projected(pool_tokens(x, self.grid, pool), self.norm_q, of_q)

    def keys_and_values(self, x: Tensor, of_k: Matrix, of_v: Matrix) -> tuple[Tensor, Tensor]:
        """(B, 1 + N, D) -> (B, 1 + N'', heads, d) twice."""
        x = self.near(x)
        k, v = pool_tokens(x, self.kv_grid, self.pool_k), pool_tokens(x, self.kv_grid, self.pool_v)
        return self.projected(k, self.norm_k, of_k), self.projected(v, self.norm_v, of_v)

    def projected(self, x: Tensor, norm: nn.Module, of: Matrix) -> Tensor:
        """(B, N, D) -> (B, N, heads, d): normed head by head, and then a product with all heads."""
        return linear(self.normed(x, norm).flatten(2), *of).unflatten(2, (self.heads, -1))
