"""What models on a grid of tokens share: those of the files vivit*.py, and one of timesformer.py.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tubelet.layers.block import NORM_EPS
from tubelet.layers.embed import Size3, TubeletEmbed, check_clip, token_grid
from tubelet.layers.init import init_as_scenic
from tubelet.layers.linear import Linear
from tubelet.layers.readout import Mean


class Grid(nn.Module):
    """Tokens with positions, blocks that keep the grid, and the mean of the normed tokens. Without a class token.

    blocks: modules (B, t, s, D) -> (B, t, s, D), applied in turn; some may change the grid and the width
    dim_out: the width that they end with; None is `dim`
    init: starts the weights of the whole model
    """

    def __init__(
        self,
        num_classes: int,
        size: Size3,
        tubelet: Size3,
        dim: int,
        blocks: Sequence[nn.Module],
        position: Callable[..., nn.Module],
        head_dropout: float,
        dim_out: int | None = None,
        init: Callable[[nn.Module], object] = init_as_scenic,
    ):
        super().__init__()
        self.size = size
        t, h, w = token_grid(size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        self.pos_embed = position(t, h * w, dim, class_token=False)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim_out or dim, eps=NORM_EPS)
        self.readout = Mean(dim_out or dim)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim_out or dim, num_classes)
        init(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        grid = self.patch_embed(video)  # (B, t, s, D)
        grid = self.blocks(grid + self.pos_embed().unflatten(1, grid.shape[1:3]))
        return self.head(self.dropout(self.readout(grid.flatten(1, 2), self.norm)))
