"""ViViT: A Video Vision Transformer, Arnab et al., ICCV 2021, https://arxiv.org/abs/2103.15691.

Its ways to attend over space and time (section 3.3), with the numbers that the note gives them:

    class                 Arnab et al.    the note
    Joint                 Model 1         Model 1       every token attends to every token
    FactorisedEncoder     Model 2         Model 2, B2   within each frame, then one token a frame over time
    FactorisedAttention   Model 3         Model 2, B1   in each block over space, then over time at each place
    FactorisedStaged                      Model 2, B1   all blocks over space, then all over time
    FactorisedDotProduct  Model 4                       half of the heads over space, half over time
    FrameMean             baseline                      within each frame, then the mean: blind to the order of tubelets

Model 3 of the note is in vivit_compressed.py, its Model 4 in vivit_hierarchical.py.

Letters: B clips, C = 3 channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width. Tokens are
a sequence (B, N, D), time slowest, or a grid (B, t, s, D); a class token has no place in a grid, which is read out by
its mean. GELU has its tanh form, and weights start, as in the official code in scenic. Arguments, the same in all:

    num_classes, head_dropout: width of the head, and rate of dropout on what it reads
    num_frames, crop: T, and H = W or the pair (H, W); multiples of the tubelet
    tubelet: frames, pixels, pixels of one token
    dim, depth, heads, mlp_ratio: D, blocks, heads of each, hidden width of the MLP over D
    drop_path: rate in the last block, growing linearly from 0 in the first; in each of the two encoders of
        FactorisedEncoder on its own, as in scenic. It drops whole clips, over space too. What stays is scaled as in
        timm; scenic does not scale it, and in its factorised attention drops nothing
    position: OneTable or SpaceTime, of tubelet.layers.position
    readout: a class of tubelet.layers.readout
    time_depth: blocks that attend over time only, after `depth` blocks over space only
    time_mlp_ratio: mlp_ratio of those; None is the same
    time_first: whether a block attends over time first, as scenic does; the paper and the note have space first
    exact_gelu: GELU as timm and VideoMAE have it
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tubelet.layers.attention import Attention, SplitHeadAttention, TimeAttention
from tubelet.layers.block import FactorisedBlock, drop_path_rates, stack
from tubelet.layers.embed import Size3, TubeletEmbed, check_clip, clip_size, token_grid
from tubelet.layers.encoder import Encoder
from tubelet.layers.init import init_as_scenic
from tubelet.layers.linear import Linear
from tubelet.layers.position import OneTable
from tubelet.layers.readout import ClassToken, Readout
from tubelet.models.grid import Grid
from tubelet.models.vivit_blocks import frame_blocks, joint_blocks, tanh_gelu


class Joint(nn.Module):
    """ViViT joint attention (Model 1 of the note, Model 1 of Arnab et al.): every token attends to every token."""

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 16, 16),
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
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        rates = drop_path_rates(drop_path, depth)
        act = nn.GELU() if exact_gelu else tanh_gelu()
        blocks = stack(dim, [Attention(dim, heads) for _ in rates], act, mlp_ratio, rates)
        self.encoder = Encoder(dim, blocks, position, (t, h * w), readout)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        init_as_scenic(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        tokens = self.patch_embed(video).flatten(1, 2)  # (B, t * s, D)
        return self.head(self.dropout(self.encoder(tokens)))


class FactorisedEncoder(nn.Module):
    """ViViT factorised encoder (Model 2 of Arnab et al., flavour B2 of Model 2 of the note): space, then time.

    An encoder over the tokens of each frame gives one vector a frame, another over these vectors gives one a clip.
    Each has positions, a norm and, with the readout ClassToken, a class token of its own. The readout Attentive reads
    the clip; frames are then read by their class token, or by their mean where it has none.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 16, 16),
        dim: int = 768,
        depth: int = 12,
        time_depth: int = 4,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        readout: Callable[[int], Readout] = ClassToken,
        time_mlp_ratio: float | None = None,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        check_depths(depth, time_depth)
        space = frame_blocks(dim, heads, mlp_ratio, drop_path_rates(drop_path, depth), t)
        time = joint_blocks(dim, heads, time_mlp_ratio or mlp_ratio, drop_path_rates(drop_path, time_depth))
        self.space = Encoder(dim, space, OneTable, (1, h * w), readout(dim).of_frames)
        self.time = Encoder(dim, time, OneTable, (t, 1), readout)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        init_as_scenic(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        grid = self.patch_embed(video)  # (B, t, s, D)
        frames = self.space(grid.flatten(0, 1)).unflatten(0, grid.shape[:2])  # (B, t, D)
        return self.head(self.dropout(self.time(frames)))


class FrameMean(nn.Module):
    """ViViT frame mean (the baseline of Arnab et al.): a vector a frame, their mean; blind to the order of tubelets.

    A frame of tokens is as long as a tubelet, within which the embedding sees the order of frames. Tubelets of one
    frame make the model blind to the order of frames.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        readout: Callable[[int], Readout] = ClassToken,
    ):
        super().__init__()
        self.size = clip_size(num_frames, crop)
        t, h, w = token_grid(self.size, tubelet)
        self.patch_embed = TubeletEmbed(tubelet, dim)
        blocks = frame_blocks(dim, heads, mlp_ratio, drop_path_rates(drop_path, depth), t)
        self.space = Encoder(dim, blocks, OneTable, (1, h * w), readout)
        self.dropout = nn.Dropout(head_dropout)
        self.head = Linear(dim, num_classes)
        init_as_scenic(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> logits (B, num_classes)."""
        check_clip(video, self.size)
        grid = self.patch_embed(video)  # (B, t, s, D)
        frames = self.space(grid.flatten(0, 1)).unflatten(0, grid.shape[:2])  # (B, t, D)
        return self.head(self.dropout(frames.mean(1)))


class FactorisedAttention(Grid):
    """ViViT factorised attention (Model 3 of Arnab et al., flavour B1 of Model 2 of the note): both in each block."""

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        time_first: bool = False,
        position: Callable[..., nn.Module] = OneTable,
    ):
        blocks = []
        for rate in drop_path_rates(drop_path, depth):
            space, time = Attention(dim, heads), TimeAttention(dim, heads)
            blocks.append(FactorisedBlock(dim, space, time, tanh_gelu(), mlp_ratio, rate, time_first))
        super().__init__(num_classes, clip_size(num_frames, crop), tubelet, dim, blocks, position, head_dropout)


