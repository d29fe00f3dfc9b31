"""MViTv2: Improved Multiscale Vision Transformers, Li et al., CVPR 2022, https://arxiv.org/abs/2112.01526. It improves
MViT: Multiscale Vision Transformers, Fan et al., ICCV 2021, https://arxiv.org/abs/2104.11227.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, N = t * h * w, D width,
d = D / heads. A sequence is the class token and then N tokens, time slowest. Primes mark what a stride has changed: N'
queries, N'' keys and values. Every module is built for its grid (t, h, w), so only sequences pass between them.
Submodules are named as in SlowFast, the official code.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tubelet.layers.block import NORM_EPS, DropPath, Mlp, drop_path_rates
from tubelet.layers.embed import Size3, check_clip, clip_size, token_grid
from tubelet.layers.init import learned_table
from tubelet.layers.relative import RelativeAttention


class MViT(nn.Module):
    """MViTv2 (sections 3.2 and 3.3 of the note): attention to pooled keys and values, in stages of fewer, wider tokens.

    The first block of a stage pools its queries, so that the grid shrinks; from the second stage on it also doubles the
    width and the heads. Positions are relative only. The class token is read out.

    num_classes: width of the head
    num_frames, crop: T, and H = W; multiples of `patch_stride`
    dim, heads: D and heads of the first stage
    depths: blocks of each stage
    q_strides: (t, h, w) by which the first block of each stage pools its queries
    kv_strides: (t, h, w) by which each block of each stage pools its keys and values, counted on its own input. In
        published models they shrink with the grid: each is the one before, divided by the stage's stride of queries
    patch_kernel, patch_stride: frames, pixels, pixels of a patch, and from one patch to the next
    mlp_ratio: hidden width of the MLP over D
    drop_path: rate in the last block, growing linearly from 0 in the first
    head_dropout: rate of dropout on the class token before the head
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int,
        dim: int = 96,
        heads: int = 1,
        depths: Sequence[int] = (1, 2, 11, 2),
        q_strides: Sequence[Size3] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2)),
        kv_strides: Sequence[Size3] = ((1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1)),
        patch_kernel: Size3 = (3, 7, 7),
        patch_stride: Size3 = (2, 4, 4),
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        head_dropout: float = 0.5,
    ):
        super().__init__()
        check_stages(depths, q_strides, kv_strides)
        self.size = clip_size(num_frames, crop)
        grid = table_grid = token_grid(self.size, patch_stride)
        self.patch_embed = PatchEmbed(patch_kernel, patch_stride, dim)
        self.cls_token = learned_table(1, dim)
        rates, width = drop_path_rates(drop_path, sum(depths)), dim
        blocks: list[PoolingBlock] = []
        for stage, (depth, q_stride, kv_stride) in enumerate(zip(depths, q_strides, kv_strides, strict=True)):
            dim_out, stride = dim * 2**stage, q_stride
            for _ in range(depth):
                rows = table_rows(table_grid, stride, kv_stride)
                attn = PoolingAttention(width, dim_out, heads * 2**stage, grid, stride, kv_stride, rows)
                blocks.append(PoolingBlock(width, dim_out, attn, grid, stride, mlp_ratio, rates[len(blocks)]))
                grid, table_grid = rounded_up(grid, stride), rounded_down(table_grid, stride)
                width, stride = dim_out, (1, 1, 1)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(head_dropout)
        self.head = nn.Linear(width, num_classes)
        self.apply(init_as_slowfast)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        x = self.patch_embed(video)  # (B, N, D)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, 1 + N, D)
        x = self.blocks(x)[:, 0]  # (B, D) of the last stage
        return self.head(self.dropout(self.norm(x)))


