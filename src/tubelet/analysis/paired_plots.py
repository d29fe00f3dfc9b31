"""What one model gains and loses on each class against another, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no screen is needed
import matplotlib.pyplot as plt

from tubelet.analysis.paired import ClassPair

GAIN, LOSS = "#3b6ea5", "#e08e45"
MOST_CLASSES = 40  # of the picture: half of them the largest gains, half the largest losses


def draw_gains(classes: Sequence[ClassPair], lines: Sequence[str], picture: Path) -> None:
    """Bars of B's gain on each class, full colour where it is more than chance. lines: the title."""
    shown = ends(classes, MOST_CLASSES)
    figure, axis = plt.subplots(figsize=(9, 1.8 + 0.26 * len(shown)), layout="constrained")
    names = [f"{one.name}  ({one.pair.videos})" for one in shown]
    gains = [one.pair.difference for one in shown]
    place = range(len(shown))
    bars = axis.barh(place, gains, height=0.72, color=[GAIN if gain > 0 else LOSS for gain in gains])
    for bar, one in zip(bars, shown, strict=True):
        bar.set_alpha(1.0 if one.differs else 0.45)
    texts = [f"+{one.pair.only_b} -{one.pair.only_a}{' *' * one.differs}" for one in shown]
    axis.bar_label(bars, texts, padding=3, fontsize=8)
    axis.set_yticks(place, names, fontsize=9)
    axis.axvline(0, color="k", linewidth=0.8)
    reach = 1.25 * max([*map(abs, gains), 0.04])
    axis.set(xlim=(-reach, reach), ylim=(len(shown) - 0.4, -0.6), xlabel="top-1 of B less that of A")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    left_out = f"; {len(classes) - len(shown)} classes between are left out" if len(shown) < len(classes) else ""
    note = f"(videos of the class); +right in B alone, -right in A alone; * more than chance, Holm{left_out}"
    figure.suptitle("\n".join(lines), fontsize=10)
    axis.set_title(note, fontsize=8, color="0.35")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def ends(classes: Sequence[ClassPair], most: int) -> Sequence[ClassPair]:
    """The first and the last of them, `most` together."""
    return classes if len(classes) <= most else [*classes[: most // 2], *classes[-(most // 2) :]]
