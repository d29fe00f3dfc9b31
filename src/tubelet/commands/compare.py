"""tubelet compare: two evaluations of the same videos, and whether their difference is more than chance."""

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tubelet.commands.table import elided, markdown
from tubelet.evaluation.whole import written_whole

if TYPE_CHECKING:  # so that --help answers at once
    from tubelet.analysis.evaluated import Evaluation
    from tubelet.analysis.paired import ClassPair, Pair

ABOUT = """Compare two evaluated runs video by video: the difference of their top-1 with an interval over the
videos, McNemar's exact test, and gains and losses by class (docs/compare.md). They must be of the same videos, under
the same protocol; data.root may differ, as it does on two machines."""
MOST_CLASSES = 20  # on the screen
PATH_LETTERS = 91  # in the picture
HEADS = ("class", "videos", "top-1 A", "top-1 B", "only A right", "only B right", "B - A", "p", "p (Holm)")


def run() -> None:
    parser = argparse.ArgumentParser(prog="tubelet compare", description=ABOUT)
    parser.add_argument("a", type=Path, help="the folder of a run or of an evaluation, or a predictions.csv")
    parser.add_argument("b", type=Path, help="another one; figures are those of B less those of A")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="for compare.csv and compare.png")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument(
        "--protocols-may-differ",
        action="store_true",
        help="compare other clips or views too; both are told",
    )
    given = parser.parse_args()
    if given.seed < 0:
        sys.exit(f"error: --seed {given.seed} is negative")

    from tubelet.analysis.evaluated import below_roots, check_comparable, read_evaluation

    try:
        a, b = below_roots(read_evaluation(given.a), read_evaluation(given.b))
        check_comparable(a, b, given.protocols_may_differ)
    except ValueError as error:
        sys.exit(f"error: {error}")
    _compare(a, b, given)


def _compare(a: "Evaluation", b: "Evaluation", given: argparse.Namespace) -> None:
    import numpy as np

    from tubelet.analysis.paired import by_class, count
    from tubelet.analysis.paired_plots import draw_gains

    videos = list(a.right)
    right_a, right_b = (np.array([one.right[video] for video in videos]) for one in (a, b))
    pair = count(right_a, right_b)
    classes = by_class([label for _, label in videos], right_a, right_b)
    lines = told(pair, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    write_classes(classes, given.out / "compare.csv")
    paths = [f"{name}: {os.path.relpath(one.path)}" for name, one in zip("AB", (a, b), strict=True)]
    draw_gains(classes, [*elided(paths, PATH_LETTERS), lines[0], lines[1]], given.out / "compare.png")
    for name, one, top1 in zip("AB", (a, b), pair.top1, strict=True):
        print(f"{name}  top-1 {top1:.4f}  {os.path.relpath(one.path)}")
    protocols = {name: one.protocol or "not known" for name, one in zip("AB", (a, b), strict=True)}
    of = {"A and B": protocols["A"]} if protocols["A"] == protocols["B"] else protocols
    print("\n".join(f"protocol of {name}: {protocol}" for name, protocol in of.items()))
    print("\n".join(lines))
    if a.unreadable or b.unreadable:
        of_both = len(a.unreadable & b.unreadable)
        print(f"unreadable, counted as wrong: {len(a.unreadable)} in A, {len(b.unreadable)} in B, {of_both} in both")
    print()
    _print_classes(classes)
    print(f"written: {os.path.relpath(given.out)}/{{compare.csv,compare.png}}")


def told(pair: "Pair", seed: int) -> list[str]:
    """The difference, the test and the counts: a line each; and what a small p is not about."""
    from tubelet.analysis.paired import LEVEL, NUM_RESAMPLES, difference_interval, mcnemar

    low, high = difference_interval(pair, seed)
    p = mcnemar(pair.only_a, pair.only_b)
    verdict = "more than chance" if p < LEVEL else "chance alone may do this"
    disagree = [  # the other way round was never seen: the exact test is the stricter of the two
        f"the interval excludes 0 all the same: with {pair.only_a + pair.only_b} videos on which the models differ it "
        "is an approximation; the test is exact, and holds"
    ]
    of_seeds = ["of these two trained models, that is; two seeds of one training may differ as much (docs/compare.md)"]
    return [
        f"B - A: {pair.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} "
        f"({NUM_RESAMPLES:,} resamples of {pair.videos} videos)",
        f"McNemar's exact test: p = {p:.3g}, {verdict}",
        *disagree * (p >= LEVEL and (low > 0 or high < 0)),
        f"right in both {pair.both}, only in A {pair.only_a}, only in B {pair.only_b}, in neither {pair.neither}",
        *of_seeds * (p < LEVEL),
    ]


def _print_classes(classes: "list[ClassPair]") -> None:
    from tubelet.analysis.paired_plots import ends

    shown = ends(classes, MOST_CLASSES)
    print("\n".join(markdown([HEADS, *(cells(one) for one in shown)])))
    if len(shown) < len(classes):
        print(f"the largest gains and losses; {len(classes) - len(shown)} classes between them stand in compare.csv")
    differing = ", ".join(f"{one.name} ({one.pair.difference:+.2f})" for one in classes if one.differs)
    print(f"more than chance after Holm's correction for {len(classes)} classes: {differing or 'none'}")


def cells(one: "ClassPair") -> tuple[str, ...]:
    top1_a, top1_b = one.pair.top1
    numbers = (one.pair.only_a, one.pair.only_b)
    figures = (f"{top1_a:.4f}", f"{top1_b:.4f}", *map(str, numbers), f"{one.pair.difference:+.4f}")
    return (one.name, str(one.pair.videos), *figures, f"{one.p:.2g}", f"{one.p_holm:.2g}{'*' * one.differs}")


def write_classes(classes: "list[ClassPair]", path: Path) -> None:
    """A row a class, unrounded."""
    with written_whole(path) as new, open(new, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        counts = ("both_right", "only_a_right", "only_b_right", "neither_right")
        rows.writerow(["class", "videos", "top1_a", "top1_b", "difference", *counts, "p", "p_holm", "differs"])
        for one in classes:
            pair = one.pair
            figures = (*pair.top1, pair.difference, pair.both, pair.only_a, pair.only_b, pair.neither)
            rows.writerow([one.name, pair.videos, *figures, one.p, one.p_holm, int(one.differs)])
