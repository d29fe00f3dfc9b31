"""tubelet scan: look at every video of a data set once, say what is wrong with it, and leave the index behind."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tubelet.training.launch import compose_config, told_in_one_line
from tubelet.video.annotations import Video
from tubelet.video.census import Census, take_census
from tubelet.video.index import INDEX_NAME, Entry

if TYPE_CHECKING:  # --help must not wait for torch
    from tubelet.video.open import ReadOptions

HELP = """usage: tubelet scan data=NAME [overrides of conf/train.yaml] [options]
       tubelet scan FOLDER [data.index=FILE] [options]
       tubelet scan FOLDER data.reader=frames [data.frame_names=...] [data.first_frame=N] [data.index=FILE] [options]

Decodes every video of all splits once, or every video file (or folder of frames) in FOLDER and below. Writes what it
finds to the index, which training and evaluation then use, tells what is missing, broken, damaged, too short, there
twice or wrongly labelled, and writes scan.json and pictures. It can be interrupted: the same command goes on where it
stopped, and files that have not changed since are not looked at again. docs/scan.md tells more.

  --out FOLDER        for scan.json and the pictures (default: runs/scan/NAME)
  --num-workers N     files looked at side by side (default: one a CPU core)
  --seconds S         for decoding a file, and 3 more for each MB of it, before it counts as hanging (default: 60)
  --again             look at every file again, also where the index is current

