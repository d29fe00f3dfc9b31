"""Hierarchical ViViT: Model 4 of the note (section 1.5): fewer and wider tokens from stage to stage.

Within a stage, blocks of factorised attention (vivit.py); between two stages, tokens next to each other become one, by
`Merge`, a projection of all of them together, as in Swin (Liu et al., ICCV 2021, https://arxiv.org/abs/2103.14030), or
by `Pool`, their mean. It has no counterpart in Arnab et al.; MViT, which pools inside attention, is in mvit.py.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width. Weights
start as in vivit.py.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tubelet.layers.attention import Attention, TimeAttention
from tubelet.layers.block import NORM_EPS, FactorisedBlock, drop_path_rates
from tubelet.layers.embed import Size3, clip_size, multiples, token_grid
from tubelet.layers.linear import Linear
from tubelet.layers.position import OneTable
from tubelet.models.grid import Grid
from tubelet.models.vivit_blocks import tanh_gelu


class Merge(nn.Module):
    """The tokens of a window, normed together and projected to one (Swin's patch merging, here in time too)."""

    def __init__(self, dim: int, dim_out: int, grid: Size3, window: Size3):
        super().__init__()
        self.grid, self.window = grid, window
        inputs = window[0] * window[1] * window[2] * dim
        self.norm = nn.LayerNorm(inputs, eps=NORM_EPS)
        self.reduction = Linear(inputs, dim_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t', s', D')."""
        return self.reduction(self.norm(tokens_of_windows(x, self.grid, self.window).flatten(3)))


class Pool(nn.Module):
    """The mean of the tokens of a window; where the width changes, normed and projected."""

    def __init__(self, dim: int, dim_out: int, grid: Size3, window: Size3):
        super().__init__()
        self.grid, self.window = grid, window
        widen = nn.Sequential(nn.LayerNorm(dim, eps=NORM_EPS), Linear(dim, dim_out))
        self.widen = widen if dim != dim_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, s, D) -> (B, t', s', D')."""
        return self.widen(tokens_of_windows(x, self.grid, self.window).mean(3))


class Hierarchical(Grid):
    """ViViT hierarchical (Model 4 of the note): factorised attention in stages, tokens merged between them.

    num_classes, head_dropout: width of the head, and rate of dropout on what it reads
    num_frames, crop: T, and H = W or the pair (H, W)
    tubelet: frames, pixels, pixels of one token of the first stage
    dims, depths, heads: width, blocks, and heads of each attention, stage by stage
    windows: (t, h, w) tokens that become one, before each stage but the first
    merge: Merge or Pool
    mlp_ratio: hidden width of the MLP over the width of the stage
    drop_path: rate in the last block, growing linearly from 0 in the first
    time_first, position: as in vivit.py; positions are added once, before the first stage
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 8, 8),
        dims: Sequence[int] = (192, 384, 768),
        depths: Sequence[int] = (2, 4, 6),
        heads: Sequence[int] = (3, 6, 12),
        windows: Sequence[Size3] = ((2, 2, 2), (2, 2, 2)),
        merge: Callable[..., nn.Module] = Merge,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        time_first: bool = False,
        position: Callable[..., nn.Module] = OneTable,
    ):
        check_lists(dims, depths, heads, windows)
        size = clip_size(num_frames, crop)
        grids = stage_grids(token_grid(size, tubelet), windows)
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        stages: list[nn.Module] = []
        for i, (dim, depth, num_heads) in enumerate(zip(dims, depths, heads, strict=True)):
            if i > 0:
                stages.append(merge(dims[i - 1], dim, grids[i - 1], windows[i - 1]))
            for _ in range(depth):
                space, time = Attention(dim, num_heads), TimeAttention(dim, num_heads)
                stages.append(FactorisedBlock(dim, space, time, tanh_gelu(), mlp_ratio, next(rates), time_first))
        super().__init__(num_classes, size, tubelet, dims[0], stages, position, head_dropout, dims[-1])


def tokens_of_windows(x: Tensor, grid: Size3, window: Size3) -> Tensor:
    """(B, t, s, D), (t, h, w), (a, b, c) -> (B, t / a, s / (b * c), a * b * c, D): the tokens of each window."""
    (_, h, w), (a, b, c) = grid, window
    x = x.unflatten(2, (h // b, b, w // c, c)).unflatten(1, (-1, a))  # (B, t', a, h', b, w', c, D)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(2, 3)


def stage_grids(grid: Size3, windows: Sequence[Size3]) -> list[Size3]:
    """Tokens (t, h, w) of every stage. Raises ValueError where a window does not divide, with the nearest sizes."""
    grids = [grid]
    for stage, window in enumerate(windows, start=1):
        t, h, w = grids[-1]
        for name, size, step in zip(("time", "rows", "columns"), (t, h, w), window, strict=True):
            if step < 1 or size % step:
                raise ValueError(
                    f"model: before stage {stage + 1}, the window's {step} does not divide {size} tokens ({name}); "
                    f"the nearest is {multiples(size, max(step, 1))}: change clip.num_frames, clip.crop or the tubelet"
                )
        grids.append((t // window[0], h // window[1], w // window[2]))
    return grids


def check_lists(dims: Sequence[int], depths: Sequence[int], heads: Sequence[int], windows: Sequence[Size3]) -> None:
    """Raises ValueError where the lists differ in length, a stage has no block, or a window is not along three axes."""
    if not len(dims) == len(depths) == len(heads) == len(windows) + 1 or min(depths) < 1:
        raise ValueError(
            f"model: dims={list(dims)}, depths={list(depths)}, heads={list(heads)} and {len(windows)} windows: "
            "one entry a stage, one window fewer, and each stage at least one block"
        )
    for window in windows:
        if len(window) != 3:
            raise ValueError(f"model: {list(window)} in windows is not three numbers: tokens along t, h and w")
