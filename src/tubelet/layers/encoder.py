"""The encoder of ViT: from the tokens of a sequence to one vector. D width, N tokens of one sequence."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tubelet.layers.block import NORM_EPS
from tubelet.layers.readout import Readout


class Encoder(nn.Module):
    """Class token in front, positions, blocks, and what is read out of the last of them.

    Where only the class token is read, the last block computes only that: the same answer, gradients too, and a
    twelfth less of nearly everything in a model of twelve blocks. Its keys and values are still those of all tokens.

    blocks: of tubelet.layers.block, with joint attention, applied in turn
    position: a class of `tubelet.layers.position`
    grid: (t, s), tokens in time and in space; N = t * s
    readout: a class of `tubelet.layers.readout`, which also says whether there is a class token
    """

    def __init__(
        self,
        dim: int,
        blocks: Sequence[nn.Module],
        position: Callable[..., nn.Module],
        grid: tuple[int, int],
        readout: Callable[[int], Readout],
    ):
        super().__init__()
        read = readout(dim)
        self.in_full = False  # True: every product as published; for counts and comparisons
        has_token = read.class_token
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if has_token else None  # its position tells it apart
        self.pos_embed = position(*grid, dim, class_token=has_token)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.readout = read  # after the blocks, since layer-wise decay of the rate follows this order

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, 1 + N, D)
        x = x + self.pos_embed()
        x = through(self.blocks, x, only_first=self.readout.only_first and not self.in_full)
        return self.readout(x, self.norm)


def through(blocks: nn.Sequential, x: Tensor, only_first: bool) -> Tensor:
    """(B, N, D) -> (B, N, D), or with `only_first` the first token of that, (B, 1, D)."""
    for number, block in enumerate(blocks, start=1):
        x = block(x, only_first=only_first and number == len(blocks))
    return x