Exit code 1: videos are missing or broken, a video is in two splits, or labels are wrong; 0 otherwise."""


def run() -> None:
    parser = argparse.ArgumentParser(prog="tubelet scan", add_help=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--again", action="store_true")
    told, overrides = parser.parse_known_args()
    if not overrides or {"-h", "--help"} & set(overrides):
        print(HELP)
        return
    with told_in_one_line():
        for name, value in (("--num-workers", told.num_workers), ("--seconds", told.seconds)):
            if value <= 0:
                raise ValueError(f"{name} {value} is not a positive number")
        sys.exit(_scan(told, overrides))


def _scan(told: argparse.Namespace, overrides: list[str]) -> int:
    from tubelet.analysis.census_report import lines
    from tubelet.video.scan import update_index

    is_data_set = re.match(r"-|.*=", overrides[0]) and not Path(overrides[0]).is_dir()
    data = _data_set(overrides) if is_data_set else _folder(overrides)
    videos = [video.path for listed in data.splits.values() for video in listed]
    try:
        found = update_index(data.index, videos, told.num_workers, told.seconds, told.again, data.options)
    except KeyboardInterrupt:
        print(f"what was looked at is in {data.index}; the same command goes on", file=sys.stderr)
        raise
    entries = {path: found[os.path.abspath(path)] for path in videos if os.path.abspath(path) in found}
    census = take_census(data.splits, data.classes, entries, data.clip_frames, data.wrong_labels)
    out = told.out or Path("runs", "scan", data.name)
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*lines(census), "", f"index: {os.path.relpath(data.index)}"])
    print(text.encode(errors="backslashreplace").decode(), flush=True)
    written = _write(census, data, entries, out)
    print(f"written: {os.path.relpath(out)}/{{{','.join(written)}}}")
    return int(census.is_wrong())


class Data(NamedTuple):
    """clip_frames: that a dense clip spans, at the rate of the file; None for any other clip."""

    name: str
    splits: Mapping[str, Sequence[Video]]
    classes: Sequence[str]
    index: Path
    clip_frames: int | None
    options: ReadOptions
    wrong_labels: Mapping[str, str]


def _data_set(overrides: list[str]) -> Data:
    from tubelet.training.build_data import listed_catalogue
    from tubelet.video.open import ReadOptions, check_reader

    cfg = compose_config("train", overrides)
    catalogue = listed_catalogue(cfg.data)
    splits = {"train": catalogue.train, "val": catalogue.val, "test": catalogue.test}
    root = Path(cfg.data.root)
    is_dense = cfg.clip.sampling._target_.endswith(".Dense") and cfg.clip.fps is None
    span = (cfg.clip.num_frames - 1) * cfg.clip.stride + 1 if is_dense else None
    index = Path(cfg.data.index or root / INDEX_NAME)
    options = ReadOptions(frame_names=cfg.data.frame_names, first_frame=cfg.data.first_frame)
    check_reader(cfg.data.reader, options)
    return Data(root.absolute().name, splits, catalogue.classes, index, span, options, catalogue.wrong_labels())


def _folder(overrides: list[str]) -> Data:
    """All video files in a folder and below; with data.reader=frames, all folders of frames."""
    from tubelet.video.open import ReadOptions, check_reader
    from tubelet.video.scan import files_below, frame_folders_below

    folder, *others = overrides
    if not Path(folder).is_dir():
        what = f"it is a file; its folder is scanned by: tubelet scan {Path(folder).parent}"
        raise ValueError(
            f"{folder}: {what if Path(folder).exists() else 'there is no such folder; data=NAME names a data set'}"
        )
    given = _given(others)
    frames = given.get("data.reader") == "frames"
    first = given.get("data.first_frame")
    options = ReadOptions(frame_names=given.get("data.frame_names"), first_frame=int(first) if first else None)
    check_reader("auto", options)
    videos = [Video(path, 0) for path in (frame_folders_below if frames else files_below)(folder)]
    if not videos:
        kind = "folder of frames" if frames else "video file"
        other = "" if frames else "; folders of frames are looked for with data.reader=frames"
        raise ValueError(f"{folder}: no {kind} in it or below{other}")
    index = Path(given.get("data.index", Path(folder, INDEX_NAME)))
    return Data(Path(folder).absolute().name, {"videos": videos}, [], index, None, options, {})


def _given(overrides: list[str]) -> dict[str, str]:
    """Key -> value of what stands beside a folder. Raises ValueError where nothing there reads it."""
    given = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if not value or key not in ("data.index", "data.reader", "data.frame_names", "data.first_frame"):
            raise ValueError(f"{override}: beside a folder, only data.index=FILE and data.reader=frames can be given")
        given[key] = value.strip("'\"") if key == "data.frame_names" else value
    if given.get("data.reader", "frames") != "frames":
        raise ValueError(f"data.reader={given['data.reader']}: beside a folder, it can only be frames")
    for key in ("data.frame_names", "data.first_frame"):
        if key in given and "data.reader" not in given:
            raise ValueError(f"{key} is of folders of frames; they are looked for with data.reader=frames")
    if not given.get("data.first_frame", "0").isdecimal():
        raise ValueError(f"data.first_frame={given['data.first_frame']} is not a number from 0")
    return given


def _write(census: Census, data: Data, entries: Mapping[str, Entry], out: Path) -> list[str]:
    """scan.json and the pictures; returns their names."""
    from dataclasses import asdict

    from tubelet.analysis.census_plots import draw_classes, draw_contact_sheet, draw_videos
    from tubelet.training.json_files import write_json

    write_json(out / "scan.json", {"wrong": census.is_wrong(), **asdict(census)})
    good = [entry for entry in entries.values() if not entry.stage]
    written = ["scan.json"]
    if good:
        draw_videos(good, out / "videos.png")
        draw_contact_sheet(_one_of_each_class(data, entries), data.options, out / "contact_sheet.png")
        written += ["videos.png", "contact_sheet.png"]
    if census.counts:
        draw_classes(census.counts, out / "classes.png")
        written.append("classes.png")
    return written


def _one_of_each_class(data: Data, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Class -> the first video of it that can be read; without classes, file -> that file."""
    shown: dict[str, Entry] = {}
    for listed in data.splits.values():
        for path, label in listed:
            name = data.classes[label] if 0 <= label < len(data.classes) else os.path.basename(path)
            if path in entries and not entries[path].stage:
                shown.setdefault(name, entries[path])
    places = {name: place for place, name in enumerate(data.classes)}
    return dict(sorted(shown.items(), key=lambda pair: places.get(pair[0], len(places))))
