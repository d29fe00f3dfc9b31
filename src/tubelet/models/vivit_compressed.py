"""ViViT with temporal compression: Model 3 of the note (section 1.4): few time tokens early.

Three ways to have them; tubelets are also in section 3.2 of Arnab et al., ICCV 2021, https://arxiv.org/abs/2103.15691:

    class             compresses by
    Tubelets          tokens of tau frames each
    Compressed        pooling tau frames of tokens to their mean (`PoolTime`), or keeping one of them (`StrideTime`)
    FewTokens         nothing for attention over space; attention over time sees only K pooled tokens a frame

The first two then attend jointly. The more frames a token spans, the less it can tell of their order.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width, K pooled
tokens a frame. Weights start as in vivit.py. Arguments not explained there:

    reduce: PoolTime or StrideTime
    tau: frames made into one
    regions: (rows, columns) of a frame of tokens that are pooled into one each; K = rows * columns
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tubelet.layers.attention import Attention, TimeAttention
from tubelet.layers.block import FactorisedBlock, drop_path_rates
from tubelet.layers.embed import Size3, TubeletEmbed, check_clip, clip_size, token_grid
from tubelet.layers.encoder import Encoder
from tubelet.layers.init import init_as_scenic
from tubelet.layers.linear import Linear
from tubelet.layers.position import OneTable
from tubelet.layers.readout import ClassToken, Readout
from tubelet.models.grid import Grid
from tubelet.models.vivit import Joint
from tubelet.models.vivit_blocks import joint_blocks, tanh_gelu


class Tubelets(Joint):
    """ViViT compressed by tubelets (Model 3 of the note; section 3.2 of Arnab et al.): long tubelets, joint."""

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (4, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        position: Callable[..., nn.Module] = OneTable,
        readout: Callable[[int], Readout] = ClassToken,
        exact_gelu: bool = False,
    ):
        shape = (num_frames, crop, tubelet, dim, depth, heads, mlp_ratio)
        super().__init__(num_classes, *shape, drop_path, head_dropout, position, readout, exact_gelu)


class PoolTime(nn.Module):
    """The mean over each `tau` frames of tokens."""

    def __init__(self, tau: int):
        super().__init__()
        self.tau = tau

    def forward(self, grid: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t / tau, s, D)."""
        return grid.unflatten(1, (-1, self.tau)).mean(2)


class StrideTime(nn.Module):
    """The central one, of index tau // 2, of each `tau` frames of tokens; the others are not looked at."""

    def __init__(self, tau: int):
        super().__init__()
        self.tau = tau

    def forward(self, grid: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t / tau, s, D)."""
        return grid[:, self.tau // 2 :: self.tau]


class Compressed(nn.Module):
    """ViViT compressed in time (Model 3 of the note): frames of tokens pooled or strided, then joint."""

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        reduce: Callable[[int], nn.Module] = PoolTime,
        tau: int = 4,
        tubelet: Size3 = (1, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        position: Callable[..., nn.Module] = OneTable,
        readout: Callable[[int], Readout] = ClassToken,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, tubelet)
        if tau < 1 or t % tau:
            fitting = [n for n in range(1, t + 1) if t % n == 0]
            raise ValueError(f"model: tau={tau} does not divide the {t} frames of tokens; those that do are {fitting}")
        self.patch_embed = TubeletEmbed(tubelet, dim)
        self.reduce = reduce(tau)
        blocks = joint_blocks(dim, heads, mlp_ratio, drop_path_rates(drop_path, depth))
        self.encoder = Encoder(dim, blocks, position, (t // tau, h * w), readout)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        init_as_scenic(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        grid = self.reduce(self.patch_embed(video))  # (B, t / tau, s, D)
        return self.head(self.dropout(self.encoder(grid.flatten(1, 2))))


class FewTokens(Grid):
    """ViViT with few tokens over time (Model 3 of the note): K pooled tokens a frame attend over time.

    In each block, attention over space in full; then every region of a frame is pooled to its mean, each region attends
    over time, and what it finds is added to all of its places. K = s is factorised attention, K = 1 touches t tokens.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        regions: tuple[int, int] = (2, 2),
        tubelet: Size3 = (1, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        position: Callable[..., nn.Module] = OneTable,
    ):
        size = clip_size(num_frames, crop)
        _, h, w = token_grid(size, tubelet)
        blocks = []
        for rate in drop_path_rates(drop_path, depth):
            time = RegionTimeAttention(dim, heads, (h, w), regions)
            blocks.append(FactorisedBlock(dim, Attention(dim, heads), time, tanh_gelu(), mlp_ratio, rate))
        super().__init__(num_classes, size, tubelet, dim, blocks, position, head_dropout)


class RegionTimeAttention(TimeAttention):
    """Attention over time of the means of regions, the answer given to all places of the region.

    places: (h, w) tokens of a frame
    regions: (rows, columns) into which they are divided
    """

    def __init__(self, dim: int, heads: int, places: tuple[int, int], regions: tuple[int, int]):
        super().__init__(dim, heads)
        if len(regions) != 2:
            raise ValueError(f"model: regions={list(regions)} is not two numbers: rows, columns")
        for name, size, number in zip(("rows", "columns"), places, regions, strict=True):
            if number < 1 or size % number:
                fitting = [n for n in range(1, size + 1) if size % n == 0]
                raise ValueError(f"model: regions={tuple(regions)}: {size} {name} of tokens divide into {fitting}")
        self.regions = (regions[0], places[0] // regions[0], regions[1], places[1] // regions[1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t, s, D)."""
        regions = x.unflatten(2, self.regions)  # (B, t, rows, height, columns, width, D)
        pooled = regions.mean((3, 5)).flatten(2, 3)  # (B, t, K, D)
        found = super().forward(pooled).unflatten(2, self.regions[::2])  # (B, t, rows, columns, D)
        return found[:, :, :, None, :, None].expand_as(regions).flatten(2, 5)
