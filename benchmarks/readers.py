"""CPU time of each reader on files of your own: the same random clips, readers in turns, beside plain decord.

python benchmarks/readers.py path/to/files... [--rounds 5] [--frames 16] [--stride 4] [--clips 4]

Plain decord is what most code bases do: VideoReader with one thread, get_batch, whether or not it is exact. A reader is
exact on a file if each clip read here has the pictures of linear reading. What `pyav + index` and `auto + index` know
is what `tubelet scan` would write.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tubelet.video.decord import SeekingReader
from tubelet.video.index import Entry, state_of
from tubelet.video.open import open_seeking, open_video
from tubelet.video.pyav import LinearReader, read_header
from tubelet.video.reader import DecodeError, Reader

DIFFER = 1.0  # grey levels on average, between versions of FFmpeg; the wrong frame is further away


def scanned(path: str) -> Entry:
    """What an index says of a file."""
    header = read_header(path)
    with LinearReader(path) as linear:
        num_frames, fps = linear.num_frames, linear.fps
    with open_seeking(path, "pyav_seek", header) as seeking:
        exact = header.seekable and seeking.num_frames == num_frames
    size, changed = state_of(path)
    keys = header.key_frames or (0,)
    return Entry(path, size, changed, num_frames=num_frames, fps=fps, key_frames=keys, exact={"pyav_seek": exact})


def contestants(path: str) -> dict[str, Callable[[], Reader]]:
    """Name -> opens the file; those that refuse it are left out."""
    entry = scanned(path)
    opened: dict[str, Callable[[], Reader]] = {
        "plain decord": lambda: SeekingReader(path, entry.fps),
        "auto": lambda: open_video(path),
        "auto + index": lambda: open_video(path, "auto", entry),
        "pyav": lambda: open_video(path, "pyav"),
        "pyav + index": lambda: open_video(path, "pyav", entry),
        "pyav_seek": lambda: open_video(path, "pyav_seek"),
        "decord": lambda: open_video(path, "decord"),
        "torchcodec": lambda: open_video(path, "torchcodec"),
    }
    able = {}
    for name, make in opened.items():
        try:
            with make() as reader:
                reader.read([0])
            able[name] = make
        except (DecodeError, ValueError) as error:
            print(f"  {name} is left out: {error}")
    return able


def exact(make: Callable[[], Reader], path: str, clips: list[list[int]]) -> bool:
    """Whether a reader, opened afresh for each clip, gives the frames of linear reading and counts as many."""
    with LinearReader(path) as linear:
        for clip in clips:
            with make() as reader:
                given, expected = reader.read(clip).float(), linear.read(clip).float()
                differ = (given - expected).abs().mean(dim=(1, 2, 3)).max()
                if differ > DIFFER or reader.num_frames != linear.num_frames:
                    return False
    return True


def seconds(make: Callable[[], Reader], clips: list[list[int]]) -> float:
    """CPU seconds a clip: opened, read and closed as in training."""
    start = time.process_time()
    for clip in clips:
        with make() as reader:
            reader.read(clip)
    return (time.process_time() - start) / len(clips)


def compare(path: str, options: argparse.Namespace) -> dict[str, tuple[bool, list[float]]]:
    """Name -> whether exact, CPU milliseconds a clip in each round."""
    with LinearReader(path) as linear:
        num_frames = linear.num_frames
    span = (options.frames - 1) * options.stride
    draw = random.Random(0)
    starts = [
        [draw.randint(0, max(num_frames - 1 - span, 0)) for _ in range(options.clips)] for _ in range(options.rounds)
    ]
    rounds = [
        [[min(s + options.stride * i, num_frames - 1) for i in range(options.frames)] for s in row] for row in starts
    ]
    able = contestants(path)
    right = {name: exact(make, path, rounds[0] + rounds[-1]) for name, make in able.items()}
    taken: dict[str, list[float]] = {name: [] for name in able}
    for clips in rounds:
        for name, make in able.items():
            taken[name].append(1000 * seconds(make, clips))
    return {name: (right[name], taken[name]) for name in able}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=4, help="of each round")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for path in options.files:
        print(f"{path.name}: CPU ms a clip of {options.frames} frames, stride {options.stride}", flush=True)
        found = compare(str(path), options)
        median = {name: statistics.median(taken) for name, (_, taken) in found.items()}
        fastest = min(median[name] for name, (right, _) in found.items() if right)
        for name, (right, taken) in found.items():
            ratios = [plain / own for plain, own in zip(found["plain decord"][1], taken, strict=True)]
            print(
                f"  {name:13} {median[name]:6.1f} ({min(taken):.1f} to {max(taken):.1f})  "
                f"{statistics.median(ratios):.2f} x plain decord ({min(ratios):.2f} to {max(ratios):.2f})  "
                f"{fastest / median[name]:.2f} of the fastest exact  {'exact' if right else 'NOT EXACT'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
