"""ViViT: A Video Vision Transformer, Arnab et al., ICCV 2021, https://arxiv.org/abs/2103.15691.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width.
Differs from ViT in the tanh form of GELU, as the official code in scenic has it.
"""

import torch
from torch import Tensor, nn

from tubelet.layers.attention import Attention
from tubelet.layers.block import NORM_EPS, Block, drop_path_rates
from tubelet.layers.embed import Size3, TubeletEmbed, check_clip, token_grid
from tubelet.layers.init import init_linear, learned_table


class Joint(nn.Module):
    """ViViT joint attention (Model 1 of the note, Model 1 of Arnab et al.): every token attends to every token.

    Section 3.3, Model 1. One learned position for each of the 1 + t * s tokens; the class token is read out.

    num_classes: width of the head
    num_frames, crop: T, and H = W; multiples of the tubelet
    tubelet: frames, pixels, pixels of one token
    dim, depth, heads, mlp_ratio: D, blocks, heads of each, hidden width of the MLP over D
    drop_path: rate in the last block, growing linearly from 0 in the first
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int,
        tubelet: Size3 = (2, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.num_frames, self.crop = num_frames, crop
        t, h, w = token_grid(num_frames, crop, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = learned_table(1 + t * h * w, dim)
        gelu = nn.GELU(approximate="tanh")
        self.blocks = nn.Sequential(
            *(Block(dim, Attention(dim, heads), gelu, mlp_ratio, rate) for rate in drop_path_rates(drop_path, depth))
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.head = nn.Linear(dim, num_classes)
        self.apply(init_linear)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.num_frames, self.crop)
        x = self.patch_embed(video).flatten(1, 2)  # (B, t * s, D), time slowest
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed  # (B, 1 + t * s, D)
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0])
