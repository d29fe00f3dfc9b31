"""tubelet table: the runs of a sweep side by side, as text that can be pasted into a page, and as CSV."""

import argparse
import csv
import os
import sys
from dataclasses import asdict
from pathlib import Path

ABOUT = """Compare all training runs in a folder and below. Runs that differ only in their seed, or
in the official split of UCF101 or HMDB51, are one row: the mean of their test top-1 and the standard deviation between
them. MACs are those of one clip, as published (docs/cost.md)."""
NAME_LETTERS = 61  # of a run's name on the screen
HEADS = (
    "run",
    "test top-1",
    "seeds",
    "val top-1",
    "params M",
    "GMACs a clip",
    "train clips/s",
    "peak MiB",
    "not finished",
)


def run() -> None:
    parser = argparse.ArgumentParser(prog="tubelet table", description=ABOUT)
    parser.add_argument("folder", type=Path, help="a sweep's folder, or any with runs below it; table.csv goes there")
    folder = parser.parse_args().folder

    from tubelet.analysis.comparison import compare
    from tubelet.analysis.runs import read_runs

    try:
        runs, unreadable = read_runs(folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    rows = compare(runs)
    names = elided([row.name for row in rows])
    print_markdown([HEADS, *((name, *cells(row)) for name, row in zip(names, rows, strict=True))])
    print()
    for one in runs:
        if not one.finished:
            print(
                f"{one.record['status']}: {os.path.relpath(one.folder)}: {one.record.get('error', 'no error recorded')}"
            )
    for path, why in unreadable.items():
        print(f"unreadable: {os.path.relpath(path)}: {why}")
    for row in rows:
        if row.repeated:
            print(f"repeated: {row.name}: {row.repeated}; their mean counts, as of one seed")
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    print(f"written: {os.path.relpath(folder / 'table.csv')}")


def cells(row) -> tuple[str, ...]:
    """A row of the comparison as text, without its name; what is not known is '-'."""
    spread = "" if row.top1_spread is None else f" ± {row.top1_spread:.4f}"
    return (
        shown(row.top1, ".4f") + spread,
        f"{row.seeds} x {row.splits} splits" if row.splits > 1 else str(row.seeds),
        shown(row.val_top1, ".4f"),
        shown(row.parameters, ".2f", 1e6),
        shown(row.macs, ".2f" if (row.macs or 0) >= 1e9 else ".3g", 1e9),
        shown(row.clips_per_second, ".0f"),
        shown(row.peak_memory_mib, ".0f"),
        row.not_finished or "-",
    )


def elided(names: list[str]) -> list[str]:
    """Long names without their middle, or as they are where two would then look alike. table.csv has them whole."""
    half = (NAME_LETTERS - 1) // 2
    short = [f"{name[:half]}…{name[-half:]}" if len(name) > NAME_LETTERS else name for name in names]
    return short if len(set(short)) == len(set(names)) else names


def shown(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else f"{value / scale:{form}}"


def print_markdown(lines: list[tuple[str, ...]]) -> None:
    """Columns of equal width: the first to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for line in [lines[0], tuple(rule), *lines[1:]]:
        numbers = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print(f"| {' | '.join([line[0].ljust(widths[0]), *numbers])} |")
