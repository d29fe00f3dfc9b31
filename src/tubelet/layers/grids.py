"""Where the tokens of each block lie in a model whose blocks pool them: MViT (Fan et al., ICCV 2021).

Grids and strides are (t, h, w): tokens along each axis, and from one window to the next.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from tubelet.layers.embed import Size3


class Grids(NamedTuple):
    """Where the tokens of a block lie, and by which (t, h, w) it pools its queries, and its keys and values.

    tokens: grid of the input
    tables: the same by the reckoning of SlowFast, which rounds down, and after which it makes the tables
    """

    tokens: Size3
    tables: Size3
    q_stride: Size3
    kv_stride: Size3

    @property
    def q(self) -> Size3:
        """Grid of the queries, and of the output."""
        return rounded_up(self.tokens, self.q_stride)

    @property
    def kv(self) -> Size3:
        """Grid of the keys and of the values."""
        return rounded_up(self.tokens, self.kv_stride)

    @property
    def rows(self) -> Size3:
        """Rows of a table along each axis: one for each distance between places of the finer grid, 2 n - 1 for n.

        Rounded down, as in SlowFast: published tables have this many rows, also where the true grid is larger and they
        are resampled (312 pixels). Unlike there, a stride of the queries in time shortens the table of time too.
        """
        finer = map(max, rounded_down(self.tables, self.q_stride), rounded_down(self.tables, self.kv_stride))
        t, h, w = (2 * size - 1 for size in finer)
        return t, h, w


def block_grids(
    grid: Size3, depths: Sequence[int], q_strides: Sequence[Size3], kv_strides: Sequence[Size3]
) -> list[Grids]:
    """The grids of each block; only the first of a stage pools its queries.

    Raises ValueError where the lists differ in length, a stage has no block, or a stride is not three positive numbers,
    or one of the queries is
    larger than the grid.
    """
    check_stages(depths, q_strides, kv_strides)
    tokens = tables = grid
    grids = []
    for stage, (depth, (qt, qh, qw), (kt, kh, kw)) in enumerate(zip(depths, q_strides, kv_strides, strict=True), 1):
        if qt > tokens[0] or qh > tokens[1] or qw > tokens[2]:
            raise ValueError(
                f"model: {[qt, qh, qw]} in q_strides is more than the {list(tokens)} tokens of stage {stage}"
            )
        for stride in [(qt, qh, qw)] + [(1, 1, 1)] * (depth - 1):
            grids.append(Grids(tokens, tables, stride, (kt, kh, kw)))
            tokens, tables = rounded_up(tokens, stride), rounded_down(tables, stride)
    return grids


def rounded_up(grid: Size3, stride: Size3) -> Size3:
    """The grid after pooling: a token for every window that has begun."""
    t, h, w = (-(-size // step) for size, step in zip(grid, stride, strict=True))
    return t, h, w


def rounded_down(grid: Size3, stride: Size3) -> Size3:
    """A token for every whole window, and at least one."""
    t, h, w = (max(size // step, 1) for size, step in zip(grid, stride, strict=True))
    return t, h, w


def near_windows(grid: Size3, stride: Size3) -> tuple[list[int], Size3]:
    """The places that some window of 3 around every `stride`-th place reaches, time slowest, and their own grid.

    Of these alone, windows at strides of at most 3 hold the same: a wider stride only leaves out what lies between.
    """
    axes = [[i for i in range(n) if (i + 1) % step < 3] for n, step in zip(grid, stride, strict=True)]
    _, h, w = grid
    t1, h1, w1 = map(len, axes)
    return [(i * h + j) * w + k for i, j, k in product(*axes)], (t1, h1, w1)


def check_stages(depths: Sequence[int], q_strides: Sequence[Size3], kv_strides: Sequence[Size3]) -> None:
    """See `block_grids`."""
    if not len(depths) == len(q_strides) == len(kv_strides) or not depths or min(depths) < 1:
        raise ValueError(
            f"model: depths={list(depths)} with {len(q_strides)} q_strides and {len(kv_strides)} kv_strides: "
            "each needs one entry a stage, and each stage at least one block"
        )
    for name, strides in (("q_strides", q_strides), ("kv_strides", kv_strides)):
        for stride in strides:
            if len(stride) != 3 or min(stride) < 1:
                raise ValueError(f"model: {tuple(stride)} in {name} is not three positive numbers, for (t, h, w)")
