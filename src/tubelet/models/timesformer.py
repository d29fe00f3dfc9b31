"""TimeSformer: Is Space-Time Attention All You Need for Video Understanding? Bertasius et al., ICML 2021,
https://arxiv.org/abs/2102.05095.

Letters: B clips, C = 3 channels, T H W frames and pixels, s = h * w patches a frame, D width. A token is a patch of
one frame, so there are T of them in time.
"""

import torch
from torch import Tensor, nn

from tubelet.layers.attention import Attention
from tubelet.layers.block import NORM_EPS, DropPath, Mlp, drop_path_rates
from tubelet.layers.embed import TubeletEmbed, check_clip, token_grid
from tubelet.layers.init import init_linear, learned_table


class Divided(nn.Module):
    """TimeSformer, divided attention (section 2.1 of the note; section 3 of Bertasius et al.): time, then space.

    Positions: a spatial table with a row for the class token, and a temporal table for the patches only.

    num_classes: width of the head
    num_frames, crop: T, and H = W in pixels
    patch: side of a patch, pixels
    dim, depth, heads, mlp_ratio: D, blocks, heads of each attention, hidden width of the MLP over D
    drop_path: rate in the last block, growing linearly from 0 in the first
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
    ):
        super().__init__()
        self.num_frames, self.crop = num_frames, crop
        tubelet = (1, patch, patch)
        _, h, w = token_grid(num_frames, crop, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        self.cls_token = learned_table(1, dim)
        self.pos_embed = learned_table(1 + h * w, dim)
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, dim))
        rates = drop_path_rates(drop_path, depth)
        blocks = [DividedBlock(dim, heads, mlp_ratio, rate) for rate in rates]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.head = nn.Linear(dim, num_classes)
        self.apply(init_linear)
        for block in blocks:
            block.start_without_time()

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.num_frames, self.crop)
        grid = self.patch_embed(video)  # (B, T, s, D)
        grid = grid + self.pos_embed[:, None, 1:] + self.time_embed[:, :, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(grid), -1, -1)  # (B, 1, D)
        for block in self.blocks:
            cls, grid = block(cls, grid)
        return self.head(self.norm(cls[:, 0]))


class DividedBlock(nn.Module):
    """Attention over time at each place, over space in each frame, then one MLP for all tokens (equations 10 and 11).

    The class token takes no part in time. In space each frame sees its own copy, and the copies' answers are averaged.
    Drop path acts where the official code has it: per place before `temporal_fc`, per frame after the attention.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.temporal_norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.temporal_attn = Attention(dim, heads)
        self.temporal_fc = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), nn.GELU())
        self.drop_path = DropPath(drop_path)

    def start_without_time(self) -> None:
        """Zero `temporal_fc`: at the start the block is an image block. The official code does so in every block."""
        nn.init.zeros_(self.temporal_fc.weight)
        nn.init.zeros_(self.temporal_fc.bias)

    def forward(self, cls: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, D), (B, T, s, D) -> the same."""
        tubes = self.temporal_norm1(grid).transpose(1, 2)  # (B, s, T, D)
        grid = grid + self.temporal_fc(self.drop_path(self.temporal_attn(tubes))).transpose(1, 2)

        copies = cls[:, None].expand(-1, grid.shape[1], -1, -1)  # (B, T, 1, D)
        frames = self.norm1(torch.cat([copies, grid], dim=2))  # (B, T, 1 + s, D)
        frames = self.drop_path(self.attn(frames))
        cls, grid = cls + frames[:, :, 0].mean(1, keepdim=True), grid + frames[:, :, 1:]

        x = torch.cat([cls, grid.flatten(1, 2)], dim=1)  # (B, 1 + T * s, D)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x[:, :1], x[:, 1:].unflatten(1, grid.shape[1:3])
