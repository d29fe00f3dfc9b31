"""Pictures of a run (learning curves, confusion matrix, orders of frames), and of what models cost."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no screen is needed
import matplotlib.pyplot as plt
import numpy as np

from tubelet.analysis.scaling import LETTERS, Point, lines_along


def read_columns(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """metrics.csv -> for each metric its steps and values; a row of the file holds only what was logged together."""
    columns: dict[str, tuple[list[float], list[float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    steps, values = columns.setdefault(name, ([], []))
                    steps.append(float(row["step"]))
                    values.append(float(value))
    return columns


def draw_curves(metrics_csv: Path, picture: Path) -> None:
    """Loss, accuracy and learning rate over optimiser steps, one panel each."""
    columns = read_columns(metrics_csv)
    panels = {"loss": "loss", "top": "accuracy", "lr": "learning rate"}
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.6), layout="constrained")
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        for name, (steps, values) in columns.items():
            if key in name and not name.startswith("test/"):
                axis.plot(steps, values, label=name, marker="." if len(values) < 40 else None)
        axis.set(title=title, xlabel="optimiser step")
        axis.grid(alpha=0.3)
        if axis.lines:  # a run of few steps may have logged no learning rate
            axis.legend(fontsize="small")
    axes[1].set_ylim(0, 1)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def confusion(predictions_csv: Path) -> tuple[list[str], np.ndarray]:
    """Class names, and counts (label, prediction); the last column counts videos that could not be read."""
    with open(predictions_csv, newline="") as file:
        rows = [(row["label"], row["predicted"]) for row in csv.DictReader(file)]
    names = sorted({name for row in rows for name in row if name})
    counts = np.zeros((len(names), len(names) + 1), dtype=int)
    for label, predicted in rows:
        counts[names.index(label), names.index(predicted) if predicted else -1] += 1
    return names, counts


def draw_confusion(predictions_csv: Path, picture: Path) -> None:
    """Share of each class's videos by the answer given; numbers where there are at most 25 classes."""
    names, counts = confusion(predictions_csv)
    if not counts[:, -1].any():
        counts = counts[:, :-1]
    answers = [*names, "unreadable"][: counts.shape[1]]
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    side = max(4.0, min(0.45 * len(names) + 2, 24))
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 8 if len(names) <= 40 else 4
    axis.set_xticks(range(len(answers)), answers, rotation=90, fontsize=size)
    axis.set_yticks(range(len(names)), names, fontsize=size)
    axis.set(xlabel="answer", ylabel="class")
    if len(names) <= 25:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                ink = "w" if shares[i, j] > 0.5 else "k"
                axis.text(j, i, str(count), ha="center", va="center", color=ink, fontsize=7)
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the class")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def draw_orders(figures: dict[str, dict[str, float]], picture: Path) -> None:
    """Top-1 for each order of frames, and within twin pairs where the data has them."""
    figure, axis = plt.subplots(figsize=(1.1 * len(figures) + 2, 3.8), layout="constrained")
    place, width = np.arange(len(figures)), 0.4
    axis.bar(place - width / 2, [f["top1"] for f in figures.values()], width, label="top-1")
    if all(f.get("within_twins") is not None for f in figures.values()):
        axis.bar(place + width / 2, [f["within_twins"] for f in figures.values()], width, label="within twin pairs")
        axis.axhline(0.5, color="k", linewidth=0.8, linestyle="--", label="blind to order")
    axis.set_xticks(place, list(figures), rotation=30, ha="right")
    axis.set_ylim(0, 1)
    axis.legend(fontsize="small")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def draw_costs(points: list[Point], picture: Path) -> None:
    """Multiply-accumulates over T and over N, log-log: solid all, dashed attention, with the slopes of both."""
    drawn = {letter: lines for letter in LETTERS if (lines := lines_along(letter, points))}
    if not drawn:
        raise ValueError("no two of the models differ in T or in N alone, so there is no line to draw")
    figure, axes = plt.subplots(1, len(drawn), figsize=(7 * len(drawn), 7), layout="constrained", squeeze=False)
    for axis, (letter, lines) in zip(axes[0], drawn.items(), strict=True):
        for i, line in enumerate(lines):
            colour = f"C{i % 10}"
            slopes = "{:.2f} of attention, {:.2f} of all".format(*line.slopes)
            axis.plot(line.sizes, np.array(line.macs) / 1e9, "o-", color=colour, label=f"{line.name}: {slopes}")
            axis.plot(line.sizes, np.array(line.attention_macs) / 1e9, "o--", color=colour, mfc="w")
        axis.set(xscale="log", yscale="log", xlabel=LETTERS[letter], ylabel="GMACs: solid all, dashed attention")
        sizes = sorted({size for line in lines for size in line.sizes})
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize="x-small", title="slopes of log over log", loc="upper center", bbox_to_anchor=(0.5, -0.1))
    figure.savefig(picture, dpi=120)
    plt.close(figure)
