"""tubelet transcode: measure whether smaller files with more key frames would train faster; with --yes, write them."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tubelet.training.launch import compose_config, told_in_one_line

if TYPE_CHECKING:  # --help must not wait for torch
    from tubelet.video.encode import Encoding
    from tubelet.video.known import KnownVideos
    from tubelet.video.trial import Measured

HELP = """usage: tubelet transcode data=NAME [overrides of conf/train.yaml] [options]
       tubelet transcode FOLDER [options]

Measures on 12 of the videos what loading a training clip costs as they are and re-encoded, and says whether it would
pay. With --yes it then writes all videos anew into another folder, which data.root=FOLDER trains on: H.264, the same
frames at the same times, short side and distance of key frames as given. FOLDER instead of data=NAME takes every video
file in it and below. It can be interrupted: the same command goes on where it stopped. docs/transcode.md tells more.

  --out FOLDER        for the new files, beside the old ones; needed with --yes
  --yes               re-encode all, whatever was measured
  --short-side PIXELS larger frames get this size, smaller ones keep theirs (default: 320)
  --gop FRAMES        from one key frame to the next (default: 12)
  --crf N             of x264, 1 to 51: smaller is nearer to the source and takes more bytes (default: 20)
  --num-workers N     files worked on side by side (default: one a CPU core)
  --seconds S         for a step of the work on a file, and 3 more for each MB of it, before it counts as hanging
                      (default: 60)

