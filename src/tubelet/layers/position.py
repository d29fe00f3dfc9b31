"""Learned positions, added to the tokens once, before the first block.

Letters: t time tokens, s space tokens, D width. With a class token the table has a row more, its first.
"""

import torch
from torch import Tensor, nn

from tubelet.layers.init import learned_table


class OneTable(nn.Module):
    """A row for every token, as in ViT and in ViViT (Arnab et al., section 3.2)."""

    def __init__(self, t: int, s: int, dim: int, class_token: bool):
        super().__init__()
        self.class_token = int(class_token)
        self.table = learned_table(class_token + t * s, dim)

    def forward(self) -> Tensor:
        """-> (1, t * s, D), time slowest; with a class token (1, 1 + t * s, D)."""
        return self.table


class SpaceTime(nn.Module):
    """The sum of a row for the place and a row for the time (the note, section 1.1; TimeSformer; MViT).

    The class token has a row of its own in the table of places, and none in that of times.
    """

    def __init__(self, t: int, s: int, dim: int, class_token: bool):
        super().__init__()
        self.class_token = int(class_token)
        self.space = learned_table(class_token + s, dim)
        self.time = learned_table(t, dim)

    def forward(self) -> Tensor:
        """-> (1, t * s, D), time slowest; with a class token (1, 1 + t * s, D)."""
        of_class, places = self.space[:, : self.class_token], self.space[:, self.class_token :]
        grid = self.time[:, :, None] + places[:, None]  # (1, t, s, D)
        return torch.cat([of_class, grid.flatten(1, 2)], dim=1)
