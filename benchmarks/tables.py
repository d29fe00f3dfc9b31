"""What benchmarks/models.py has read, as Markdown and as CSV."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

COMPARED = {"s", "MiB"}  # less is better; a rate or a share says the same again


@dataclass(frozen=True)
class Readings:
    """columns: {"peer" or "ours", perhaps "peer compiled", ...: a value for each round, or one where it is counted}"""

    model: str
    measure: str
    unit: str
    columns: dict[str, list[float]]


def paired(peer: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Peer / ours of each round: above 1 where ours takes less."""
    return [theirs / mine for theirs, mine in zip(peer, ours, strict=True)]


def ratios(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """As run, both compiled, and the better of the peer's columns against the better of ours, where there are two."""
    found = {"peer / ours": paired(columns["peer"], columns["ours"])}
    if "peer compiled" in columns:
        found["compiled"] = paired(columns["peer compiled"], columns["ours compiled"])
        found["better / better"] = paired(*(columns[better(columns, side)] for side in ("peer", "ours")))
    return found


def better(columns: dict[str, list[float]], side: str) -> str:
    """The column of `side`, as run or compiled, with the smaller median."""
    return min((name for name in columns if name.startswith(side)), key=lambda name: median(columns[name]))


def table(readings: Sequence[Readings], compiled: bool) -> str:
    """Markdown: a row for each measure, medians with ranges."""
    heads = ["peer", "ours", "peer / ours"]
    if compiled:
        heads += ["peer compiled", "ours compiled", "compiled", "better / better"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for row in readings:
        cells = {name: with_range(values, short) for name, values in row.columns.items()}
        if row.unit in COMPARED:
            cells |= {name: with_range(values, "{:.2f}".format) for name, values in ratios(row.columns).items()}
        name = f"{row.measure}, {row.unit}" if row.unit else row.measure
        lines.append(f"| {name} | {' | '.join(cells.get(head, '') for head in heads)} |")
    return "\n".join(lines)


def with_range(values: Sequence[float], written: Callable[[float], str]) -> str:
    """Median (least to greatest); one value is written alone."""
    middle = written(median(values))
    return middle if len(values) == 1 else f"{middle} ({written(min(values))} to {written(max(values))})"


def short(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def operations_table(column: str, operations: Sequence[tuple[str, int, float, float]]) -> str:
    """(name, calls, milliseconds, share) of the longest."""
    lines = [f"| {column}: training step | calls | ms | share |", "|---|---|---|---|"]
    for name, calls, milliseconds, share in operations:
        name = name.replace("|", "/")
        name = name if len(name) <= 70 else f"{name[:67]}..."
        lines.append(f"| `{name}` | {calls} | {short(milliseconds)} | {share:.1%} |")
    return "\n".join(lines)


def write_csv(path: Path, readings: Sequence[Readings]) -> None:
    """A line for each reading; rounds count from 1."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "measure", "unit", "column", "round", "value"])
        for row in readings:
            for column, values in row.columns.items():
                for i, value in enumerate(values):
                    writer.writerow([row.model, row.measure, row.unit, column, i + 1, value])
