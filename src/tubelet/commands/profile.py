"""tubelet profile: what models cost, counted without computing; no data and no weights are needed."""

import argparse
import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tubelet.training.launch import compose_config, config_dir, told_in_one_line

HELP = """usage: tubelet profile model=NAME [overrides of conf/train.yaml] [--out FOLDER]
       tubelet profile note [--out FOLDER]

Counts parameters, multiply-accumulates (MACs), tokens and the activations that a training step keeps, of a model with
400 classes (model.num_classes=...) in conf/model.

Values separated by commas give the product of all, as in a sweep, with cost.csv and cost.png in runs/profile or in the
FOLDER of --out: the cost over the frames T of a clip and over the tokens N of a frame, with the slopes of log over log:

    tubelet profile model=vivit_joint,timesformer clip.num_frames=8,16,32 clip.crop=112,224

`note` prints the complexity table of the note (sections 1 to 3) with real numbers, at T = 32 and N = 196.
docs/cost.md tells how things are counted, and holds the tables."""

NUM_CLASSES = 400  # Kinetics-400, for which papers print their figures
COLUMNS = {  # of cost.csv, and their heads on the screen
    "model": "model",
    "num_frames": "T",
    "frame_tokens": "N",
    "tokens": "tokens",
    "parameters": "params M",
    "attention_macs": "attention G",
    "macs": "all G",
    "attention_macs_as_run": "att. as run G",
    "macs_as_run": "all as run G",
    "kept_bytes": "kept MiB",
    "views": "views",
}
SCALES = {"parameters": 1e6, "kept_bytes": 2**20}  # beside MACs, which are in G


def run() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--out", type=Path, default=Path("runs", "profile"))
    told, overrides = parser.parse_known_args()
    if not overrides or {"-h", "--help"} & set(overrides):
        print(HELP)
        return
    with told_in_one_line():
        if overrides == ["note"]:
            _note(told.out)
            return
        if "note" in overrides:
            raise ValueError("note stands alone: tubelet profile note [--out FOLDER]")
        jobs = list(product(overrides))
        if len(jobs) == 1:
            _one(jobs[0])
        else:
            _several(jobs, told.out)


