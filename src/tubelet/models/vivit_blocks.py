"""The blocks of ViViT (Arnab et al., ICCV 2021, https://arxiv.org/abs/2103.15691), for the files vivit*.py.

Letters: B clips, t frames of tokens, N tokens of a sequence, D width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from tubelet.layers.attention import Attention
from tubelet.layers.block import Block, DropPath, stack


def tanh_gelu() -> nn.GELU:
    """GELU as flax has it, and so ViViT."""
    return nn.GELU(approximate="tanh")


def joint_blocks(dim: int, heads: int, mlp_ratio: float, rates: Sequence[float]) -> list[Block]:
    """Blocks over sequences, with a drop path rate for each."""
    return stack(dim, [Attention(dim, heads) for _ in rates], tanh_gelu(), mlp_ratio, rates)


def frame_blocks(dim: int, heads: int, mlp_ratio: float, rates: Sequence[float], t: int) -> list[Block]:
    """The same over the t frames of each clip."""
    blocks = joint_blocks(dim, heads, mlp_ratio, rates)
    for block, rate in zip(blocks, rates, strict=True):
        block.drop_path = DropPathOfFrames(rate, t)
    return blocks


class DropPathOfFrames(DropPath):
    """For blocks over the t frames of each clip, which are sequences of their own: one draw a clip, as in scenic."""

    def __init__(self, rate: float, t: int):
        super().__init__(rate)
        self.t = t

    def forward(self, x: Tensor) -> Tensor:
        """(B * t, N, D) -> (B * t, N, D)."""
        return super().forward(x.unflatten(0, (-1, self.t))).flatten(0, 1)