class FactorisedStaged(Grid):
    """ViViT factorised in stages (flavour B1 of Model 2 of the note): all blocks over space, then all over time.

    Nothing is pooled between the stages: the blocks of the second attend over time at each place.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 16, 16),
        dim: int = 768,
        depth: int = 12,
        time_depth: int = 4,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        position: Callable[..., nn.Module] = OneTable,
    ):
        check_depths(depth, time_depth)
        rates = drop_path_rates(drop_path, depth + time_depth)
        attention = [Attention(dim, heads) for _ in range(depth)] + [TimeAttention(dim, heads) for _ in rates[depth:]]
        blocks = stack(dim, attention, tanh_gelu(), mlp_ratio, rates)
        super().__init__(num_classes, clip_size(num_frames, crop), tubelet, dim, blocks, position, head_dropout)


class FactorisedDotProduct(Grid):
    """ViViT factorised dot product (Model 4 of Arnab et al.): half of the heads over space, half over time."""

    def __init__(
        self,
        num_classes: int,
        num_frames: int,
        crop: int | Sequence[int],
        tubelet: Size3 = (2, 16, 16),
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        head_dropout: float = 0.0,
        position: Callable[..., nn.Module] = OneTable,
    ):
        rates = drop_path_rates(drop_path, depth)
        blocks = stack(dim, [SplitHeadAttention(dim, heads) for _ in rates], tanh_gelu(), mlp_ratio, rates)
        super().__init__(num_classes, clip_size(num_frames, crop), tubelet, dim, blocks, position, head_dropout)


def check_depths(depth: int, time_depth: int) -> None:
    """Raises ValueError where there is no block over space, or none over time."""
    if min(depth, time_depth) < 1:
        raise ValueError(f"model: depth={depth} and time_depth={time_depth}: over space and over time at least 1 block")
