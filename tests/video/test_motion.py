"""The generated data: a twin is the same motion backwards, and nothing but the order of the frames tells it apart."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tubelet.video import motion
from tubelet.video.motion import CLASSES, FPS, NUM_FRAMES, SIDE, State, draw, read_motion, render, trajectory
from tubelet.video.open import open_video

TWIN = {"moves_right": "moves_left", "moves_down": "moves_up", "turns_clockwise": "turns_counterclockwise"}
TWIN |= {"grows": "shrinks"}
PAIRS = [(CLASSES.index(a), CLASSES.index(b)) for a, b in TWIN.items()]
PERIODS = {"x": SIDE, "y": SIDE, "angle": 2 * np.pi, "phase": 1}  # after which each begins again
RUNNING = {"moves_right": "x", "moves_down": "y", "turns_clockwise": "angle", "grows": "phase"}
BOTH_WAYS = [*PAIRS, *(pair[::-1] for pair in PAIRS)]


# By mathematics: turn the draws of a video into those of the same video backwards, and get the twin's video.


class Recorded:
    """A random generator that remembers its draws."""

    def __init__(self, seed: int):
        self.rng, self.draws = np.random.default_rng(seed), []

    def uniform(self, *args: object) -> np.ndarray | float:
        self.draws.append(self.rng.uniform(*args))
        return self.draws[-1]

    def integers(self, *args: object) -> int:
        self.draws.append(self.rng.integers(*args))
        return self.draws[-1]


class Replayed:
    """A stand-in for a random generator: gives these values, whatever is drawn."""

    def __init__(self, draws: list):
        self.draws = iter(draws)

    def uniform(self, *args: object) -> np.ndarray | float:
        return next(self.draws)

    integers = uniform


@pytest.mark.parametrize(("forwards", "backwards"), BOTH_WAYS)
def test_a_video_played_backwards_is_a_video_of_its_twin(forwards: int, backwards: int):
    running = RUNNING[CLASSES[min(forwards, backwards)]]
    for seed in range(5):
        rng = Recorded(seed)
        frames = np.stack(list(render(forwards, rng)))  # (T, H, W, C)
        first, *_, last = trajectory(forwards, np.random.default_rng(seed))
        # The twin starts where this video ends, and all else is drawn as it was. That is as likely: the start is
        # uniform on a whole period, and moving it by a speed drawn by itself leaves it so.
        start, end = getattr(first, running), getattr(last, running) % PERIODS[running]
        assert sum(int(np.sum(value == start)) for value in rng.draws) == 1
        draws = [np.where(value == start, end, value)[()] if np.any(value == start) else value for value in rng.draws]
        twin = np.stack(list(render(backwards, Replayed(draws))))
        # 1 grey level: the places come from sums in another order, which can tip the rounding of a pixel.
        assert np.abs(twin[::-1].astype(int) - frames).max() <= 1
        assert np.abs(frames[1:].astype(int) - frames[:-1]).max() > 50  # and something moves


@pytest.mark.parametrize(("label", "twin"), PAIRS)
def test_start_speed_and_look_are_drawn_alike_for_a_class_and_its_twin(label: int, twin: int):
    own, other = Recorded(3), Recorded(3)
    list(render(label, own))
    list(render(twin, other))
    assert len(own.draws) == len(other.draws) > 0
    assert all(np.array_equal(a, b) for a, b in zip(own.draws, other.draws, strict=True))


# By counting: two samples of one distribution, frame slot by frame slot.


def states(label: int, seeds: range) -> dict[str, np.ndarray]:
    """x, y, angle and phase, (videos, T) each, within their periods."""
    courses = [trajectory(label, np.random.default_rng(seed)) for seed in seeds]
    values = {name: [[getattr(state, name) for state in course] for course in courses] for name in PERIODS}
    return {name: np.array(value) % PERIODS[name] for name, value in values.items()}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference between the cumulative distributions of two samples (Kolmogorov and Smirnov)."""
    both = np.sort(np.concatenate([a, b]))
    return np.abs(
        np.searchsorted(np.sort(a), both, side="right") / len(a)
        - np.searchsorted(np.sort(b), both, side="right") / len(b)
    ).max()