Exit code 1: a video could not be re-encoded, or the command makes no sense; 0 otherwise, whatever was measured."""
SHOWN = 20  # files of a kind that are named on the screen; transcode.json names all


def run() -> None:
    parser = argparse.ArgumentParser(prog="tubelet transcode", add_help=False)
    parser.add_argument("--out")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--short-side", type=int, default=320)
    parser.add_argument("--gop", type=int, default=12)
    parser.add_argument("--crf", type=int, default=20)
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=60.0)
    told, overrides = parser.parse_known_args()
    if not overrides or {"-h", "--help"} & set(overrides):
        print(HELP)
        return
    with told_in_one_line():
        for name in ("short_side", "gop", "num_workers", "seconds"):
            if getattr(told, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(told, name)} is not a positive number")
        if not 1 <= told.crf <= 51:
            raise ValueError(f"--crf {told.crf} is not a number from 1 to 51")
        if told.yes and not told.out:
            raise ValueError("--yes needs --out FOLDER, for the new files")
        sys.exit(_transcode(told, overrides))


class Data(NamedTuple):
    """paths: of the videos on disk; missing: of those that are listed only
    sampling, short_side, reader, known: how training reads clips (see video/open.py), and what the index says
    """

    root: str
    paths: Sequence[str]
    missing: Sequence[str]
    sampling: Any
    short_side: int | None
    reader: str
    known: "KnownVideos"


def _transcode(told: argparse.Namespace, overrides: list[str]) -> int:
    from tubelet.video.encode import Encoding
    from tubelet.video.transcode import Reencode, finished, paths_below

    data = _folder(overrides) if Path(overrides[0]).is_dir() else _data_set(overrides, told.short_side)
    frames = next((path for path in data.paths if os.path.isdir(path)), None)
    if frames is not None:
        raise ValueError(f"{frames} is a folder of frames; only video files can be re-encoded")
    encoding = Encoding(told.short_side, told.gop, told.crf)
    if not told.out:
        _say(_measure(data, encoding, told), len(data.paths), told, None)
        print("nothing has been written; with --out FOLDER --yes all videos are re-encoded")
        return 0
    sources = paths_below(data.root, told.out, data.paths)
    work = Reencode(os.path.abspath(data.root), os.path.abspath(told.out), encoding)
    known, measured = len(finished(sources, work)), None
    if known:
        print(f"{known} of {len(sources)} videos are in {told.out} already, so nothing is measured", flush=True)
    else:
        measured = _measure(data, encoding, told)
        _say(measured, len(sources), told, told.out)
    if not told.yes:
        print("nothing has been written; with --yes all videos are re-encoded")
        return 0
    return _write(work, sources, data, measured, told)


def _data_set(overrides: list[str], new_side: int) -> Data:
    from tubelet.training.build_data import build_sampling, listed_catalogue, read_known

    cfg = compose_config("train", overrides)
    if new_side < cfg.clip.resize:
        raise ValueError(
            f"--short-side {new_side} is less than clip.resize={cfg.clip.resize}, from which crops are cut"
        )
    catalogue, clip = listed_catalogue(cfg.data), cfg.clip
    listed = dict.fromkeys(video.path for split in (catalogue.train, catalogue.val, catalogue.test) for video in split)
    paths = [path for path in listed if path not in catalogue.missing]
    if not paths:
        raise ValueError(f"data.root={cfg.data.root}: none of {len(listed)} listed videos is on disk")
    short_side = clip.resize if cfg.data.scale_while_decoding else None
    reading = build_sampling(clip), short_side, cfg.data.reader, read_known(cfg.data, catalogue)
    return Data(cfg.data.root, paths, sorted(catalogue.missing), *reading)


def _folder(overrides: list[str]) -> Data:
    from tubelet.video.index import find_index, read_entries
    from tubelet.video.known import KnownVideos
    from tubelet.video.sampling import Dense
    from tubelet.video.scan import files_below

    folder, *others = overrides
    if others:
        raise ValueError(f"{others[0]}: beside a folder, only options can be given")
    paths = files_below(folder)
    if not paths:
        raise ValueError(f"{folder}: no video file in it or below")
    index = find_index(folder, None)
    known = KnownVideos(read_entries(index) if index else ())
    return Data(folder, paths, [], Dense(16, 4, None), 256, "auto", known)


def _measure(data: Data, encoding: "Encoding", told: argparse.Namespace) -> "Measured":
    from tubelet.video.open import ReadOptions, check_reader
    from tubelet.video.trial import NUM_VIDEOS, ReadBoth, measure, spread

    options = ReadOptions(data.short_side, told.seconds)
    check_reader(data.reader, options)
    sample = spread(data.paths, NUM_VIDEOS)
    print(f"measuring: {len(sample)} of {len(data.paths)} videos are re-encoded, and read before and after", flush=True)
    known = {path: data.known.get(path) for path in sample}
    with tempfile.TemporaryDirectory(prefix="tubelet_transcode_") as folder:
        work = ReadBoth(folder, encoding, data.sampling, data.reader, known, options)
        return measure(data.paths, work, told.num_workers, told.seconds)


def _say(measured: "Measured", num_videos: int, told: argparse.Namespace, out: str | None) -> None:
    from tubelet.video.trial import PAYS

    factors = [one.factor for one in measured.videos]
    before, after = (1000 * seconds for seconds in measured.seconds)
    bytes_before, bytes_after = (num_videos * number for number in measured.num_bytes)
    hours = num_videos * measured.encoding_seconds / 3600
    print(f"measured on {len(measured.videos)} of {num_videos} videos")
    for path, reason in measured.unreadable.items():
        print(f"  not measured: {path}: {reason.removeprefix(f'{path}: ')}")
    print(f"  loading a clip: {before:.1f} ms of CPU as they are, {after:.1f} ms re-encoded")
    print(f"  {measured.factor:.2f} times as fast ({min(factors):.2f} to {max(factors):.2f} from video to video)")
    print(f"  bytes of all videos: about {_size(bytes_before)} as they are, {_size(bytes_after)} re-encoded", end="")
    print(f"; {_size(_free(out))} are free" if out else "")
    workers = f"{_time(hours / told.num_workers)} with --num-workers {told.num_workers}"
    print(f"  re-encoding all: about {_time(hours)} of CPU, {workers}")
    verdict = "would pay" if measured.pays else "would not pay: leave the files as they are"
    print(f"it {verdict} (worth it from {PAYS} times as fast on)", flush=True)


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _time(hours: float) -> str:
    minutes = 60 * hours
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} s"


def _free(out: str) -> int:
    """Bytes, where the folder is or will be."""
    place = Path(out).absolute()
    return shutil.disk_usage(next(parent for parent in (place, *place.parents) if parent.exists())).free


def _write(work: Any, sources: list[str], data: Data, measured: "Measured | None", told: argparse.Namespace) -> int:
    from dataclasses import asdict

    from tubelet.training.json_files import write_json
    from tubelet.video.transcode import copy_annotations, transcode

    try:
        done, failed = transcode(sources, work, told.num_workers, told.seconds)
        copied = copy_annotations(work.root, work.out)
    except (KeyboardInterrupt, OSError):
        print(f"what is finished is in {told.out}; the same command goes on", file=sys.stderr)
        raise
    damaged = {line.path: line.damaged for line in done.values() if line.damaged}
    print(f"{len(done)} of {len(sources)} videos are in {told.out}, and {len(copied)} annotation files")
    _name("damaged, with the frames that can be read", [f"{path}: {text}" for path, text in damaged.items()])
    _name("listed, and not on disk", data.missing)
    _name("failed, and left out", list(failed.values()))
    about = {"encoding": asdict(work.encoding), "num_videos": len(sources), "num_done": len(done)}
    figures = {"factor": measured.factor, "videos": [asdict(one) for one in measured.videos]} if measured else None
    report = Path(work.out, "transcode.json")
    if figures is None and report.exists():  # of the run that is taken up
        figures = json.loads(report.read_text()).get("measured")
    troubles = {"failed": failed, "damaged": damaged, "missing": list(data.missing)}
    write_json(report, {**about, "measured": figures, **troubles})
    print(f"written: {os.path.join(told.out, 'transcode.json')}; train with data.root={told.out}")
    return int(bool(failed))


def _name(what: str, found: Sequence[str]) -> None:
    more = [f"    and {len(found) - SHOWN} more, in transcode.json"] if len(found) > SHOWN else []
    lines = [f"{what}: {len(found)}", *(f"    {one}" for one in found[:SHOWN]), *more]
    if found:  # names that are not UTF-8 cannot be printed as they are
        print("\n".join(lines).encode(errors="backslashreplace").decode())
