"""Memory of an index in training: what the process that read it holds, and what each worker adds by using it.

    python benchmarks/index_memory.py [--videos 250000] [--workers 4]

Linux only. Two ways side by side: numbers in arrays, as training has them, and a mapping of whole entries. The videos
are names only: what is measured is looking each of them up, once in every worker.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from tubelet.video.index import Entry, append_entries, read_entries, read_index
from tubelet.video.known import KnownVideos
from tubelet.video.versions import reader_versions


def memory_mb(kind: str) -> float:
    """Of this process, in 10^6 bytes. kind: Rss, or Private for the pages that no other process shares"""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024 / 1e6


def names(folder: Path, num_videos: int) -> Iterator[str]:
    return (f"{folder}/train/shooting goal (soccer)/{i:011d}_000012_000022.mp4" for i in range(num_videos))


def write_index(file: Path, num_videos: int) -> None:
    """Entries as of Kinetics clips."""
    exact = dict.fromkeys(reader_versions(), True)
    keys = tuple(range(0, 300, 12))
    size = {"num_frames": 300, "fps": 29.97, "height": 256, "width": 340, "container": "mp4", "codec": "h264"}
    entry = Entry("", 10**6, 10**18, "0" * 32, key_frames=keys, exact=exact, versions=reader_versions(), **size)
    append_entries(file, (replace(entry, path=path) for path in names(file.parent, num_videos)))


def measure(name: str, read: Callable, file: Path, told: argparse.Namespace) -> None:
    before = memory_mb("Rss")
    index = read()
    held = memory_mb("Rss") - before
    context = get_context("fork")
    pipes = [context.Pipe() for _ in range(told.workers)]
    for _, end in pipes:
        context.Process(target=_use, args=(index, names(file.parent, told.videos), end)).start()
    grown = sum(pipe.recv() for pipe, _ in pipes) / told.workers
    print(f"{name:20}{held:12.0f} MB{grown:16.0f} MB", flush=True)


def _use(index: KnownVideos | dict, paths: Iterator[str], pipe) -> None:
    before = memory_mb("Private")
    assert all(index.get(path) is not None for path in paths)
    pipe.send(memory_mb("Private") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of an index in training.")
    parser.add_argument("--videos", type=int, default=250_000)
    parser.add_argument("--workers", type=int, default=4)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "index.jsonl")
        _in_a_process(write_index, file, told.videos)
        print(f"{told.videos} videos, {os.path.getsize(file) / 1e6:.0f} MB on disk")
        print(f"{'':20}{'read':>15}{'each worker':>19}")
        ways = {"arrays": lambda: KnownVideos(read_entries(file)), "whole entries": lambda: read_index(file)}
        for name, read in ways.items():
            _in_a_process(measure, name, read, file, told)


def _in_a_process(work: Callable, *arguments: object) -> None:
    """So that nothing finds memory that something else has left."""
    process = get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join()


if __name__ == "__main__":
    main()