def limit(n: int) -> float:
    """The distance that two samples of n of one distribution exceed once in a million times."""
    return np.sqrt(-np.log(1e-6 / 2) / n)


@pytest.mark.parametrize(("label", "twin"), PAIRS)
def test_every_state_is_distributed_alike_in_every_frame_slot_for_a_class_and_its_twin(label: int, twin: int):
    n = 1000
    own, other = states(label, range(n)), states(twin, range(n, 2 * n))
    for name in PERIODS:
        for slot in range(NUM_FRAMES):
            assert distance(own[name][:, slot], other[name][:, slot]) < limit(n)


@pytest.mark.parametrize(("label", "twin"), PAIRS)
def test_what_runs_is_uniform_on_its_whole_period_in_every_frame_slot(label: int, twin: int):
    n, running = 1000, RUNNING[CLASSES[label]]
    uniform = (np.arange(n) + 0.5) / n * PERIODS[running]
    for sample in (states(label, range(n)), states(twin, range(n, 2 * n))):
        for slot in range(NUM_FRAMES):
            assert distance(sample[running][:, slot], uniform) < limit(n)


def seen(label: int, seeds: range) -> np.ndarray:
    """(videos, T, 6): covered area; place (across, down) and tilt of the bright shape; mean and reddest pixel."""
    ring = np.exp(2j * np.pi * (np.arange(SIDE) + 0.5) / SIDE)  # the frame's edges are joined
    features = []
    for seed in seeds:
        frames = np.stack(list(render(label, np.random.default_rng(seed)))).astype(float)  # (T, H, W, C)
        light = frames.sum(-1)
        cover = (light - light.min()) / (light.max() - light.min())
        across, down = (np.angle((cover.sum(axis) * ring).sum(-1)) for axis in (1, 2))  # (T,) each
        offsets = [np.angle(ring / np.exp(1j * place)[:, None]) for place in (across, down)]  # (T, SIDE) each
        around = offsets[0][:, None, :] + 1j * offsets[1][:, :, None]
        tilt = np.angle((cover * around**2).sum((1, 2)))
        rows = [cover.sum((1, 2)), across, down, tilt, frames.mean((1, 2, 3)), frames[..., 0].max((1, 2))]
        features.append(np.stack(rows, axis=-1))
    return np.stack(features)


NUM_SEEN = 100  # videos of each class


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """For each class what is seen in other videos than those of every other class."""
    return [seen(label, range(NUM_SEEN * label, NUM_SEEN * (label + 1))) for label in range(len(CLASSES))]


@pytest.mark.parametrize(("label", "twin"), PAIRS)
def test_no_frame_slot_of_the_pictures_tells_twins_apart(label: int, twin: int, pictures: list[np.ndarray]):
    own, other = pictures[label], pictures[twin]
    for slot in range(NUM_FRAMES):
        for feature in range(own.shape[-1]):
            assert distance(own[:, slot, feature], other[:, slot, feature]) < limit(NUM_SEEN)


@pytest.mark.parametrize(("label", "twin"), PAIRS)
def test_the_order_of_the_frames_tells_twins_apart(label: int, twin: int, pictures: list[np.ndarray]):
    feature = {"phase": 0, "x": 1, "y": 2, "angle": 3}[RUNNING[CLASSES[label]]]
    change = [np.median(np.diff(pictures[c][..., feature], axis=1), axis=1) for c in (label, twin)]  # (videos,)
    # A median step, so that the one where the quantity begins again does not count. Nearly all, since the tilt of a
    # wedge as wide as it is long is faint.
    assert (change[0] > 0).mean() > 0.9
    assert (change[1] < 0).mean() > 0.9


def test_the_test_of_slots_would_see_videos_that_all_start_at_one_place():
    courses = (states(CLASSES.index(name), range(NUM_SEEN))["x"] for name in ("moves_right", "moves_left"))
    right, left = ((32 + x - x[:, :1]) % SIDE for x in courses)
    assert distance(right[:, 0], left[:, 0]) == 0
    assert distance(right[:, 4], left[:, 4]) > limit(NUM_SEEN)


# What the classes look like, by hand.


