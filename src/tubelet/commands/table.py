"""tubelet table: the runs of a sweep ranked, as text that can be pasted into a page, as CSV and as pictures."""

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tubelet.evaluation.whole import written_whole

if TYPE_CHECKING:  # so that --help answers at once
    from tubelet.analysis.comparison import Ranked
    from tubelet.analysis.runs import Run

ABOUT = """Rank all training runs in a folder and below. Runs that differ only in their seed, or
in the official split of UCF101 or HMDB51, are one row: the mean of their test top-1 (that of a seed is the mean over
its splits) and the standard deviation between the seeds. Rows tie where their 95 %% intervals overlap: Wilson's over
the test videos, and from two seeds on the t interval over them added in quadrature. That of one seed is of the videos
only, and too narrow: another seed may fall outside (docs/compare.md). MACs are those of one clip, as published
(docs/cost.md)."""
LETTERS = 31  # of a value on the screen
WITHOUT_ERROR = {
    "running": "still running, or killed",
    "interrupted": "ended by a signal",
    "stopped": "trainer.max_time was over; ckpt=last goes on",
    "pruned": "ended early by the search",
    "diverged": "its loss was no longer a number",
}
HEADS = (
    "test top-1",
    "95 % interval",
    "ties with",
    "seeds",
    "best validation",
    "params M",
    "GMACs a clip",
    "train clips/s",
    "peak MiB",
    "not finished",
)


