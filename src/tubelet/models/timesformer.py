"""TimeSformer: Is Space-Time Attention All You Need for Video Understanding? Bertasius et al., ICML 2021,
https://arxiv.org/abs/2102.05095.

Its ways to attend (section 3), and the one that the note adds (section 2):

    Divided        in each block over time at each place, then over space in each frame: TimeSformer
    JointSpaceTime every token attends to every token
    SpaceOnly      within each frame, then the mean of the frames: blind to the order of tubelets
    Alternating    one block over time, the next over space

Letters: B clips, C = 3 channels, T H W frames and pixels, t tokens in time, s = h * w in space, D width. The official
code's tokens are patches of one frame; what is said of frames here then holds for tubelets. Weights start as there.
Arguments, the same in all:

    num_classes, head_dropout: width of the head, and rate of dropout on what it reads
    num_frames, crop: T, and H = W or the pair (H, W), in pixels
    tubelet: frames, pixels, pixels of one token
    dim, depth, heads, mlp_ratio: D, blocks, heads of each attention, hidden width of the MLP over D
    drop_path: rate in the last block, growing linearly from 0 in the first
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tubelet.layers.attention import Attention, TimeAttention
from tubelet.layers.block import NORM_EPS, drop_path_rates
from tubelet.layers.embed import Size3, TubeletEmbed, check_clip, clip_size, token_grid
from tubelet.layers.encoder import Encoder, through
from tubelet.layers.init import init_as_timm, learned_table, zero_linear
from tubelet.layers.linear import Linear
from tubelet.layers.position import SpaceTime
from tubelet.layers.readout import ClassToken
from tubelet.models.grid import Grid
from tubelet.models.timesformer_blocks import DividedBlock, image_blocks


class Divided(nn.Module):
    """TimeSformer, divided attention (section 2.1 of the note; section 3 of Bertasius et al.): time, then space.

    Positions: a spatial table with a row for the class token, and a temporal table for the patches only.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (1, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        head_dropout: float = 0.0,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        self.cls_token = learned_table(1, dim)
        self.pos_embed = SpaceTime(t, h * w, dim, class_token=True)
        rates = drop_path_rates(drop_path, depth)
        blocks = [DividedBlock(dim, heads, mlp_ratio, rate) for rate in rates]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        self.apply(init_as_timm)
        forget_time(self.pos_embed)
        for block in blocks:  # at the start each is a block of an image model, in the official code too
            zero_linear(block.temporal_fc)
        self.in_full = False  # True: every product as published; for counts and comparisons

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        grid = self.patch_embed(video)  # (B, t, s, D)
        positions = self.pos_embed()  # (1, 1 + t * s, D)
        grid = grid + positions[:, 1:].unflatten(1, grid.shape[1:3])
        cls = (self.cls_token + positions[:, :1]).expand(len(grid), -1, -1)  # (B, 1, D)
        *before, last = self.blocks
        for block in before:
            cls, grid = block(cls, grid)
        cls, _ = last(cls, grid, only_class=not self.in_full)
        return self.head(self.dropout(self.norm(cls[:, 0])))


class JointSpaceTime(nn.Module):
    """TimeSformer, joint attention (section 3 of Bertasius et al.): every token attends to every token."""

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (1, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        head_dropout: float = 0.0,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        blocks = image_blocks(dim, depth, heads, mlp_ratio, drop_path)
        self.encoder = Encoder(dim, blocks, SpaceTime, (t, h * w), ClassToken)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        self.apply(init_as_timm)
        nn.init.trunc_normal_(self.encoder.get_parameter("cls_token"), std=0.02)
        forget_time(self.encoder.pos_embed)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        return self.head(self.dropout(self.encoder(self.patch_embed(video).flatten(1, 2))))


class SpaceOnly(nn.Module):
    """TimeSformer, space only (section 3 of Bertasius et al.): within each frame, blind to the order of tubelets.

    The official code's are single frames; within a longer one the embedding sees their order. The mean over the frames
    comes before the last norm, as in the official code.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (1, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        head_dropout: float = 0.0,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        _, h, w = token_grid(self.size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        self.cls_token = learned_table(1, dim)
        self.pos_embed = learned_table(1 + h * w, dim)
        self.blocks = nn.Sequential(*image_blocks(dim, depth, heads, mlp_ratio, drop_path))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        self.in_full = False  # as in `Divided`
        self.apply(init_as_timm)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        grid = self.patch_embed(video)  # (B, t, s, D)
        frames = grid.flatten(0, 1)  # (B * t, s, D)
        frames = torch.cat([self.cls_token.expand(len(frames), -1, -1), frames], dim=1) + self.pos_embed
        cls = through(self.blocks, frames, only_first=not self.in_full)[:, 0].unflatten(0, grid.shape[:2])  # (B, t, D)
        return self.head(self.dropout(self.norm(cls.mean(1))))


class Alternating(Grid):
    """TimeSformer, alternating layers (section 2 of the note): one block over time, the next over space.

    The blocks are those of an image model, so that there are twice as many MLPs for each attention as in `Divided`.
    Read out by the mean of the normed tokens: a class token has no place in attention over time.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (1, 16, 16),
        dim: int = 768,
        depth: int = 24,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        head_dropout: float = 0.0,
    ):
        blocks = image_blocks(dim, depth, heads, mlp_ratio, drop_path, TimeAttention, Attention)
        size = clip_size(num_frames, crop)
        head = head_dropout, None, lambda net: net.apply(init_as_timm)
        super().__init__(num_classes, size, tubelet, dim, blocks, SpaceTime, *head)


def forget_time(position: nn.Module) -> None:
    """Zero the table of times, as in the official code: at the start all frames are alike, as to an image model."""
    nn.init.zeros_(position.get_parameter("time"))