def bright(x: float, y: float, angle: float) -> np.ndarray:
    """(H, W) bool: the pixels that a clock hand covers by more than half."""
    frame = draw(State(x, y, angle, 0.0), motion._hand, np.full(3, 200.0), np.full(3, 0.0))
    assert frame.shape == (SIDE, SIDE, 3)
    assert frame.dtype == np.uint8
    return frame[..., 0] > 100


def test_a_hand_points_right_at_angle_0_and_down_after_a_quarter_turn_clockwise():
    length = round(State(0, 0, 0, 0.0).size)
    down, across = np.nonzero(bright(20, 40, 0))
    assert (across.min(), across.max()) == (20, 20 + length - 1)
    assert down.min() + down.max() == 39 + 40  # as far above its pivot as below
    assert down.max() - down.min() < length / 2
    down, across = np.nonzero(bright(20, 40, np.pi / 2))
    assert (down.min(), down.max()) == (40, 40 + length - 1)
    assert across.min() + across.max() == 19 + 20


def test_a_shape_that_leaves_on_one_side_comes_in_on_the_other():
    shifted = np.roll(bright(20, 40, 0.3), (30, 40), axis=(0, 1))  # rows 40 -> 6, columns 20 -> 60
    assert np.array_equal(bright(60, 70 - SIDE, 0.3), shifted)
    assert np.array_equal(bright(60 + SIDE, 70, 0.3), shifted)


def test_the_size_is_a_saw_tooth_of_the_phase():
    small, middle, large, again, before = (State(0, 0, 0, phase).size for phase in (0, 0.25, 0.75, 1, -0.25))
    assert small == again < middle < large == before
    assert large - middle == 2 * (middle - small)


@pytest.mark.parametrize(
    ("name", "quantity", "direction"),
    [
        ("moves_right", "x", 1),
        ("moves_left", "x", -1),
        ("moves_down", "y", 1),
        ("moves_up", "y", -1),
        ("turns_clockwise", "angle", 1),
        ("turns_counterclockwise", "angle", -1),  # y and angle grow downwards, so positive is clockwise
        ("grows", "phase", 1),
        ("shrinks", "phase", -1),
    ],
)
def test_a_class_does_what_its_name_says_at_a_constant_speed_and_nothing_else(name: str, quantity: str, direction: int):
    course = trajectory(CLASSES.index(name), np.random.default_rng(0))
    assert len(course) == NUM_FRAMES
    for each in ("x", "y", "angle", "phase"):
        steps = np.diff([getattr(state, each) for state in course])
        if each == quantity:
            assert (steps * direction > 0).all()
            np.testing.assert_allclose(steps, steps[0], rtol=1e-9)  # sums of doubles
        else:
            assert (steps == 0).all()


# Files on disk.

FEW = {"train": 16, "val": 8, "test": 8}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("motion") / "data"
    read_motion(str(root), **FEW, seed=0)
    return root


def test_every_split_holds_as_many_videos_of_each_class(generated: Path):
    catalogue = read_motion(str(generated), **FEW, seed=0)
    assert catalogue.classes == CLASSES
    for split, number in FEW.items():
        videos = getattr(catalogue, split)
        assert Counter(video.label for video in videos) == dict.fromkeys(range(8), number // 8)
        for video in videos:
            assert Path(video.path).parent == generated / split / CLASSES[video.label]


def test_twins_are_twins_of_each_other(generated: Path):
    catalogue = read_motion(str(generated), **FEW, seed=0)
    assert sorted(catalogue.twins) == list(range(8))
    for label, twin in catalogue.twins.items():
        assert twin != label
        assert catalogue.twins[twin] == label
    assert {CLASSES[a]: CLASSES[b] for a, b in catalogue.twins.items() if CLASSES[a] in TWIN} == TWIN


def test_a_file_shows_the_video_of_its_own_seed(generated: Path):
    # The second video of "moves_down" in the training split: number 8 + 2, of split 0, of seed 0.
    path = generated / "train" / "moves_down" / "00001.mp4"
    expected = np.stack(list(render(2, np.random.default_rng((0, 0, 10)))))  # (T, H, W, C)
    with open_video(str(path)) as opened:
        assert (opened.num_frames, opened.size, opened.fps) == (NUM_FRAMES, (SIDE, SIDE), FPS)
        shown = opened.read(range(NUM_FRAMES)).permute(0, 2, 3, 1).numpy()
    # H.264 keeps colours at half the resolution, so the shape's edge differs and little else: 2 grey levels were seen.
    assert np.abs(shown.astype(int) - expected).mean() < 5


def test_files_hold_key_frames_only(generated: Path):
    paths = list((generated / "val").rglob("*.mp4"))
    assert len(paths) == 8
    for path in paths:
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.is_keyframe for packet in packets] == [True] * NUM_FRAMES


