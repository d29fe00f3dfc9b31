"""Ranked runs as pictures: a panel for each metric, and parallel coordinates of a search."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no screen is needed
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from tubelet.analysis.comparison import Ranked, Row, number, override_columns, override_keys

DOT, TIED, GREY = "#3b6ea5", "#e08e45", "0.75"
MOST_ROWS = 100  # of the picture, the best ones
LETTERS = 60  # of a name
METRICS: dict[str, Callable[[Row], float | None]] = {
    "test top-1": lambda row: row.top1,
    "validation": lambda row: row.val,
    "training clips/s": lambda row: row.clips_per_second,
    "peak memory, MiB": lambda row: row.peak_memory_mib,
    "GMACs a clip": lambda row: None if row.macs is None else row.macs / 1e9,
    "parameters, M": lambda row: None if row.parameters is None else row.parameters / 1e6,
}


def draw_metrics(ranked: Sequence[Ranked], picture: Path) -> None:
    """A panel for test top-1 and for each other metric that is not the same of all; ranked rows, the best on top."""
    best = [one for one in ranked if one.rank is not None]
    shown = best[:MOST_ROWS]
    panels = {name: of for name, of in METRICS.items() if _tells(name, [of(one.row) for one in shown])}
    size = (3.2 + 2.7 * len(panels), 1.4 + 0.24 * len(shown))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for axis, (name, of) in zip(axes[0], panels.items(), strict=True):
        if name == "test top-1":
            _draw_intervals(axis, shown)
        title = f"best {shown[0].row.monitor}" if name == "validation" else name
        _draw_metric(axis, title, [of(one.row) for one in shown])
    names = [f"{_short(name)}   {one.rank}" for name, one in zip(row_names(shown), shown, strict=True)]
    axes[0, 0].set_yticks(range(len(shown)), names, fontsize=8)
    axes[0, 0].set_ylim(len(shown) - 0.5, -0.5)
    if len(shown) < len(best):
        figure.suptitle(f"the best {len(shown)} of {len(best)}", fontsize=10)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def _tells(metric: str, values: Sequence[float | None]) -> bool:
    known = {value for value in values if value is not None}
    return len(known) > 1 or (metric == "test top-1" and len(known) == 1)


def row_names(ranked: Sequence[Ranked]) -> list[str]:
    """The overrides that differ, by the last part of their keys where that is enough."""
    columns = override_columns([one.row for one in ranked])
    lasts = [key.rpartition(".")[2] for key in columns]
    keys = [last if lasts.count(last) == 1 else key for last, key in zip(lasts, columns, strict=True)]
    named = [
        " ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]
    return named or [one.row.recorded_name for one in ranked]


def _draw_metric(axis: Axes, name: str, values: Sequence[float | None]) -> None:
    known = [(value, i) for i, value in enumerate(values) if value is not None]
    axis.plot(*zip(*known, strict=True), "o", color=DOT, markersize=4.5)
    axis.set_title(name, fontsize=10)
    axis.locator_params(axis="x", nbins=4)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    if known and max(known)[0] > 2 * min(known)[0]:  # a ratio can be seen only from zero on
        axis.set_xlim(left=0)


def _draw_intervals(axis: Axes, shown: Sequence[Ranked]) -> None:
    """Those that overlap that of the first row in another colour; dotted, those of a single seed."""
    for i, one in enumerate(shown):
        if one.row.interval is not None:
            colour = TIED if shown[0].rank in one.ties else DOT
            style = ":" if one.row.videos_only else "-"
            axis.plot(one.row.interval, (i, i), color=colour, linestyle=style, linewidth=1.6, zorder=1)
    dotted = "\ndotted: videos only, one seed" * any(one.row.videos_only for one in shown)
    axis.set_xlabel(f"95 % intervals; orange: overlaps that of the first{dotted}", fontsize=7)


def numeric_overrides(ranked: Sequence[Ranked]) -> dict[str, list[float]]:
    """Key -> the number of each row, for the overrides that differ and are numbers in every row."""
    found = {}
    for key in override_keys([one.row for one in ranked]):
        values = [number(one.row.overrides.get(key, "")) for one in ranked]
        numbers = [value for value in values if value is not None]
        if len(numbers) == len(values) and len(set(numbers)) > 1:
            found[key] = numbers
    return found


def draw_search(ranked: Sequence[Ranked], title: str, picture: Path) -> None:
    """Parallel coordinates: a line for each row through its numeric overrides to its figure, the last axis.

    Rows without a figure are grey and end before it. The best lie above, also where the least is the best.
    """
    axes = {key: np.array(values) for key, values in numeric_overrides(ranked).items()}
    figures = np.array([math.nan if one.figure is None else one.figure for one in ranked])
    heights = np.stack([_height(values) for values in [*axes.values(), figures]], axis=1)  # (rows, axes)
    colours = plt.get_cmap("viridis")
    shade = Normalize(np.nanmin(figures), np.nanmax(figures))
    picture_of, axis = plt.subplots(figsize=(2.2 + 1.9 * len(axes), 4.6), layout="constrained")
    for i in reversed(range(len(ranked))):  # the best lie on top
        known = not math.isnan(figures[i])
        colour = colours(shade(figures[i])) if known else GREY
        axis.plot(heights[i], color=colour, linewidth=2.2 if i == 0 else 1.2, linestyle="-" if known else "--")
    for place, values in enumerate([*axes.values(), figures]):
        _draw_axis(axis, place, values)
    axis.set_xticks(range(len(axes) + 1), [*map(_short, axes), title], fontsize=9)
    axis.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.3, len(axes) + 0.5))
    axis.spines[:].set_visible(False)
    axis.tick_params(axis="x", length=0, pad=-4)
    unfinished = int(np.isnan(figures).sum())
    if unfinished:
        axis.set_title(f"dashed grey: {unfinished} that did not finish", fontsize=9, color="0.35")
    picture_of.savefig(picture, dpi=120)
    plt.close(picture_of)


def _height(values: np.ndarray) -> np.ndarray:
    """From 0 to 1, over the logarithm where that spreads them more evenly."""
    return _share(np.log(values)) if _is_logarithmic(values) else _share(values)


def _share(values: np.ndarray) -> np.ndarray:
    low, high = np.nanmin(values), np.nanmax(values)
    return (values - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 0.5)


def _is_logarithmic(values: np.ndarray) -> bool:
    """Where they span a factor of ten, and their median is nearer to the middle of the logarithms."""
    if not 0 < 10 * np.nanmin(values) <= np.nanmax(values):
        return False
    off = [abs(float(np.nanmedian(_share(scaled))) - 0.5) for scaled in (np.log(values), values)]
    return off[0] < off[1]


def _draw_axis(axis: Axes, place: int, values: np.ndarray) -> None:
    """A vertical line with at most five of the values beside it: all of a grid's, else even steps."""
    axis.axvline(place, 0.05, 0.95, color="k", linewidth=0.8)
    known = np.unique(values[~np.isnan(values)])
    if len(known) > 5:
        steps = np.geomspace if _is_logarithmic(values) else np.linspace
        known = steps(float(known[0]), float(known[-1]), 5)
    heights = _share(np.log(known) if _is_logarithmic(values) else known)
    for value, height in zip(known, heights, strict=True):
        box = {"facecolor": "w", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}
        axis.text(place + 0.03, height, f"{value:.3g}", fontsize=8, va="center", bbox=box)


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS // 2]}…{name[-LETTERS // 2 + 1 :]}"
