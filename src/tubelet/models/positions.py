"""Published tables of positions for the clip of a model: tiled over time, or resampled in space and in time.

Letters: t h w tokens along each axis, s = h * w, D width. A table may begin with a row for the class token, which is
kept apart from all that is done to the others.
"""

from collections.abc import Collection
from math import isqrt

import torch
from torch import Tensor, nn

from tubelet.layers.embed import Size3, token_grid
from tubelet.layers.position import OneTable, SpaceTime
from tubelet.models.resample import resize_space, resize_space_time, resize_time, sinusoids, tile_space
from tubelet.models.source import Source

VIVIT_GRID = (16, 14, 14)  # of every ViViT that was released: 32 frames of 224 pixels in tubelets of 2x16x16


class Positions:
    """The tables of one model from those of one source.

    tubelet: frames, pixels, pixels of one token of the model
    accept: what may be resampled of weights that were trained on clips: `frames`, `crop`
    """

    def __init__(self, source: Source, size: Size3, tubelet: Size3, accept: Collection[str]):
        self.source, self.tubelet, self.accept = source, tubelet, accept
        t, h, w = (length // step for length, step in zip(size, tubelet, strict=True))
        self.grid: Size3 = (t, h, w)
        self.done: list[str] = []  # what was done to the table asked for last
        self.used: set[str] = set()
        if source.size and not source.image:
            self._allow("frames", source.size[0], size[0])
            self._allow("crop", source.size[1:], size[1:])

    def table(self, prefix: str, part: str, module: nn.Module | None, rows: int) -> Tensor | None:
        """-> (1, rows, D), or None where the source has nothing for it and the model's own start is right.

        prefix: "", or `space.` or `time.` of a factorised encoder
        part: `table` or `space` for places, `time` for times
        """
        self.done = []
        class_row = int(module.class_token) if isinstance(module, SpaceTime) else None
        if part == "time":
            return self._times(rows)
        if self.source.fixed_positions:
            self.done.append("fixed sinusoids, as the layout has no table")
            return sinusoids(rows, self.source.weights["patch_embed.proj.weight"].shape[0])
        name = f"{prefix}pos_embed" if f"{prefix}pos_embed" in self.source.weights else "pos_embed"
        if prefix == "time." and name == "pos_embed":
            return None
        if name not in self.source.weights:
            raise ValueError("it holds no table of positions (pos_embed)")
        of_class, patches = self._split(name, prefix)
        has_class = class_row if class_row is not None else self._class_rows(prefix, part, rows)
        if has_class and of_class is None:
            raise ValueError(NO_CLASS_TOKEN)
        places = self._places(name, prefix, patches, rows - has_class, isinstance(module, OneTable))
        return torch.cat([of_class, places], dim=1) if has_class and of_class is not None else places

    def _class_rows(self, prefix: str, part: str, rows: int) -> int:
        """Rows in front of the places of a model's table: what is left over by the grid."""
        t, h, w = self.grid
        return rows % {"time.": t, "space.": h * w}.get(prefix, h * w)

    def _split(self, name: str, prefix: str) -> tuple[Tensor | None, Tensor]:
        """The row of the class token, if the source has one, and the others."""
        table = self.source.weights[name]
        self.used.add(name)
        stem = name.removesuffix("pos_embed")
        has_class = f"{stem}cls_token" in self.source.weights
        return (table[:, :1], table[:, 1:]) if has_class else (None, table)

    def _places(self, name: str, prefix: str, patches: Tensor, rows: int, whole: bool) -> Tensor:
        """(1, n, D) of the source -> (1, rows, D) of the model."""
        t, h, w = self.grid
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
            return None
        self.used.add("time_embed")
        return self._in_time(self.source.weights["time_embed"], t)

    def _in_time(self, table: Tensor, t: int) -> Tensor:
        old, frames = table.shape[1], self.tubelet[0]
        if old == t:
            return table
        self._allow("frames", old * frames, t * frames)
        self.done.append(f"{old} times to {t}, {'nearest' if self.source.nearest else 'linear'}")
        return resize_time(table, t, self.source.nearest)

    def _in_space(self, table: Tensor, new: tuple[int, int]) -> Tensor:
        n, (h, w) = table.shape[1], new
        if n == h * w:  # as the official TimeSformer, the number alone decides: a table does not tell its sides
            return table
        side = isqrt(n)
        if side * side != n:
            raise ValueError(f"its {n} positions in space are no square, and not the {h}x{w} of this clip's tokens")
        if not self.source.image:
            self._allow("crop", (side * self.tubelet[1],) * 2, (h * self.tubelet[1], w * self.tubelet[2]))
        self.done.append(f"{side}x{side} places to {h}x{w}, {'nearest' if self.source.nearest else 'bicubic'}")
        return resize_space(table, (side, side), new, self.source.nearest)

    def _whole(self, table: Tensor, new: Size3) -> Tensor:
        old = self._whole_grid(table.shape[1], new)
        if old == new:
            return table
        sizes = [[n * step for n, step in zip(grid, self.tubelet, strict=True)] for grid in (old, new)]
        self._allow("frames", sizes[0][0], sizes[1][0])
        self._allow("crop", sizes[0][1:], sizes[1][1:])
        self.done.append(f"{_times_sign(old)} places to {_times_sign(new)}, bicubic in space, linear in time")
        return resize_space_time(table, old, new)

    def _whole_grid(self, n: int, new: Size3) -> Size3:
        """(t, h, w) of a table of n rows, which does not tell it: from what stands beside the weights, or what fits."""
        t, h, w = new
        if n == t * h * w:
            return new
        told: list[Size3] = [VIVIT_GRID]
        if self.source.size:
            told = [token_grid(self.source.size, self.tubelet)]
        fits = [grid for grid in told if grid[0] * grid[1] * grid[2] == n][:1]
        if not fits and n % (h * w) == 0:
            fits.append((n // (h * w), h, w))
        side = isqrt(n // t)
        if not (fits and fits[0] in told) and side * side * t == n:
            fits.append((t, side, side))
        if len(fits) != 1:
            raise ValueError(
                f"its {n} positions are not those of this clip's {_times_sign(new)} tokens, and do not tell of which "
                "clip they are; give clip.num_frames and clip.crop that they were trained on"
            )
        return fits[0]

    def _allow(self, word: str, theirs: object, ours: object) -> None:
        """Raises ValueError where weights of clips are for another size than the model's, unless that is accepted."""
        theirs, ours = _plain(theirs), _plain(ours)
        if theirs == ours or word in self.accept:
            return
        key = {"frames": "clip.num_frames", "crop": "clip.crop"}[word]
        raise ValueError(
            f"the weights were trained with {key}={theirs}, and this run has {ours}; "
            f"type {key}={theirs}, or model.accept=[{word}] to resample their positions"
        )


def _plain(value: object) -> object:
    """A number, and one number for a square."""
    if isinstance(value, tuple | list):
        return value[0] if len(set(value)) == 1 else f"[{','.join(map(str, value))}]"
    return value


def _times_sign(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))


NO_CLASS_TOKEN = (
    "it has no class token, and the model reads one out; "
    "type model.readout._target_=tubelet.layers.readout.Mean (of VideoMAE: NormedMean)"
)