def test_no_two_videos_are_the_same(generated: Path):
    videos = [data for name, data in contents(generated).items() if name.endswith(".mp4")]
    assert len(set(videos)) == len(videos) == sum(FEW.values())


def test_the_same_seed_gives_identical_files_at_any_number_of_processes(
    generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        read_motion(str(tmp_path / str(cores)), **FEW, seed=0)
        assert contents(tmp_path / str(cores)) == contents(generated)


def test_another_seed_gives_other_videos(generated: Path, tmp_path: Path):
    read_motion(str(tmp_path / "other"), **FEW, seed=1)
    first, second = contents(generated), contents(tmp_path / "other")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_more_videos_begin_with_the_same_ones(generated: Path, tmp_path: Path):
    read_motion(str(tmp_path / "more"), train=24, val=8, test=8, seed=0)
    first, more = contents(generated), contents(tmp_path / "more")
    assert {name: more[name] for name in first if name != motion.MANIFEST} == {
        name: data for name, data in first.items() if name != motion.MANIFEST
    }
    assert len(more) == len(first) + 8


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"train": 24}, {"val": 16}, {"test": 16}], ids=["seed", "train", "val", "test"]
)
def test_a_folder_generated_otherwise_is_an_error_that_names_both(change: dict[str, int], generated: Path):
    before = contents(generated)
    with pytest.raises(ValueError, match=r"was generated as .*'train': 16.*, not as "):
        read_motion(str(generated), **{**FEW, "seed": 0, **change})
    assert contents(generated) == before


def test_a_folder_of_another_version_of_the_generator_is_an_error(generated: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(motion, "VERSION", motion.VERSION + 1)
    with pytest.raises(ValueError, match="was generated as"):
        read_motion(str(generated), **FEW, seed=0)


def test_a_folder_that_is_not_motion_is_an_error_and_stays_as_it_is(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=rf"exists but holds no {motion.MANIFEST}"):
        read_motion(str(tmp_path), **FEW, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("number", [0, 7, 12, -8])
def test_a_number_that_is_no_multiple_of_the_classes_is_an_error_before_anything_is_written(
    number: int, tmp_path: Path
):
    with pytest.raises(ValueError, match=rf"data\.val={number} is not a multiple of the 8 classes"):
        read_motion(str(tmp_path / "data"), train=8, val=number, test=8, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_generation_leaves_nothing_behind(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(done: Iterator, *args: object, **options: object) -> Iterator:
        yield next(done)  # a video is written
        assert list(tmp_path.rglob("*.mp4"))
        raise error("stop")

    with monkeypatch.context() as patch:
        patch.setattr(motion, "tqdm", interrupted)
        with pytest.raises(error, match="stop"):
            read_motion(str(tmp_path / "data"), **FEW, seed=0)
    assert list(tmp_path.iterdir()) == []
    assert len(read_motion(str(tmp_path / "data"), **FEW, seed=0).train) == 16


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_a_generation_killed_in_the_middle_leaves_no_folder_of_that_name(tmp_path: Path):
    root = tmp_path / "data"
    code = f"from tubelet.video.motion import read_motion; read_motion({str(root)!r}, 80000, 8, 8, 0)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("data.partial-*/train/*/*.mp4")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the workers too, which are of its session
        process.wait()
    assert list(tmp_path.glob("data.partial-*/train/*/*.mp4"))
    assert not root.exists()
    read_motion(str(root), **FEW, seed=0)
    assert json.loads((root / motion.MANIFEST).read_text()) == {"version": motion.VERSION, **FEW, "seed": 0}
