"""Pictures of a data set: how long, large and fast its videos are, how its classes are filled, how they look."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")  # files only: no screen is needed
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torchvision.transforms.v2 import functional as F

from tubelet.video.census import seconds_of
from tubelet.video.index import Entry
from tubelet.video.known import known_of
from tubelet.video.open import ReadOptions, read_clips
from tubelet.video.reader import DecodeError

BAR = "#3b6ea5"
SPLIT_COLOURS = ("#3b6ea5", "#e08e45", "#5b9a68")
MOST_KINDS = 12  # bars of a panel; the rarer ones are added up
MOST_CLASSES = 120  # pictures of the contact sheet
TILE = 240  # pixels, the longer side of a picture in it


def draw_videos(entries: Sequence[Entry], picture: Path) -> None:
    """Duration, frame rate and size of the videos that can be read."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    _draw_durations(axes[0], [seconds_of(entry) for entry in entries])
    _draw_kinds(axes[1], [f"{entry.fps:.4g}" for entry in entries], "frames a second")
    _draw_kinds(axes[2], [f"{entry.width} x {entry.height}" for entry in entries], "width x height in pixels")
    axes[0].set_ylabel("videos")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def _draw_durations(axis: Axes, seconds: Sequence[float]) -> None:
    """A histogram; what is far longer than the rest is in the last bar, so that it does not flatten the others."""
    longest = max(seconds)
    end = min(longest, 4 * median(seconds))
    axis.hist(np.minimum(seconds, end), bins=30, range=(0, end or 1), color=BAR)
    axis.axvline(median(seconds), color="k", linewidth=0.9, linestyle="--", label=f"median {median(seconds):.1f} s")
    beyond = sum(one > end for one in seconds)
    axis.set(
        title="duration", xlabel=f"seconds (the last bar: {beyond} of up to {longest:.0f} s)" if beyond else "seconds"
    )
    axis.legend(frameon=False)
    _clean(axis)


def _draw_kinds(axis: Axes, kinds: Sequence[str], title: str) -> None:
    largest = Counter(kinds).most_common()
    if len(largest) > MOST_KINDS:
        rest = largest[MOST_KINDS - 1 :]
        largest = [*largest[: MOST_KINDS - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    names, numbers = zip(*reversed(largest), strict=True)
    bars = axis.barh(names, numbers, color=BAR, height=0.7)
    axis.bar_label(bars, padding=3, fontsize=8)
    axis.set(title=title, xlabel="videos", xlim=(0, 1.12 * max(numbers)))
    _clean(axis)


def _clean(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def draw_classes(counts: Mapping[str, Mapping[str, int]], picture: Path) -> None:
    """Videos of each class, the fullest first, the splits on top of one another. counts: split -> class -> videos"""
    totals = {name: sum(split[name] for split in counts.values()) for name in next(iter(counts.values()))}
    names = sorted(totals, key=lambda name: -totals[name])
    few = len(names) <= MOST_CLASSES
    width = min(max(0.16 * len(names) + 2, 6.0), 22.0)
    figure, axis = plt.subplots(figsize=(width, 4.6), layout="constrained")
    below = np.zeros(len(names))
    for (split, numbers), colour in zip(counts.items(), SPLIT_COLOURS, strict=False):
        values = np.array([numbers[name] for name in names])
        axis.bar(range(len(names)), values, 0.8 if few else 1.0, below, color=colour, label=f"{split}: {values.sum()}")
        below += values
    axis.set_xticks(range(len(names)) if few else [], [*map(_plain, names)] if few else [], rotation=90, fontsize=7)
    axis.set(ylabel="videos", xlim=(-0.7, len(names) - 0.3), title=_classes(list(totals.values())))
    axis.legend(frameon=False)
    _clean(axis)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def _classes(totals: Sequence[int]) -> str:
    empty = totals.count(0)
    return f"{len(totals)} classes" + (f", {empty} of them without a video" if empty else "")


def draw_contact_sheet(shown: Mapping[str, Entry], options: ReadOptions, picture: Path) -> None:
    """One middle frame of each class. shown: name of the class -> a video of it"""
    chosen = list(shown.items())[:MOST_CLASSES]
    columns = min(len(chosen), max(4, round((1.2 * len(chosen)) ** 0.5)))
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.6 * columns, 1.42 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, entry) in zip(axes.flat, chosen, strict=False):
        axis.set_title(_plain(name if len(name) <= 22 else f"{name[:21]}…"), fontsize=6.5, pad=2)
        axis.imshow(_middle_frame(entry, options))
    figure.savefig(picture, dpi=150)
    plt.close(figure)


def _plain(name: str) -> str:
    """For matplotlib, to which two dollars are the ends of a formula."""
    return name.replace("$", r"\$").encode(errors="replace").decode()


def _middle_frame(entry: Entry, options: ReadOptions) -> np.ndarray:
    """uint8 (H, W, C), made small; grey where the file has become unreadable since it was looked at."""
    try:
        middle = torch.tensor([[entry.num_frames // 2]])
        clips, _ = read_clips(entry.path, lambda num_frames, fps: middle, "auto", known_of(entry), options)
        frame = clips[0]  # (1, C, H, W)
    except DecodeError:
        return np.full((3, 4, 3), 128, np.uint8)
    scale = TILE / max(frame.shape[-2:])
    size = [max(1, round(scale * side)) for side in frame.shape[-2:]]
    return F.resize(frame, size, antialias=True)[0].permute(1, 2, 0).numpy()