def product(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Hydra's sweep syntax: every combination of values that are separated by commas."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with initialize_config_dir(config_dir(), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()  # which knows what model=glob(...) stands for
    parsed = OverridesParser.create(loader).parse_overrides(list(overrides))
    choices = []
    for override in parsed:
        key = override.get_key_element()
        values = override.sweep_string_iterator() if override.is_sweep_override() else None
        choices.append([f"{key}={value}" for value in values] if values else [override.input_line])
    return (list(chosen) for chosen in itertools.product(*choices))


def composed(overrides: Sequence[str]) -> Any:
    """The config with the number of classes filled in; a model is as in its yaml unless a recipe is asked for."""
    named = any(override.startswith("recipe=") for override in overrides)
    cfg = compose_config("train", overrides if named else ["recipe=none", *overrides])
    if cfg.model.num_classes is None:
        cfg.model.num_classes = NUM_CLASSES
    return cfg


def measure(cfg: Any) -> Any:
    from tubelet.analysis.cost import count
    from tubelet.training.build import build_model
    from tubelet.training.speed import recompute_blocks

    def build() -> Any:
        model = build_model(cfg.model, cfg.model.num_classes)
        if cfg.activation_checkpointing:
            recompute_blocks(model)
        return model

    crop = cfg.clip.crop if isinstance(cfg.clip.crop, int) else tuple(cfg.clip.crop)
    return count(build, cfg.clip.num_frames, crop)


def _one(overrides: list[str]) -> None:
    from inspect import getdoc

    from hydra.utils import get_class

    cfg = composed(overrides)
    cost, words = measure(cfg), getdoc(get_class(cfg.model._target_)) or ""
    print(f"{words.splitlines()[0]}")
    print(f"{cfg.clip.num_frames} frames of {cfg.clip.crop} pixels, {cfg.model.num_classes} classes\n")
    views = cfg.views.clips * cfg.views.crops
    columns = [(cost.attention_macs(run), cost.linear_macs(run), cost.macs(run)) for run in (False, True)]
    names = ("attention", "linear and convolution", "all, a clip")
    print(f"{'parameters':34}{cost.parameters / 1e6:14.2f} M\n")
    print(f"{'multiply-accumulates':34}{'as published':>16}{'as run':>16}")
    for name, *values in zip(names, *columns, strict=True):
        _print_macs(name, values)
    _print_macs(
        f"all, a video of {cfg.views.clips} x {cfg.views.crops} views", [column[2] * views for column in columns]
    )
    print()
    for step in cost.steps:
        print(f"{'tokens x width, ' + step.name:34}{step.tokens:>14} x {step.width}")
    for call, times in cost.published.attention.items():
        shape = f"{call.sequences} x {call.heads} heads x {call.queries} queries x {call.keys} keys, {call.width} wide"
        print(f"{f'attention, {times} times':34}{shape:>14}" + (f" + {call.padding} as run" if call.padding else ""))
    print(f"\n{'kept for the backward, a clip':34}{cost.kept_bytes / 2**20:14.1f} MiB in float32")


def _print_macs(name: str, values: Sequence[int]) -> None:
    print(f"{name:34}" + "".join(f"{_short(value / 1e9):>14} G" for value in values))


def _several(jobs: list[list[str]], out: Path) -> None:
    """A line as soon as its model is counted; what a model refuses is told, and the others go on.

    Raises ValueError at the end where there was any such.
    """
    from tubelet.training.explain import one_line

    swept = {part for job in jobs for part in job if any(part not in other for other in jobs)}
    rows: list[dict[str, Any]] = []
    width = max(len(_name(job, swept)) for job in jobs) + 2
    print(f"{'model':{width}}" + "".join(f"{head:>14}" for head in list(COLUMNS.values())[1:]))
    for job in jobs:
        name = _name(job, swept)
        try:
            cfg = composed(job)
            cost = measure(cfg)
        except Exception as error:
            line = one_line(error, config_dir())
            if line is None:
                raise
            print(f"{name:{width}}  {line}", flush=True)
            continue
        rows.append(_row(name, cfg, cost))
        print(f"{name:{width}}" + "".join(f"{_shown(k, v):>14}" for k, v in list(rows[-1].items())[1:]), flush=True)
    if not rows:
        raise ValueError("not one of these could be counted; see above")
    _write(out / "cost.csv", rows)
    from tubelet.analysis.scaling import Point

    picked = ("model", "num_frames", "frame_tokens", "attention_macs", "macs")
    _fit([Point(*(row[key] for key in picked)) for row in rows], out / "cost.png")
    if len(rows) < len(jobs):
        raise ValueError(f"{len(jobs) - len(rows)} of {len(jobs)} could not be counted; see above")


def _name(job: list[str], swept: set[str]) -> str:
    """The model, and what else differs; the size of the clip has columns of its own."""
    own = ("clip.num_frames=", "clip.crop=")
    parts = [part.removeprefix("model=") for part in job if part.startswith("model=") or part in swept]
    return " ".join(part for part in parts if not part.startswith(own)) or "model"


def _row(name: str, cfg: Any, cost: Any) -> dict[str, Any]:
    values = (
        name,
        cfg.clip.num_frames,
        cost.frame_tokens,
        cost.steps[0].tokens,
        cost.parameters,
        cost.attention_macs(),
        cost.macs(),
        cost.attention_macs(as_run=True),
        cost.macs(as_run=True),
        cost.kept_bytes,
        cfg.views.clips * cfg.views.crops,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _shown(key: str, value: Any) -> str:
    scale = 1e9 if "macs" in key else SCALES.get(key)
    return str(value) if scale is None else _short(value / scale)


def _short(value: float) -> str:
    """Two places, or three digits of what is below 1."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _fit(points: list[Any], picture: Path) -> None:
    """Print the slopes and draw the lines, where the sizes make any."""
    from tubelet.analysis.scaling import LETTERS, lines_along

    drawn = 0
    for letter, words in LETTERS.items():
        for line in lines_along(letter, points):
            drawn += 1
            print(f"over the {words}: {line}")
    written = [picture.with_name("cost.csv")]
    if drawn:
        from tubelet.analysis.plots import draw_costs

        draw_costs(points, picture)
        written.append(picture)
    print(f"written: {', '.join(map(str, written))}")


def _note(out: Path) -> None:
    """The note's table as text that can be pasted into a page, a row as soon as it is counted."""
    from dataclasses import asdict

    from tubelet.analysis import note

    print(
        f"One block of width {note.DIM}, {note.HEADS} heads; T = {note.NUM_FRAMES}, N = 196, L = T N = 6272.\n",
        flush=True,
    )
    print(note.HEAD)
    rows = []
    for row in note.rows():
        rows.append(asdict(row) | {"tokens": " ".join(map(str, row.tokens))})
        print(row.markdown(), flush=True)
    _write(out / "cost.csv", rows)
    print(flush=True)
    _fit(list(note.points()), out / "cost.png")
