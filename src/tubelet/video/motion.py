"""`motion`: generated videos whose classes only time tells apart, as real H.264 files.

A bright shape on a dark ground moves, or changes its size or its brightness. Each class has a twin that is the same
backwards. What changes starts at a uniformly drawn phase and runs round: positions wrap round the frame, sizes and
brightness go through a saw-tooth. So for every frame of a clip, place, size, angle and colour are distributed alike
for a class and its twin, and a video of the one, played backwards, is a video of the other: no single frame, and no
set of frames without its order, tells twins apart. Files hold key frames only, at a constant quantiser, so that
compression cannot give away the direction either.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tubelet.video.annotations import Catalogue, list_class_folders
from tubelet.video.processes import leave_signals_to_parent
from tubelet.video.pyav import write_video

TWINS = (
    ("moves_right", "moves_left"),
    ("moves_down", "moves_up"),
    ("grows", "shrinks"),
    ("brightens", "darkens"),
)
CLASSES = [name for pair in TWINS for name in pair]
VERSION = 1  # of the generator: files of another version are not silently mixed with these
SIDE = 64  # pixels
NUM_FRAMES = 16
FPS = 10
ENCODER = {"preset": "veryfast", "qp": "18", "g": "1"}
MANIFEST = "motion.json"


def read_motion(root: str, train: int, val: int, test: int, seed: int) -> Catalogue:
    """The catalogue of `root`, generated first if it is missing.

    train, val, test: videos in each split, a multiple of the 8 classes
    seed: of the generator; every video has a stream of its own, whatever the number of processes

    Raises ValueError where `root` holds something else than what is asked for.
    """
    wanted = {"version": VERSION, "train": train, "val": val, "test": test, "seed": seed}
    for split, number in list(wanted.items())[1:4]:
        if number < len(CLASSES) or number % len(CLASSES):
            raise ValueError(f"data.{split}={number} is not a multiple of the {len(CLASSES)} classes of motion")
    manifest = Path(root, MANIFEST)
    if not manifest.exists():
        if Path(root).exists():
            raise ValueError(
                f"data.root={root} is no folder of generated motion videos: it has no {MANIFEST}; "
                f"for class folders of your own videos: data=folder data.root={root}"
            )
        generate(root, wanted)
    found = json.loads(manifest.read_text())
    if found != wanted:
        numbers = " ".join(f"data.{key}={found[key]}" for key in ("train", "val", "test", "seed") if key in found)
        raise ValueError(
            f"data.root={root} was generated as {found}, not as {wanted}; use it as it is ({numbers}), or generate "
            "into another folder: data.root=..."
        )
    splits = {split: list_class_folders(Path(root, split), CLASSES) for split in ("train", "val", "test")}
    for split, videos in splits.items():
        if len(videos) != wanted[split]:
            raise ValueError(
                f"data.root={root} holds {len(videos)} of its {wanted[split]} {split} videos; delete this folder, and "
                "the next run generates it anew"
            )
    twins = {CLASSES.index(a): CLASSES.index(b) for pair in TWINS for a, b in (pair, pair[::-1])}
    return Catalogue(CLASSES, splits["train"], splits["val"], splits["test"], twins)


def generate(root: str, manifest: dict[str, int]) -> None:
    """Write all videos beside `root` and give the folder its name at the end, so that `root` is whole or absent."""
    parent = Path(root).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{Path(root).name}.partial-"
    for left in parent.glob(f"{prefix}*"):
        if time.time() - left.stat().st_mtime > 3600:  # of a killed process: none works on it for an hour
            shutil.rmtree(left, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    building.chmod(0o755)  # mkdtemp makes it private
    jobs = []
    for number, split in enumerate(("train", "val", "test")):
        for name in CLASSES:
            Path(building, split, name).mkdir(parents=True)
        for i in range(manifest[split]):
            label = i % len(CLASSES)
            path = building / split / CLASSES[label] / f"{i // len(CLASSES):05d}.mp4"
            jobs.append((str(path), label, (manifest["seed"], number, i)))
    try:
        with ProcessPoolExecutor(min(os.cpu_count() or 1, 16), initializer=leave_signals_to_parent) as pool:
            done = pool.map(_write, *zip(*jobs, strict=True), chunksize=16)
            seconds = 0.5 if sys.stderr.isatty() else 10.0  # between two updates: a log file wants few
            list(tqdm(done, f"generating {root}", len(jobs), unit=" videos", mininterval=seconds))
        (building / MANIFEST).write_text(json.dumps(manifest))
        os.rename(building, root)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)
        if not Path(root, MANIFEST).exists():  # else another process has generated it meanwhile
            raise
    except BaseException:  # also Ctrl-C: nothing half made stays behind
        shutil.rmtree(building, ignore_errors=True)
        raise


def _write(path: str, label: int, seed: tuple[int, ...]) -> None:
    write_video(path, render(label, np.random.default_rng(seed)), FPS, **ENCODER)


@dataclass(frozen=True)
class State:
    """What one frame shows: pixels, wrapping at SIDE; the phases of two saw-teeth; radians."""

    x: float
    y: float
    growth: float
    light: float
    angle: float

    @property
    def size(self) -> float:
        """Pixels from the shape's pivot to its tip."""
        return 10 + 14 * (self.growth % 1)

    @property
    def brightness(self) -> float:
        """Of the shape, as a share of its colour."""
        return 0.4 + 0.6 * (self.light % 1)


