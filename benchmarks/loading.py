"""Clips a second of one core, from opening a file to a batch: ours, pipelines as others have them, and decoding alone.

    python benchmarks/loading.py [kind=file or folder ...] [--augment crop_flip] [--repeats 2] [--rounds 5]

The kinds are ucf101, kinetics, ssv2 and 1080p; one that is not given is generated into --generated. Any other name
is a kind of your own. --kinds takes some of them only. What each pipeline does stands at the head of its file in
benchmarks/pipelines. In each round each of them loads the same frames of the same files, one after the other; a
ratio is of two readings of one round. CPU time of the process, one thread for torch and for each decoder. With
--repeats 2 ours alone is measured: two clips of each video, decoded once, beside one.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch, and for all pipelines: as train.py does

# Before decord: decord2 would have torch's products made by NVBLAS, decord 0.6.0 torchvision's PNGs by its own zlib.
import torch
import torchvision.io  # noqa: F401

# isort: split
import av
import decord
from decord import DECORDError
from pipelines import decoding_only, files, mmaction2_style, ours, pytorchvideo_style
from pipelines.task import AUGMENTS, Batch, Task
from readers import scanned

from tubelet.video.annotations import Video
from tubelet.video.order import Draw
from tubelet.video.processes import keep_freed_memory
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import Dense

STRIDES = {"ssv2": 2}  # frames; 4 of all others. 16 frames of 2 apart span most of an SSv2 file
FAILURES = (DecodeError, DECORDError, av.FFmpegError, RuntimeError, ValueError, OSError)  # of any decoder
FORMATS = ("uint8", "float")
OURS = "tubelet, scanned"
Readings = dict[tuple[str, str], list[float]]  # (pipeline, format) -> CPU seconds a clip, of each round


def contestants(task: Task) -> dict[str, dict[str, Batch]]:
    named = {
        "tubelet": ours.batches(task, []),
        OURS: ours.batches(task, [scanned(path) for path, _ in task.files]),
        "mmaction2-style": mmaction2_style.batches(task),
        "pytorchvideo-style": pytorchvideo_style.batches(task),
        "libav, every frame": decoding_only.batches(task, decoding_only.every_frame),
        "libav, frames needed": decoding_only.batches(task, decoding_only.frames_needed),
    }
    if importlib.util.find_spec("torchcodec"):
        named["torchcodec, plain"] = importlib.import_module("pipelines.torchcodec_plain").batches(task)
    return named


def repeated(task: Task, repeats: int) -> dict[str, dict[str, Batch]]:
    entries = [scanned(path) for path, _ in task.files]
    return {OURS: ours.batches(task, entries), f"{OURS}, {repeats} repeats": ours.batches(task, entries, repeats)}


def clock(device: torch.device) -> Callable[[], float]:
    """CPU seconds of this process; on a GPU, when it has what it was given."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time()

    return now


def measure(task: Task, named: dict[str, dict[str, Batch]], options: argparse.Namespace) -> tuple[Readings, list[str]]:
    """And the pipelines left out, with the reason."""
    calls = {(name, kind): made for name, formats in named.items() for kind, made in formats.items()}
    now, left_out, readings = clock(task.device), [], {}
    for (name, kind), call in list(calls.items()):  # warm, and able to read these files
        try:
            call([Draw(0, i) for i in range(len(task.files))])
            readings[name, kind] = []
        except FAILURES as error:
            del calls[name, kind]
            left_out.append(f"{name} ({kind}): {type(error).__name__}: {str(error).splitlines()[0][:100]}")
    for k in range(1, options.rounds + 1):
        draws = [Draw(k * options.batch + i, i % len(task.files)) for i in range(options.batch)]
        for key, call in calls.items():
            start = now()
            num_clips = len(call(draws))
            readings[key].append((now() - start) / num_clips)
    return readings, left_out


def told(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(readings: Readings, best: str = OURS) -> list[str]:
    """Clips a second of each pipeline, and of the one named over it: above 1, that is faster."""
    heads = [f"{kind} batch, clips/s | {best}, over it" for kind in FORMATS]
    lines = [f"| | {' | '.join(heads)} |", f"|{'---|' * (1 + 2 * len(heads))}"]
    for name in dict.fromkeys(name for name, _ in readings):
        cells = []
        for kind in FORMATS:
            own, taken = readings[best, kind], readings.get((name, kind))
            if taken is None:
                cells += ["", ""]
                continue
            ratios = [theirs / mine for theirs, mine in zip(taken, own, strict=True)]
            cells += [told([1 / t for t in taken], ".1f"), told(ratios, ".2f")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", help="kind=file or kind=folder")
    parser.add_argument(
        "--kinds", default=",".join(files.KINDS), help="of those that are not given, which are generated"
    )
    parser.add_argument("--augment", default="resized_crop", choices=AUGMENTS)
    parser.add_argument("--repeats", type=int, default=1, help="clips of each video; above 1 ours alone is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="clips")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--generated", type=Path, default=Path("runs/benchmarks/videos"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/loading.md"))
    return parser.parse_args()


def videos(options: argparse.Namespace) -> dict[str, list[Video]]:
    given = dict(place.split("=", 1) for place in options.places)
    chosen = {kind: files.found(Path(place)) for kind, place in given.items()}
    wanted = [kind for kind in options.kinds.split(",") if kind and kind not in given]
    return chosen | {kind: files.generated(kind, options.generated) for kind in wanted}


def heading(options: argparse.Namespace) -> list[str]:
    """The command, and with what it ran."""
    codec = "torchcodec"
    versions = [f"torch {torch.__version__}", f"PyAV {av.__version__}", f"decord {decord.__version__}"]
    versions += [f"{codec} {version(codec)}" if importlib.util.find_spec(codec) else f"{codec} not installed"]
    return [
        f"`{shlex.join(['python', *sys.argv])}`",
        "",
        f"{date.today()}; {platform.processor() or platform.machine()}, {options.device}; {', '.join(versions)}; "
        f"{options.frames} frames of 224 pixels, {options.rounds} rounds of {options.batch} videos: median (and "
        f"range). The mmaction2-style pipeline resizes by {mmaction2_style.RESIZED_BY}.",
    ]


def section(kind: str, listed: list[Video], options: argparse.Namespace) -> list[str]:
    """The table of one kind of files, measured now."""
    sampling = Dense(options.frames, STRIDES.get(kind, 4), fps=None)
    task = Task(listed, sampling, options.augment, torch.device(options.device))
    many = options.repeats > 1
    named = repeated(task, options.repeats) if many else contestants(task)
    readings, left_out = measure(task, named, options)
    names = ", ".join(Path(path).name for path, _ in listed)
    lines = ["", f"### {kind}, {options.augment}", "", f"{len(listed)} file(s): {names}; stride {sampling.stride}.", ""]
    lines += table(readings, list(named)[-1] if many else OURS)
    return lines + (["", *(f"Left out: {line}" for line in left_out)] if left_out else [])


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    keep_freed_memory()  # for all pipelines: as training's workers do
    lines = heading(options)
    print("\n".join(lines), flush=True)
    for kind, listed in videos(options).items():
        new = section(kind, listed, options)
        print("\n".join(new), flush=True)
        lines += new
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
