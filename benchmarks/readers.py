"""CPU time of each reader on files of your own: the same random clips, readers in turns, beside plain decord.

    python benchmarks/readers.py path/to/files... [--rounds 5] [--frames 16] [--stride 4] [--clips 4]

Plain decord is what most code bases do: VideoReader with one thread, get_batch, whether or not it is exact. A reader is
exact on a file if it counts as many frames as linear reading and each frame that it gives here is the right one: at
most 1 grey level on average from that of linear reading, and nearer to it than to the frames beside it. `+ index` is
with what `tubelet scan` finds out about the file. Every other round goes through the readers backwards. Times are of
the process, all its threads, for opening, reading and closing, at the size of the file; a ratio is of two times of one
round. Printed are medians over the rounds, with their ranges.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from tubelet.video.decord import SeekingReader, has_decord
from tubelet.video.index import Entry, Known
from tubelet.video.known import known_of
from tubelet.video.open import READERS, open_video
from tubelet.video.probe import probe
from tubelet.video.pyav import LinearReader
from tubelet.video.reader import DecodeError, Reader

DIFFER = 1.0  # grey levels on average, between versions of FFmpeg
PLAIN = "plain decord"
Open = Callable[[], Reader]


def scanned(path: str) -> Entry:
    """What `tubelet scan` writes of a file. Raises OSError, or DecodeError where nothing reads it."""
    *_, entry = probe(path)
    if entry.reason:
        raise DecodeError(path, entry.stage, entry.reason)
    return entry


def contestants(path: str, known: Known) -> dict[str, Open]:
    """Name -> opens the file."""
    installed = [name for name in READERS if name != "frames" and (name != "decord" or has_decord())]
    opened: dict[str, Open] = {name: partial(open_video, path, name) for name in installed}
    opened |= {f"{name} + index": partial(open_video, path, name, known) for name in ("auto", "pyav")}
    if has_decord():
        return {PLAIN: lambda: SeekingReader(path, known.fps), **opened}
    print("  without decord, which is not installed")
    return opened


def examine(opened: dict[str, Open], path: str, num_frames: int, clips: Iterable[Sequence[int]]) -> dict[str, bool]:
    """Name -> whether exact, in each of the clips; readers that refuse one are left out."""
    exact = dict.fromkeys(opened, True)
    for clip in clips:
        around = sorted({i + step for i in clip for step in (-1, 0, 1)} & set(range(num_frames)))
        with LinearReader(path) as linear:
            reference = dict(zip(around, linear.read(around), strict=True))
        for name in list(exact):
            try:
                with opened[name]() as reader:
                    right = all(is_frame(image, reference, i) for image, i in zip(reader.read(clip), clip, strict=True))
                    exact[name] &= right and reader.num_frames == num_frames
            except (DecodeError, ValueError) as error:  # ValueError: a reader that is not installed
                print(f"  {name} is left out: {error}")
                del exact[name]
    return exact


def is_frame(image: Tensor, reference: dict[int, Tensor], i: int) -> bool:
    """Whether uint8 (C, H, W) is frame i of the reference, which has the frames beside it too."""

    def difference(j: int) -> float:
        return (image.short() - reference[j].short()).abs().float().mean().item()

    beside = [j for j in (i - 1, i + 1) if j in reference and not reference[j].equal(reference[i])]
    return difference(i) <= DIFFER and all(difference(i) < difference(j) for j in beside)


def cpu_ms(make: Open, clips: Sequence[Sequence[int]]) -> float:
    """Of a clip, on average."""
    start = time.process_time()
    for clip in clips:
        with make() as reader:
            reader.read(clip)
    return 1000 * (time.process_time() - start) / len(clips)


def draw_rounds(num_frames: int, told: argparse.Namespace) -> list[list[list[int]]]:
    """Frame numbers of the clips of each round, from random starts."""
    draw, span = Random(0), (told.frames - 1) * told.stride
    starts = [[draw.randint(0, max(num_frames - 1 - span, 0)) for _ in range(told.clips)] for _ in range(told.rounds)]
    return [[[min(s + told.stride * i, num_frames - 1) for i in range(told.frames)] for s in row] for row in starts]


def compare(path: str, told: argparse.Namespace) -> None:
    """Print a line for each reader. Raises OSError, or DecodeError where nothing reads the file."""
    known = known_of(scanned(path))
    opened, rounds = contestants(path, known), draw_rounds(known.num_frames, told)
    exact = examine(opened, path, known.num_frames, [clip for clips in rounds for clip in clips])
    taken: dict[str, list[float]] = {name: [] for name in exact}
    for number, clips in enumerate(rounds):
        for name in reversed(exact) if number % 2 else exact:
            taken[name].append(cpu_ms(opened[name], clips))
    fastest = min((name for name in exact if exact[name]), key=lambda name: statistics.median(taken[name]))
    print(f"  {'':13} {'CPU ms a clip':24} {PLAIN + ' / this':24} {fastest + ', the fastest exact / this'}")
    for name, own in taken.items():
        columns = [f"{name:13} {spread(own, '.1f'):24}"]
        for other in (PLAIN, fastest):
            ratios = [theirs / ours for theirs, ours in zip(taken.get(other, []), own, strict=other in taken)]
            columns.append(f"{spread(ratios, '.2f') if ratios else '-':24}")
        print(f"  {' '.join(columns)} {'exact' if exact[name] else 'NOT EXACT'}", flush=True)


def spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    for name, value, words in (
        ("--rounds", 5, "in which each reader has its turn"),
        ("--clips", 4, "of each round"),
        ("--frames", 16, "of each clip"),
        ("--stride", 4, "frames of the file from one of a clip to the next"),
    ):
        parser.add_argument(name, type=int, default=value, help=f"{words} (%(default)s)")
    told = parser.parse_args()
    if min(told.rounds, told.clips, told.frames, told.stride) < 1:
        parser.error("--rounds, --clips, --frames and --stride are at least 1")
    torch.set_num_threads(1)
    for path in told.files:
        print(
            f"{path.name}: clips of {told.frames} frames, stride {told.stride}, {told.rounds} rounds",
            flush=True,
        )
        try:
            compare(str(path), told)
        except (DecodeError, OSError) as error:
            print(f"  left out: {error}")


if __name__ == "__main__":
    main()
