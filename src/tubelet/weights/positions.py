"""Published tables of positions for the clip of a model: tiled over time, or resampled in space and in time.

Letters: t h w tokens along each axis, s = h * w, D width. A table may begin with a row for the class token, which is
kept apart from all that is done to the others.
"""

from collections.abc import Collection
from math import isqrt, prod

import torch
from torch import Tensor

from tubelet.layers.embed import Size3
from tubelet.layers.position import OneTable, SpaceTime
from tubelet.weights.resample import resize_space, resize_space_time, resize_time, sinusoids, tile_space
from tubelet.weights.source import Source

VIVIT_GRID = (16, 14, 14)  # of every ViViT that was released: 32 frames of 224 pixels in tubelets of 2x16x16


class Positions:
    """The tables of one model from those of one source.

    size, tubelet: (T, H, W) of the model's clips; frames, pixels, pixels of one of its tokens
    accept: what may be resampled of weights that were trained on clips: `frames`, `crop`
    """

    def __init__(self, source: Source, size: Size3, tubelet: Size3, accept: Collection[str]):
        self.source, self.tubelet, self.accept = source, tubelet, accept
        self.grid = _tokens(size, tubelet)
        self.told = _tokens(source.size, tubelet) if source.size else None  # the grid of the source, where it is known
        self.done: list[str] = []  # what was done to the table asked for last
        self.notes: list[str] = []
        self.used: set[str] = set()
        if source.size and not source.image:
            self._allow("frames", source.size[:1], size[:1])
            self._allow("crop", source.size[1:], size[1:])

    def table(self, prefix: str, part: str, module: OneTable | SpaceTime | None, rows: int) -> Tensor | None:
        """-> (1, rows, D), or None where the source has nothing for it and the model's own start is right.

        prefix: "", or `space.` or `time.` of a factorised encoder
        part: `table` or `space` for places, `time` for times
        module: that has the table; None where the model itself has it, with one row for each place
        """
        self.done = []
        if part == "time":
            return self._times(rows)
        if self.source.fixed_positions:
            self.done.append("fixed sinusoids, as the layout has no table")
            return sinusoids(rows, self.source.weights["patch_embed.proj.weight"].shape[0])
        name = f"{prefix}pos_embed" if f"{prefix}pos_embed" in self.source.weights else "pos_embed"
        if prefix == "time." and name == "pos_embed":
            self._refuse_cut("time.pos_embed")
            return None
        if name not in self.source.weights:
            raise ValueError("it holds no table of positions (pos_embed)")
        of_class, patches = self._split(name)
        _, h, w = self.grid
        has_class = module.class_token if module else rows - h * w
        if has_class and of_class is None:
            raise ValueError("its table of positions has no row for a class token, and the model has one")
        places = self._places(name, prefix, patches, rows - has_class, isinstance(module, OneTable))
        return torch.cat([of_class, places], dim=1) if has_class and of_class is not None else places

    def _split(self, name: str) -> tuple[Tensor | None, Tensor]:
        """The row of the class token, if the source has one, and the others."""
        table = self.source.weights[name]
        self.used.add(name)
        stem = name.removesuffix("pos_embed")
        has_class = f"{stem}cls_token" in self.source.weights
        return (table[:, :1], table[:, 1:]) if has_class else (None, table)

    def _places(self, name: str, prefix: str, patches: Tensor, rows: int, whole: bool) -> Tensor:
        """(1, n, D) of the source -> (1, rows, D) of the model."""
        _, h, w = self.grid
        if prefix == "time.":
            return self._in_time(patches, rows)
        if self.source.joint and name == "pos_embed":
            if not whole or prefix:
                raise ValueError("its positions are one table for all places and times, and the model has none such")
            return self._whole(patches, (rows // (h * w), h, w))
        space = self._in_space(patches, (h, w))
        if prefix or not whole:
            return space
        t = rows // (h * w)
        times = self._times(t)
        self.done.append(f"repeated for {t} times" + ("" if times is None else ", with the rows of time_embed added"))
        return tile_space(space, times, t)

    def _times(self, t: int) -> Tensor | None:
        if "time_embed" not in self.source.weights:
            if self.source.joint:
                raise ValueError("its positions are one table for all places and times, and the model has two")
            self._refuse_cut("time_embed")
            return None
        self.used.add("time_embed")
        return self._in_time(self.source.weights["time_embed"], t)

    def _refuse_cut(self, name: str) -> None:
        """Raises ValueError where blocks over time have no table of times, as in a cut file."""
        if self.source.of_time or self.source.exact:
            raise ValueError(f"it has attention over time, but no positions in time ({name}): the file is cut")

    def _in_time(self, table: Tensor, t: int) -> Tensor:
        old = table.shape[1]
        if old == t:
            return table
        self._allow_tokens("frames", (old,), (t,))
        self.done.append(f"{old} times to {t}, {'nearest' if self.source.nearest else 'linear'}")
        return resize_time(table, t, self.source.nearest)

    def _in_space(self, table: Tensor, new: tuple[int, int]) -> Tensor:
        old = self._places_of(table.shape[1], new)
        if old == new:
            return table
        self._allow_tokens("crop", old, new)
        self.done.append(f"{_by(old)} places to {_by(new)}, {'nearest' if self.source.nearest else 'bicubic'}")
        return resize_space(table, old, new, self.source.nearest)

    def _places_of(self, n: int, new: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of a table of n rows: what stands beside the weights, or a square, as published ones are.

        Where it can be no square, and in TimeSformer's official code always, an equal number means an equal grid.
        """
        if self.told:
            return self._told(n, self.told[1:])[1:]
        side = isqrt(n)
        is_square, is_equal = side * side == n, n == new[0] * new[1]
        if is_equal and (self.source.nearest or not is_square):
            if new != (side, side):
                self.notes.append(f"its {n} places are taken for {_by(new)}, as in this clip: the file does not tell")
            return new
        if not is_square:
            raise ValueError(f"its {n} positions in space are no square, and not the {_by(new)} of this clip's tokens")
        return side, side

    def _told(self, n: int, places: tuple[int, int]) -> Size3:
        """(t, h, w) of a table of n rows whose places are known. Its times may be those of pooled frames."""
        h, w = places
        if n % (h * w):
            raise ValueError(f"its {n} positions are not those of {_by(places)} places, as its crop has")
        return n // (h * w), h, w

    def _whole(self, table: Tensor, new: Size3) -> Tensor:
        old = self._grid_of(table.shape[1], new)
        if old == new:
            return table
        self._allow_tokens("frames", old[:1], new[:1])
        self._allow_tokens("crop", old[1:], new[1:])
        self.done.append(f"{_by(old)} places to {_by(new)}, bicubic in space, linear in time")
        return resize_space_time(table, old, new)

    def _grid_of(self, n: int, new: Size3) -> Size3:
        """(t, h, w) of a table of n rows, which does not tell it: 8x14x14 and 32x7x7 are both 1568."""
        if self.told:
            return self._told(n, self.told[1:])
        if n == prod(VIVIT_GRID):
            return VIVIT_GRID
        if n == prod(new):
            self.notes.append(f"its {n} positions are taken for {_by(new)}, as in this clip: the file does not tell")
            return new
        raise ValueError(
            f"its {n} positions are not those of this clip's {_by(new)} tokens, and do not tell of which "
            "clip they are; give clip.num_frames and clip.crop that they were trained on"
        )

    def _allow_tokens(self, word: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> None:
        """`_allow` for what tables alone tell. An image's are always resampled; a known size was looked at before."""
        if self.source.image or self.source.size:
            return
        steps = {"frames": self.tubelet[:1], "crop": self.tubelet[1:]}[word]
        theirs, ours = (tuple(n * step for n, step in zip(grid, steps, strict=True)) for grid in (theirs, ours))
        self._allow(word, theirs, ours)

    def _allow(self, word: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> None:
        """Raises ValueError where weights of clips are for another size than the model's, unless that is accepted."""
        if theirs == ours or word in self.accept:
            return
        key = {"frames": "clip.num_frames", "crop": "clip.crop"}[word]
        raise ValueError(
            f"the weights were trained with {key}={_plain(theirs)}, and this run has {_plain(ours)}; "
            f"type {key}={_plain(theirs)}, or model.accept=[{word}] to resample their positions"
        )


def _plain(size: tuple[int, ...]) -> str:
    """One number for a square, as a config has it."""
    return str(size[0]) if len(set(size)) == 1 else f"[{','.join(map(str, size))}]"


def _by(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))


def _tokens(size: Size3, tubelet: Size3) -> Size3:
    """(T, H, W) -> tokens (t, h, w)."""
    t, h, w = (length // step for length, step in zip(size, tubelet, strict=True))
    return t, h, w