# What each twin pair changes, with its range and its speed a frame. Where it rests it is drawn from a smaller range:
# near the middle of the frame, neither small nor dim.
RUNS = {"x": (0, SIDE), "y": (0, SIDE), "growth": (0, 1), "light": (0, 1)}
RESTS = {"x": (24, 40), "y": (24, 40), "growth": (0.4, 1), "light": (0.6, 1)}
SPEEDS = {"x": (1.5, 3.0), "y": (1.5, 3.0), "growth": (0.05, 0.1), "light": (0.05, 0.1)}


def trajectory(label: int, rng: np.random.Generator) -> list[State]:
    """NUM_FRAMES states; one quantity runs at a constant speed, forwards for even labels, backwards for odd."""
    running, direction = list(RUNS)[label // 2], 1 if label % 2 == 0 else -1
    start = {name: rng.uniform(*(RUNS if name == running else RESTS)[name]) for name in RUNS}
    first = State(**start, angle=rng.uniform(0, 2 * np.pi))
    speed = direction * rng.uniform(*SPEEDS[running])
    return [replace(first, **{running: start[running] + i * speed}) for i in range(NUM_FRAMES)]


def render(label: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The frames of one video: uint8 RGB (SIDE, SIDE, 3)."""
    states = trajectory(label, rng)
    shape = (_hand, _wedge)[rng.integers(2)]
    bright, dark = rng.uniform(150, 255, 3), rng.uniform(0, 60, 3)
    for state in states:
        yield draw(state, shape, bright, dark)


Shape = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def draw(state: State, shape: Shape, bright: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """One frame. The frame's edges are joined, so a shape that leaves on one side comes in on the other."""
    across = (np.arange(SIDE) + 0.5 - state.x + SIDE / 2) % SIDE - SIDE / 2
    down = (np.arange(SIDE)[:, None] + 0.5 - state.y + SIDE / 2) % SIDE - SIDE / 2
    u = np.cos(state.angle) * across + np.sin(state.angle) * down
    v = np.cos(state.angle) * down - np.sin(state.angle) * across
    cover = np.clip(0.5 - shape(u, v, state.size), 0, 1)[..., None]  # the edge is one pixel wide
    return np.round(cover * state.brightness * bright + (1 - cover) * dark).astype(np.uint8)


def _hand(u: np.ndarray, v: np.ndarray, size: float) -> np.ndarray:
    """Signed distance in pixels, negative inside, to the hand of a clock: a bar from its pivot to its tip."""
    return np.maximum(np.abs(u - size / 2) - size / 2, np.abs(v) - size / 6)


def _wedge(u: np.ndarray, v: np.ndarray, size: float) -> np.ndarray:
    """The same for a triangle with its tip at the pivot and a base as wide as it is long."""
    return np.maximum(u - size, (2 * np.abs(v) - u) / np.sqrt(5))
