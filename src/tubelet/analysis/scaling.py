"""How cost grows with the frames T of a clip and the tokens N of a frame: slopes of log over log, p for c T^p."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LETTERS = {"T": "frames T of a clip", "N": "tokens N of a frame"}


@dataclass(frozen=True)
class Point:
    """One counted model: its multiply-accumulates of attention and of all, as published."""

    name: str
    num_frames: int
    frame_tokens: int
    attention_macs: int
    macs: int


@dataclass(frozen=True)
class Line:
    """Points of one model that differ in one of T and N only, in ascending order of it."""

    name: str
    sizes: list[int]
    attention_macs: list[int]
    macs: list[int]

    @property
    def slopes(self) -> tuple[float, float]:
        """Of attention, and of all."""
        return slope(self.sizes, self.attention_macs), slope(self.sizes, self.macs)

    def __str__(self) -> str:
        return "{}: slope {:.2f} of attention, {:.2f} of all".format(self.name, *self.slopes)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares slope of log(values) over log(sizes); not a number where a value is 0."""
    if min(values) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def lines_along(letter: str, points: Iterable[Point]) -> list[Line]:
    """letter: T or N. A line for each model and each value of the other letter; where there is one size only, none."""
    fields = {"T": "num_frames", "N": "frame_tokens"}
    other = "N" if letter == "T" else "T"
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        groups.setdefault((point.name, getattr(point, fields[other])), []).append(point)
    lines = []
    for (name, fixed), group in groups.items():
        group.sort(key=lambda point: getattr(point, fields[letter]))
        sizes = [getattr(point, fields[letter]) for point in group]
        if len(set(sizes)) > 1:
            of_attention, of_all = [p.attention_macs for p in group], [p.macs for p in group]
            lines.append(Line(f"{name}, {other} = {fixed}", sizes, of_attention, of_all))
    return lines