class PatchEmbed(nn.Module):
    """Overlapping patches, each projected to a token. Padding by half a patch makes a token for every stride."""

    def __init__(self, kernel: Size3, stride: Size3, dim: int):
        super().__init__()
        if any(size % 2 == 0 or size < step for size, step in zip(kernel, stride, strict=True)):
            raise ValueError(
                f"model: patch_kernel={tuple(kernel)} must be odd along each axis, and at least "
                f"patch_stride={tuple(stride)}: a patch is centred on its token, and no pixel is left out"
            )
        t, h, w = (size // 2 for size in kernel)
        self.proj = nn.Conv3d(3, dim, kernel, stride, padding=(t, h, w))

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, N, D)."""
        return self.proj(video).flatten(2).transpose(1, 2)


class PoolingBlock(nn.Module):
    """Pooling attention, then the MLP, pre-norm. The skip path follows the attention in width and in grid.

    Where the width changes, the skip path is a projection of the normed input, as in the official code, not of the
    input; where the grid changes, it keeps the largest value of each window.
    """

    def __init__(
        self, dim: int, dim_out: int, attn: nn.Module, grid: Size3, stride: Size3, mlp_ratio: float, drop_path: float
    ):
        super().__init__()
        self.grid = grid
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim_out, eps=NORM_EPS)
        self.mlp = Mlp(dim_out, int(dim_out * mlp_ratio), nn.GELU())
        self.drop_path = DropPath(drop_path)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip = largest(stride) if max(stride) > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', D')."""
        normed = self.norm1(x)
        skip = x if self.proj is None else self.proj(normed)  # (B, 1 + N, D')
        skip = skip if self.pool_skip is None else pool_tokens(skip, self.grid, self.pool_skip)  # (B, 1 + N', D')
        x = skip + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are each pooled by a depthwise convolution, the same for all heads.

    Section 4.1 of Li et al.: relative positions from a table along each axis, of `rows` (t, h, w) rows, and the pooled
    query is added to what it finds. The class token is normed with the rest, but not pooled, and its query not added.
    """

    def __init__(self, dim: int, dim_out: int, heads: int, grid: Size3, q_stride: Size3, kv_stride: Size3, rows: Size3):
        super().__init__()
        if heads < 1 or dim_out % heads:
            raise ValueError(f"model: dim={dim_out} is not a multiple of heads={heads}")
        d = dim_out // heads
        self.heads, self.grid = heads, grid
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)
        self.pool_q, self.norm_q = depthwise(d, q_stride), nn.LayerNorm(d, eps=NORM_EPS)
        self.pool_k, self.norm_k = depthwise(d, kv_stride), nn.LayerNorm(d, eps=NORM_EPS)
        self.pool_v, self.norm_v = depthwise(d, kv_stride), nn.LayerNorm(d, eps=NORM_EPS)
        self.rel_pos_t, self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(n, d), std=0.02)) for n in rows
        )
        self.attend = RelativeAttention(rounded_up(grid, q_stride), rounded_up(grid, kv_stride), d)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', D')."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, 1 + N, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, 1 + N, d)
        q = self.norm_q(pool_tokens(q, self.grid, self.pool_q))  # (B, heads, 1 + N', d)
        k = self.norm_k(pool_tokens(k, self.grid, self.pool_k))  # (B, heads, 1 + N'', d)
        v = self.norm_v(pool_tokens(v, self.grid, self.pool_v))
        out = self.attend(q, k, v, (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w))  # (B, heads, 1 + N', d)
        out = torch.cat([out[:, :, :1], out[:, :, 1:] + q[:, :, 1:]], dim=2)
        return self.proj(out.transpose(1, 2).flatten(2))


def pool_tokens(x: Tensor, grid: Size3, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """(..., 1 + N, C) -> (..., 1 + N', C), by a pooling of (S, C, t, h, w). The first token, the class token, stays."""
    places = x[..., 1:, :].transpose(-2, -1).flatten(0, -3)  # (S, C, N)
    places = pool(places.unflatten(2, grid)).flatten(2).transpose(1, 2)  # (S, N', C)
    return torch.cat([x[..., :1, :], places.unflatten(0, x.shape[:-2])], dim=-2)


def depthwise(dim: int, stride: Size3) -> nn.Conv3d:
    """Learned pooling over windows of 3, each channel for itself."""
    return nn.Conv3d(dim, dim, 3, stride, padding=1, groups=dim, bias=False)


def largest(stride: Size3) -> nn.MaxPool3d:
    """Max pooling over windows of stride + 1, as in SlowFast; of an odd stride, where that would give another grid."""
    window = tuple(step // 2 * 2 + 1 for step in stride)
    return nn.MaxPool3d(window, tuple(stride), padding=tuple(size // 2 for size in window))


def rounded_up(grid: Size3, stride: Size3) -> Size3:
    """The grid after pooling: a token for every window that has begun."""
    t, h, w = (-(-size // step) for size, step in zip(grid, stride, strict=True))
    return t, h, w


def rounded_down(grid: Size3, stride: Size3) -> Size3:
    """The grid after pooling by the reckoning of SlowFast, after which it makes the tables."""
    t, h, w = (max(size // step, 1) for size, step in zip(grid, stride, strict=True))
    return t, h, w


def table_rows(grid: Size3, q_stride: Size3, kv_stride: Size3) -> Size3:
    """A row for each distance between places of the finer of two grids: 2 n - 1 along an axis of n.

    `grid` is rounded down, as in SlowFast: published tables have this many rows, also where the true grid is larger and
    they are resampled (312 pixels). Unlike there, a stride of the queries in time shortens the table of time too.
    """
    finer = map(max, rounded_down(grid, q_stride), rounded_down(grid, kv_stride))
    t, h, w = (2 * size - 1 for size in finer)
    return t, h, w


def check_stages(depths: Sequence[int], q_strides: Sequence[Size3], kv_strides: Sequence[Size3]) -> None:
    """Raises ValueError where the lists differ in length or a stage has no block."""
    if not len(depths) == len(q_strides) == len(kv_strides) or not depths or min(depths) < 1:
        raise ValueError(
            f"model: depths={list(depths)} with {len(q_strides)} q_strides and {len(kv_strides)} kv_strides: "
            "each needs one entry a stage, and each stage at least one block"
        )


def init_as_slowfast(module: nn.Module) -> None:
    """For `nn.Module.apply`: matrices truncated normal of deviation 0.02, biases of linear layers and norms 0.02.

    So in SlowFast today. Its commit 1aebd71, which released MViTv2, had zero biases, and torch's own start of `pool_*`.
    """
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear | nn.LayerNorm):
        nn.init.constant_(module.bias, 0.02)
