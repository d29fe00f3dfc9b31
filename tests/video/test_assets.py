"""Real and broken files of your own, through every reader, with an index and without: the right frame or a DecodeError.

Runs where the environment variable TUBELET_ASSETS names a folder of videos; each file in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASSETS = os.environ.get("TUBELET_ASSETS")
if not ASSETS:
    pytest.skip("TUBELET_ASSETS names no folder of videos", allow_module_level=True)
FOLDERS = [Path(ASSETS, name) for name in ("nasty", "bench")]
SUFFIXES = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".ts", ".gif"}
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.suffix in SUFFIXES)
LIMIT = 20  # seconds of one read

READERS = ("auto", "pyav", "pyav_seek", "decord", "torchcodec")

CHECK = """
import random, sys, time
import torch
from tubelet.video.known import known_of
from tubelet.video.open import DEFAULTS, check_reader, open_video
from tubelet.video.probe import probe
from tubelet.video.reader import DecodeError

path, limit, readers = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
draw = random.Random(0)
try:
    with open_video(path, "pyav") as linear:
        num_frames = linear.num_frames
        clips = [[draw.randrange(num_frames)] for _ in range(8)] + [[0], [num_frames - 1]]
        clips += [sorted(draw.choices(range(num_frames), k=8)) for _ in range(2)]
        near = sorted({i + d for clip in clips for i in clip for d in (-1, 0, 1) if 0 <= i + d < num_frames})
        expected = dict(zip(near, linear.read(near).float()))
except DecodeError:
    clips, expected = [[0]], {}
*_, entry = probe(path)
assert not (entry.stage and expected), f"by the index it cannot be read: {entry.stage} {entry.reason}"
assert expected or entry.stage or entry.damaged, "the index tells nothing of what linear reading stumbles over"
indexed = known_of(entry)
assert expected == {} or indexed.num_frames == num_frames

def check(name, clip, known=None):
    start = time.monotonic()
    try:
        with open_video(path, name, known) as opened:
            frames, count = opened.read(clip).float(), opened.num_frames
    except DecodeError as error:
        assert "\\n" not in str(error)
        return str(error)
    finally:
        assert time.monotonic() - start < limit, f"{name} took too long"
    if not expected:
        return f"{len(frames)} frames, of a file that is broken further on"
    assert count == num_frames, f"{name} has {count} frames, and linear reading {num_frames}"
    for i, frame in zip(clip, frames):
        differ = {j: (frame - expected[j]).abs().mean().item() for j in (i - 1, i, i + 1) if j in expected}
        assert differ[i] <= 1.0, f"{name}: frame {i} differs by {differ}"
        for j, level in differ.items():  # two neighbours may show the same picture
            same = (expected[j] - expected[i]).abs().mean() < 0.01
            assert j == i or level > differ[i] or same, f"{name}: frame {i} is rather frame {j}: {differ}"
    return "right"

for name in readers:
    try:
        check_reader(name, DEFAULTS)
    except ValueError as error:
        print(name, "is left out:", error)
        continue
    print(name, "begins", flush=True)
    print(name, sorted({check(name, clip) for clip in clips}), flush=True)
    print(name, "with its index entry", sorted({check(name, clip, indexed) for clip in clips}), flush=True)

def auto(known, clip):
    try:
        with open_video(path, "auto", known) as opened:
            return opened.read(clip)
    except DecodeError as error:
        return str(error)

for clip in clips:
    with_entry, without = auto(indexed, clip), auto(None, clip)
    same = with_entry == without if isinstance(without, str) else torch.equal(with_entry, without)
    assert same, f"auto gives something else with the index entry: {clip}"
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_reader_gives_the_right_frames_or_a_decode_error_in_time(path: Path):
    command = [sys.executable, "-c", CHECK, str(path), str(LIMIT), *READERS]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=250)
    print(finished.stdout)
    assert finished.returncode == 0, f"{finished.returncode}: {finished.stdout}{finished.stderr[-2000:]}"
