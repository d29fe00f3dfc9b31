"""The generated data: a twin is the same motion backwards, and nothing but the order of the frames tells it apart."""

import functools

import numpy as np
import pytest

from tubelet.video import motion
from tubelet.video.motion import CLASSES, NUM_FRAMES, SIDE, TWINS, State, draw, render, trajectory

PAIRS = [(CLASSES.index(a), CLASSES.index(b)) for a, b in TWINS]
BOTH_WAYS = [*PAIRS, *(pair[::-1] for pair in PAIRS)]
RUNNING = {"moves_right": "x", "moves_down": "y", "grows": "growth", "brightens": "light"}
PERIODS = {"x": SIDE, "y": SIDE, "growth": 1, "light": 1, "angle": 2 * np.pi}  # after which each begins again


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
    for seed in range(4):
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


@functools.cache
def states(label: int, seeds: range) -> dict[str, np.ndarray]:
    """What the frames show, (videos, T) each, within its period."""
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
    n = 600
    own, other = states(label, range(n)), states(twin, range(n, 2 * n))
    for name in PERIODS:
        for slot in range(NUM_FRAMES):
            assert distance(own[name][:, slot], other[name][:, slot]) < limit(n)


@pytest.mark.parametrize(("label", "twin"), PAIRS)
def test_what_runs_is_uniform_on_its_whole_period_in_every_frame_slot(label: int, twin: int):
    n, running = 600, RUNNING[CLASSES[label]]
    uniform = (np.arange(n) + 0.5) / n * PERIODS[running]
    for sample in (states(label, range(n)), states(twin, range(n, 2 * n))):
        for slot in range(NUM_FRAMES):
            assert distance(sample[running][:, slot], uniform) < limit(n)


def seen(label: int, seeds: range) -> np.ndarray:
    """(videos, T, 6): covered area; place (across, down) and tilt of the bright shape; mean and brightest pixel."""
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
        rows = [cover.sum((1, 2)), across, down, tilt, frames.mean((1, 2, 3)), light.max((1, 2))]
        features.append(np.stack(rows, axis=-1))
    return np.stack(features)


NUM_SEEN = 60  # videos of each class


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
    feature = {"growth": 0, "x": 1, "y": 2, "light": 5}[RUNNING[CLASSES[label]]]
    change = [np.median(np.diff(pictures[c][..., feature], axis=1), axis=1) for c in (label, twin)]  # (videos,)
    # A median step, so that the one where the quantity begins again does not count.
    assert (change[0] > 0).mean() > 0.95
    assert (change[1] < 0).mean() > 0.95


def test_the_test_of_slots_would_see_videos_that_all_start_at_one_place():
    courses = (states(CLASSES.index(name), range(NUM_SEEN))["x"] for name in ("moves_right", "moves_left"))
    right, left = ((32 + x - x[:, :1]) % SIDE for x in courses)
    assert distance(right[:, 0], left[:, 0]) == 0
    assert distance(right[:, 4], left[:, 4]) > limit(NUM_SEEN)


# What the classes look like, by hand.


def bright(x: float, y: float, angle: float) -> np.ndarray:
    """(H, W) bool: the pixels that a small, bright clock hand covers by more than half."""
    frame = draw(State(x, y, growth=0.0, light=0.9, angle=angle), motion._hand, np.full(3, 250.0), np.zeros(3))
    assert frame.shape == (SIDE, SIDE, 3)
    assert frame.dtype == np.uint8
    return frame[..., 0] > frame.max() / 2


def state(**values: float) -> State:
    return State(**{"x": 0.0, "y": 0.0, "growth": 0.0, "light": 0.0, "angle": 0.0, **values})


def test_a_hand_points_right_at_angle_0_and_down_after_a_quarter_turn_clockwise():
    length = round(state().size)
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


@pytest.mark.parametrize(("phase", "shown"), [("growth", "size"), ("light", "brightness")])
def test_size_and_brightness_are_saw_teeth_of_their_phases(phase: str, shown: str):
    values = [getattr(state(**{phase: at}), shown) for at in (0, 0.25, 0.75, 1, -0.25)]
    low, middle, high, again, before = values
    assert 0 < low == again < middle < high == before
    assert high - middle == pytest.approx(2 * (middle - low))


@pytest.mark.parametrize(
    ("name", "quantity", "direction"),
    [
        ("moves_right", "x", 1),
        ("moves_left", "x", -1),
        ("moves_down", "y", 1),
        ("moves_up", "y", -1),
        ("grows", "growth", 1),
        ("shrinks", "growth", -1),
        ("brightens", "light", 1),
        ("darkens", "light", -1),
    ],
)
def test_a_class_does_what_its_name_says_at_a_constant_speed_and_nothing_else(name: str, quantity: str, direction: int):
    course = trajectory(CLASSES.index(name), np.random.default_rng(0))
    assert len(course) == NUM_FRAMES
    for each in PERIODS:
        steps = np.diff([getattr(state, each) for state in course])
        if each == quantity:
            assert (steps * direction > 0).all()
            np.testing.assert_allclose(steps, steps[0], rtol=1e-9)  # sums of doubles
        else:
            assert (steps == 0).all()
