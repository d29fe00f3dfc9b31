"""The blocks of TimeSformer (Bertasius et al., ICML 2021, https://arxiv.org/abs/2102.05095), for timesformer.py.

Letters: B clips, t tokens in time, s = h * w in space, D width.
"""

import torch
from torch import Tensor, nn

from tubelet.layers.attention import Attention, MultiHead, TimeAttention
from tubelet.layers.block import NORM_EPS, Block, DropPath, Mlp, drop_path_rates, stack
from tubelet.layers.linear import Linear, linear


class DividedBlock(nn.Module):
    """Attention over time at each place, over space in each frame, then one MLP for all tokens (equations 10 and 11).

    The class token takes no part in time. In space each frame sees its own copy, and the copies' answers are averaged.
    Drop path acts where the official code has it: per place before `temporal_fc`, per frame after the attention.
    """

    in_full = False  # True: every product as published; for counts and comparisons

    def __init__(self, dim: int, heads: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.temporal_norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.temporal_attn = TimeAttention(dim, heads)
        self.temporal_fc = Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), nn.GELU())
        self.drop_path = DropPath(drop_path)
        self.drop_part = DropPath(drop_path, axes=2)

    def forward(self, cls: Tensor, grid: Tensor, only_class: bool = False) -> tuple[Tensor, Tensor]:
        """(B, 1, D), (B, t, s, D) -> the same; with `only_class` the grid is not brought to its end."""
        grid = grid + self.over_time(grid)

        copies = cls[:, None].expand(-1, grid.shape[1], -1, -1)  # (B, t, 1, D)
        attn = self.attn.of_first if only_class else self.attn
        frames = self.drop_part(attn(self.norm1(torch.cat([copies, grid], dim=2))))  # (B, t, 1 + s, D) or (B, t, 1, D)
        cls = cls + frames[:, :, 0].mean(1, keepdim=True)
        if only_class:
            return cls + self.drop_path(self.mlp(self.norm2(cls))), grid

        x = torch.cat([cls, (grid + frames[:, :, 1:]).flatten(1, 2)], dim=1)  # (B, 1 + t * s, D)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x[:, :1], x[:, 1:].unflatten(1, grid.shape[1:3])

    def over_time(self, grid: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D): attention over time, its projection and `temporal_fc`.

        Between the two linear layers is only drop path, which scales rows, so they are one. To make its matrix costs as
        much as D tokens in one of them; for every token it saves a product, of 17 in the block.
        """
        found = self.temporal_attn.find(self.temporal_norm1(grid))
        proj, fc = self.temporal_attn.proj, self.temporal_fc
        num_tokens, dim = found[..., 0].numel(), found.shape[-1]
        if self.in_full or num_tokens <= dim:
            return fc(self.dropped_by_place(proj(found)))
        both = linear(found, fc.weight @ proj.weight, fc.weight @ proj.bias)
        return self.dropped_by_place(both) + fc.bias

    def dropped_by_place(self, grid: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D): drop path, one draw for all times of a place."""
        return self.drop_part(grid.transpose(1, 2)).transpose(1, 2)


def image_blocks(
    dim: int, depth: int, heads: int, mlp_ratio: float, drop_path: float, *attention: type[MultiHead]
) -> list[Block]:
    """`depth` blocks of an image model, whose attention is of the given kinds in turn."""
    kinds = attention or (Attention,)
    turns = [kinds[i % len(kinds)](dim, heads) for i in range(depth)]
    return stack(dim, turns, nn.GELU(), mlp_ratio, drop_path_rates(drop_path, depth))
