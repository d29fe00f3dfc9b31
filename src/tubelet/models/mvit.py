"""MViT: Multiscale Vision Transformers, Fan et al., ICCV 2021, https://arxiv.org/abs/2104.11227, and MViTv2: Improved
Multiscale Vision Transformers, Li et al., CVPR 2022, https://arxiv.org/abs/2112.01526. What sets them apart:

                              MViT (v1)                             MViTv2
    attention                 PoolingAttention                      RelativePoolingAttention
    position                  SpaceTime, added to the tokens        none: relative, within the attention
    width and heads double    in the MLP of the last block of a     in the attention of the first block of a stage
                              stage (heads one block later)

MViTv2 fine-tuned after MaskFeat (Wei et al., CVPR 2022) widens as v1, and its readout is NormedMeanOfPatches.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, N = t * h * w, D width,
d = D / heads. A sequence is the class token, if it is read out, and then N tokens, time slowest; shapes are written
with it. Primes mark what a stride has changed: N' queries, N'' keys and values. Every module is built for its grid
(t, h, w), so only sequences pass between them. Submodules are named as in SlowFast, the official code.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tubelet.layers.block import NORM_EPS, DropPath, Mlp, drop_path_rates
from tubelet.layers.embed import Size3, check_clip, clip_size, token_grid
from tubelet.layers.grids import Grids, block_grids
from tubelet.layers.init import learned_table
from tubelet.layers.linear import Linear
from tubelet.layers.pooling import PoolingAttention, RelativePoolingAttention, pool_tokens, skip_pool
from tubelet.layers.position import SpaceTime
from tubelet.layers.readout import Attentive, ClassToken, Readout


class MViT(nn.Module):
    """MViT (sections 3.2 and 3.3 of the note): attention to pooled keys and values, in stages of fewer, wider tokens.

    The first block of a stage pools its queries, so that the grid shrinks. From stage to stage the width and the heads
    double. Without arguments, MViTv2-S.

    num_classes: width of the head
    num_frames, crop: T, and H = W or the pair (H, W); multiples of `patch_stride`
    dim, heads: D and heads of the first stage
    depths: blocks of each stage
    q_strides: (t, h, w) by which the first block of each stage pools its queries
    kv_strides: (t, h, w) by which each block of each stage pools its keys and values, counted on its own input. In
        published models they shrink with the grid: each is the one before, divided by the stage's stride of queries
    patch_kernel, patch_stride: frames, pixels, pixels of a patch, and from one patch to the next
    mlp_ratio: hidden width of the MLP over D
    drop_path: rate in the last block, growing linearly from 0 in the first
    head_dropout: rate of dropout on what is read out, before the head
    attention: a class of tubelet.layers.pooling: PoolingAttention, RelativePoolingAttention or PoolFirstAttention
    position: OneTable or SpaceTime, of tubelet.layers.position, or None
    readout: a class of tubelet.layers.readout
    widen_in_mlp: whether the width doubles in the MLP of the last block of a stage, as in MViT (v1)
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
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
        attention: Callable[..., PoolingAttention] = RelativePoolingAttention,
        position: Callable[..., nn.Module] | None = None,
        readout: Callable[[int], Readout] = ClassToken,
        widen_in_mlp: bool = False,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, patch_stride, "patch_stride")
        read = readout(dim * 2 ** (len(depths) - 1))
        has_token = read.class_token
        self.patch_embed = PatchEmbed(patch_kernel, patch_stride, dim)
        self.cls_token = learned_table(1, dim) if has_token else None
        self.pos_embed = position(t, h * w, dim, class_token=has_token) if position else None
        widths, rates = block_widths(dim, depths, widen_in_mlp), drop_path_rates(drop_path, sum(depths))
        blocks: list[PoolingBlock] = []
        of_blocks = block_grids((t, h, w), depths, q_strides, kv_strides)
        for of_block, grids, rate in zip(widths, of_blocks, rates, strict=True):
            before, width, _ = of_block
            attn = attention(before, width, heads * width // dim, grids, has_token)
            # What is read of the last block is all that it computes.
            is_last = len(blocks) + 1 == len(of_blocks) and read.only_first
            block = ClassTokenBlock if is_last else PoolingBlock
            blocks.append(block(of_block, attn, grids, mlp_ratio, rate))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(widths[-1][-1], eps=NORM_EPS)
        self.readout = read
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(widths[-1][-1], num_classes)
        self.apply(init_as_slowfast)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        x = self.patch_embed(video)  # (B, N, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, 1 + N, D)
        if self.pos_embed is not None:
            x = x + self.pos_embed()
        x = self.readout(self.blocks(x), self.norm)  # (B, D) of the last stage
        return self.head(self.dropout(x))


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
    """Pooling attention, then the MLP, pre-norm. The skip paths follow them in width and in grid.

    Where the width changes, a skip path is a projection of the normed input, as in the official code, not of the
    input; where the grid changes, it keeps the largest value of each window.

    widths: of the input, of the attention and of the output
    """

    def __init__(
        self, widths: tuple[int, int, int], attn: PoolingAttention, grids: Grids, mlp_ratio: float, drop_path: float
    ):
        super().__init__()
        before, width, after = widths
        self.grid = grids.tokens
        self.norm1 = nn.LayerNorm(before, eps=NORM_EPS)
        self.attn = attn
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, round(width * mlp_ratio), nn.GELU(), after)
        self.drop_path = DropPath(drop_path)
        # One projection, of the one or of the other skip path: a block widens once.
        self.proj = Linear(before, after) if before != after else nn.Identity()
        self.widens_in_attn, self.widens_in_mlp = before != width, width != after
        self.pool_skip = skip_pool(grids.q_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1 + N', D')."""
        normed = self.norm1(x)
        skip = self.proj(normed) if self.widens_in_attn else x
        x = pool_tokens(skip, self.grid, self.pool_skip) + self.drop_path(self.attn(normed))  # (B, 1 + N', .)
        return self.after_attention(x)

    def after_attention(self, x: Tensor) -> Tensor:
        """(B, 1 + N', .) -> (B, 1 + N', D')."""
        normed = self.norm2(x)
        skip = self.proj(normed) if self.widens_in_mlp else x
        return skip + self.drop_path(self.mlp(normed))


class ClassTokenBlock(PoolingBlock):
    """The last block of a model that reads the class token alone: the first row of what a PoolingBlock gives.

    All tokens are keys and values, and one is a query, a skip path and a row of the MLP: 4 % fewer products in
    MViTv2-S. Weights that only other queries meet get a gradient of zero, as they would get from a whole block, so that
    DistributedDataParallel finds none unused and weight decay acts on them as in published training.
    """

    in_full = False  # True: every product as published; for counts and comparisons

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, 1, D')."""
        if self.in_full:
            return super().forward(x)
        normed = self.norm1(x)
        skip = (self.proj(normed[:, :1]) if self.widens_in_attn else x[:, :1]) + self.zero_of_unread()
        return self.after_attention(skip + self.drop_path(self.attn.of_class_token(normed)))

    def zero_of_unread(self) -> Tensor:
        """-> 0, with a gradient of zero for the weights that pool and place queries."""
        unread = [p for name, p in self.attn.named_parameters() if name.startswith(("pool_q.", "rel_pos_"))]
        return torch.stack([p.sum() * 0.0 for p in unread]).sum() if unread else self.norm1.bias.new_zeros(())


def block_widths(dim: int, depths: Sequence[int], in_mlp: bool) -> list[tuple[int, int, int]]:
    """The widths of each block: of its input, of its attention, and of its output. That of the attention doubles."""
    attn = [dim * 2**stage for stage, depth in enumerate(depths) for _ in range(depth)]
    before, after = (attn, [*attn[1:], attn[-1]]) if in_mlp else ([dim, *attn[:-1]], attn)
    return list(zip(before, attn, after, strict=True))


def init_as_slowfast(module: nn.Module) -> None:
    """For `nn.Module.apply`: matrices truncated normal of deviation 0.02, biases of linear layers and norms 0.02.

    So in SlowFast today. Its commit 1aebd71, which released MViTv2, had zero biases, and torch's own start of `pool_*`.
    """
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear | nn.LayerNorm):
        nn.init.constant_(module.bias, 0.02)
    if isinstance(module, SpaceTime):
        nn.init.trunc_normal_(module.time, std=0.02)  # in TimeSformer, times start at zero
    if isinstance(module, Attentive):
        module.start()