def run() -> None:
    parser = argparse.ArgumentParser(prog="tubelet table", description=ABOUT)
    parser.add_argument(
        "folder", type=Path, help="a sweep's folder, or any with runs below it; table.csv and table.png go there"
    )
    parser.add_argument(
        "--by",
        choices=("test", "val"),
        help="what to rank by, test top-1 or the best validation: val where the best is to be chosen. Without it: val "
        "where there are runs of a search, else test",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too, with whole names")
    given = parser.parse_args()
    folder = given.folder

    from tubelet.analysis.comparison import by_test, by_validation, compare, rank
    from tubelet.analysis.runs import is_of_search, read_runs

    try:
        runs, unreadable = read_runs(folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    by = given.by or ("val" if any(map(is_of_search, runs)) else "test")
    ranked = rank(compare(runs), by_validation if by == "val" else by_test)
    if by == "val" and len(monitors(ranked)) > 1:
        chosen = " and ".join(monitors(ranked))
        sys.exit(f"error: these runs chose their best by {chosen}, which have no common order; --by test ranks them")
    notes = [
        *choice(ranked, runs, by),
        *told(runs, unreadable),
        *(f"{one.row.name}: {note}" for one in ranked for note in one.row.notes),
    ]
    write_csv(ranked, folder)
    written = [folder / name for name in ("table.csv", *draw(ranked, by, folder))]
    if given.markdown:
        given.markdown.parent.mkdir(parents=True, exist_ok=True)
        whole = [*markdown(lines(ranked, folder, None)), "", *(f"- {note}" for note in notes)]
        with written_whole(given.markdown) as path:
            path.write_text("\n".join(whole).rstrip() + "\n", encoding="utf-8")
        written.append(given.markdown)
    print("\n".join([*markdown(lines(ranked, folder, LETTERS)), "", *notes]))  # last: who reads it may stop at any line
    print(f"written: {', '.join(map(os.path.relpath, written))}")


def choice(ranked: "Sequence[Ranked]", runs: "Sequence[Run]", by: str) -> Iterator[str]:
    """What a ranking may not be used for, where several rows are ranked."""
    from tubelet.analysis.runs import tests_validation

    data = list(dict.fromkeys(str(run.config["data"].get("root")) for run in runs if "data" in run.config))
    names = list(dict.fromkeys(Path(root).name for root in data))
    num = sum(one.rank is not None for one in ranked)
    if len(names) > 1 and num > 1:
        yield f"tested on other videos ({', '.join(names)}): ranks and ties between these rows say nothing"
    too_good = f"the test top-1 of the best of {num} rows is too good by chance"
    if num > 1 and any(map(tests_validation, runs)):
        yield f"validation and test are the same videos, so {too_good}, whichever of them ranks"
    elif num > 1 and by == "test":
        yield f"ranked by the test: {too_good}; choose with --by val, and report the test top-1 of the row chosen"
    elif num > 1:
        best = f"the {'least' if ranked[0].row.least else 'highest'} {monitors(ranked)[0]}"
        yield f"ranked by {best}, to choose with; report the test top-1 of the row chosen"


def told(runs: "Sequence[Run]", unreadable: dict[Path, str]) -> Iterator[str]:
    """A line for each run that did not finish, and for each record that cannot be read: where and why."""
    for one in runs:
        if not one.finished:
            status = one.record["status"]
            why = one.record.get("error") or WITHOUT_ERROR.get(status, "no error recorded")
            yield f"{status}: {os.path.relpath(one.folder)}: {' '.join(str(why).split())}"
    for path, why in unreadable.items():
        yield f"unreadable: {os.path.relpath(path)}: {why}"


def lines(ranked: "Sequence[Ranked]", folder: Path, letters: int | None) -> list[tuple[str, ...]]:
    """The head and a line for each row. A column for each override that differs; `letters` of a value at most."""
    from tubelet.analysis.comparison import override_columns

    rows = [one.row for one in ranked]
    columns = override_columns(rows)
    if not columns or ("model" not in columns and len({row.recorded_name for row in rows}) > 1):
        columns = {"run": [row.recorded_name for row in rows], **columns}
    if all(path.name.isdigit() and path.parent == folder for row in rows for path in row.folders):
        columns = {"job": [ranges([int(path.name) for path in row.folders]) for row in rows], **columns}
    ranks = [shown(one.rank, ".0f") for one in ranked]
    named = [values if letters is None else elided(values, letters) for values in columns.values()]
    body = [(*names, *cells(one)) for one, *names in zip(ranked, ranks, *named, strict=True)]
    heads = [" or ".join(monitors(ranked)) if head == "best validation" else head for head in HEADS]
    return [("rank", *columns, *heads), *body]


def monitors(ranked: "Sequence[Ranked]") -> list[str]:
    """The figures of the validation that chose the best checkpoints, in words: val top-1."""
    names = (one.row.monitor for one in ranked)
    return list(dict.fromkeys(name.replace("/", " ").replace("top1", "top-1") for name in names))


def cells(one: "Ranked") -> tuple[str, ...]:
    """The figures of a row as text; what is not known is '-'."""
    row = one.row
    spread = "" if row.top1_spread is None else f" ± {row.top1_spread:.4f}"
    of_videos = ", videos only" * row.videos_only
    return (
        shown(row.top1, ".4f") + spread,
        "-" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}{of_videos}",
        ranges(one.ties) or "-",
        f"{row.seeds} x {row.splits} splits" if row.splits > 1 else str(row.seeds),
        shown(row.val, ".4f"),
        shown(row.parameters, ".2f", 1e6),
        shown(row.macs, ".2f" if (row.macs or 0) >= 1e9 else ".3g", 1e9),
        shown(row.clips_per_second, ".0f"),
        shown(row.peak_memory_mib, ".0f"),
        row.not_finished or "-",
    )


def ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as '1-3, 7'."""
    ordered = sorted(numbers)
    starts = [n for before, n in pairwise([None, *ordered]) if before is None or n > before + 1]
    ends = [n for n, after in pairwise([*ordered, None]) if after is None or after > n + 1]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def elided(names: list[str], letters: int) -> list[str]:
    """Long names without their middle, or as they are where two would then look alike. table.csv has them whole."""
    half = (letters - 1) // 2
    short = [f"{name[:half]}…{name[-half:]}" if len(name) > letters else name for name in names]
    return short if len(set(short)) == len(set(names)) else names


def shown(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else f"{value / scale:{form}}"


def markdown(lines: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, those of numbers to the right."""
    columns = list(zip(*lines, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [all(cell[0].isdigit() or cell[0] in "+-" for cell in column[1:]) for column in columns]
    rule = ["-" * (width - 1) + ":" if is_right else "-" * width for width, is_right in zip(widths, right, strict=True)]
    rows = []
    for line in [lines[0], rule, *lines[1:]]:
        cells = zip(line, widths, right, strict=True)
        padded = [cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells]
        rows.append(f"| {' | '.join(padded)} |")
    return rows


def write_csv(ranked: "Sequence[Ranked]", folder: Path) -> None:
    """Everything unrounded; folders by their place in `folder`, several of them joined by ';'."""
    from tubelet.analysis.comparison import override_keys

    keys = override_keys([one.row for one in ranked])
    apart = ("overrides", "folders", "interval", "notes")
    figures = [field.name for field in fields(ranked[0].row) if field.name not in apart]
    more = ["top1_low", "top1_high", "interval_of", "ties_with", "folders", "notes"]
    with (
        written_whole(folder / "table.csv") as path,
        open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(["rank", *(f"{key}=" if key in figures else key for key in keys), *figures, *more])
        for one in ranked:
            row, ties = one.row, ";".join(map(str, one.ties))
            folders = ";".join(os.path.relpath(path, folder) for path in row.folders)
            overrides = [row.overrides.get(key) for key in keys]
            told = [getattr(row, name) for name in figures]
            ends = row.interval or (None, None)
            of = None if row.interval is None else "videos" if row.videos_only else "videos and seeds"
            rows.writerow([one.rank, *overrides, *told, *ends, of, ties, folders, "; ".join(row.notes)])


def draw(ranked: "Sequence[Ranked]", by: str, folder: Path) -> list[str]:
    """Returns the names of the pictures, none where no run has finished."""
    from tubelet.analysis.table_plots import draw_metrics, draw_search, numeric_overrides

    if ranked[0].rank is None:
        return []
    draw_metrics(ranked, folder / "table.png")
    if len(numeric_overrides(ranked)) < 2:
        return ["table.png"]
    title = "test top-1" if by == "test" else f"{'-' * ranked[0].row.least}{monitors(ranked)[0]}"
    draw_search(ranked, title, folder / "search.png")
    return ["table.png", "search.png"]
