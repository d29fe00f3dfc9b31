"""Frame numbers of clips, by hand and by what must hold for every length of video."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from tubelet.video.sampling import (
    clip_at,
    even_clips,
    forward,
    frozen,
    last_start,
    order_named,
    random_clip,
    reversed_,
    shuffled,
    strided,
)

repeatable = settings(deadline=None, derandomize=True)
shapes = {"num_frames": st.integers(1, 60), "clip_frames": st.integers(1, 12), "stride": st.integers(1, 6)}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_a_clip_of_4_frames_with_stride_3_spans_10_frames():
    assert clip_at(2, 12, 4, 3).tolist() == [2, 5, 8, 11]
    assert last_start(12, 4, 3) == 2
    assert last_start(10, 4, 3) == 0


def test_past_the_end_of_the_video_its_last_frame_is_repeated():
    assert clip_at(8, 12, 4, 3).tolist() == [8, 11, 11, 11]


def test_a_video_shorter_than_its_clip_starts_at_frame_0_and_repeats_its_last_frame():
    assert last_start(9, 4, 3) == 0
    assert random_clip(5, 4, 3, generator()).tolist() == [0, 3, 4, 4]
    assert even_clips(5, 4, 3, 2).tolist() == [[0, 3, 4, 4], [0, 3, 4, 4]]


def test_a_video_of_one_frame_is_that_frame_throughout():
    assert random_clip(1, 5, 2, generator()).tolist() == [0] * 5
    assert even_clips(1, 5, 2, 3).tolist() == [[0] * 5] * 3


def test_even_clips_go_from_the_first_possible_start_to_the_last_possible():
    # 20 frames, a clip spans 7: starts 0..13, five clips at floor(k * 13 / 4).
    assert even_clips(20, 3, 3, 5)[:, 0].tolist() == [0, 3, 6, 9, 13]
    assert even_clips(20, 3, 3, 5)[-1].tolist() == [13, 16, 19]


def test_a_single_even_clip_is_the_centre_one():
    assert even_clips(20, 3, 3, 1).tolist() == [[6, 9, 12]]


def test_the_last_frame_of_a_clip_that_just_fits_is_the_last_of_the_video():
    assert even_clips(10, 4, 3, 1).tolist() == [[0, 3, 6, 9]]


@repeatable
@given(**shapes, seed=st.integers(0, 2**32))
def test_a_random_clip_lies_inside_the_video_in_order_and_keeps_its_stride_where_it_fits(
    num_frames: int, clip_frames: int, stride: int, seed: int
):
    clip = random_clip(num_frames, clip_frames, stride, generator(seed))
    assert_is_clip(clip, num_frames, clip_frames, stride)


@repeatable
@given(**shapes, num_clips=st.integers(1, 8))
def test_even_clips_lie_inside_the_video_in_order_and_are_spread_symmetrically(
    num_frames: int, clip_frames: int, stride: int, num_clips: int
):
    clips = even_clips(num_frames, clip_frames, stride, num_clips)
    assert clips.shape == (num_clips, clip_frames)
    for clip in clips:
        assert_is_clip(clip, num_frames, clip_frames, stride)
    starts, last = clips[:, 0].tolist(), last_start(num_frames, clip_frames, stride)
    if num_clips > 1:
        steps = {after - before for before, after in pairwise(starts)}
        assert (starts[0], starts[-1]) == (0, last)
        assert max(steps) - min(steps) <= 1  # integer starts cannot be spread more evenly
    else:
        assert starts == [last // 2]


def assert_is_clip(clip: torch.Tensor, num_frames: int, clip_frames: int, stride: int) -> None:
    numbers = clip.tolist()
    assert len(numbers) == clip_frames
    assert numbers == sorted(numbers)
    assert 0 <= numbers[0] <= numbers[-1] < num_frames
    if num_frames >= (clip_frames - 1) * stride + 1:
        assert numbers == list(range(numbers[0], numbers[0] + clip_frames * stride, stride))
    else:
        assert numbers == [min(k * stride, num_frames - 1) for k in range(clip_frames)]


def test_every_start_at_which_a_clip_fits_is_equally_likely():
    # 12 frames, a clip spans 7: starts 0..5. 3000 draws, 500 each expected, standard deviation 20: 5 of them allowed.
    shared = generator()
    starts = torch.stack([random_clip(12, 3, 3, shared)[0] for _ in range(3000)])
    counts = torch.bincount(starts)
    assert len(counts) == 6
    assert (counts - 500).abs().max() <= 100


def test_a_random_clip_comes_from_its_generator_alone():
    draw = partial(random_clip, 1000, 4, 2)
    torch.manual_seed(0)
    first = draw(generator(5))
    torch.manual_seed(1)
    assert torch.equal(draw(generator(5)), first)
    assert not torch.equal(draw(generator(6)), first)


CLIP = torch.tensor([10, 12, 14, 16, 18])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("forward", [10, 12, 14, 16, 18]),
        ("reversed", [18, 16, 14, 12, 10]),
        ("strided", [10, 10, 14, 14, 18]),
        ("frozen", [10, 10, 10, 10, 10]),
    ],
)
def test_an_order_shows_these_frames(name: str, shown: list[int]):
    assert order_named(name, frozen_at=0)(CLIP, generator()).tolist() == shown


def test_frozen_at_goes_with_frozen_alone():
    assert order_named("frozen", frozen_at=1)(CLIP, generator()).tolist() == [12] * 5
    with pytest.raises(ValueError, match=r"frozen_at=1 has no effect with order=forward; it goes with order=frozen"):
        order_named("forward", frozen_at=1)


def test_shuffled_shows_every_frame_once_in_a_fresh_order_for_every_clip():
    shared = generator()
    clips = [shuffled(CLIP, shared).tolist() for _ in range(200)]
    assert all(sorted(clip) == CLIP.tolist() for clip in clips)
    assert len({tuple(clip) for clip in clips}) > 80  # of 120 permutations, 97 are expected in 200 draws
    assert shuffled(CLIP, generator(1)).tolist() == shuffled(CLIP, generator(1)).tolist()


def test_frozen_counts_negative_places_from_the_end():
    assert frozen(-1)(CLIP, generator()).tolist() == [18] * 5
    assert frozen(-5)(CLIP, generator()).tolist() == [10] * 5


@pytest.mark.parametrize("at", [5, -6])
def test_frozen_outside_of_the_clip_is_an_error_that_names_the_place(at: int):
    with pytest.raises(ValueError, match=f"frozen_at={at} is not a place in a clip of 5 frames"):
        frozen(at)(CLIP, generator())


def test_only_shuffled_draws_random_numbers():
    shared = generator()
    before = shared.get_state()
    for order in (forward, reversed_, strided, frozen(0)):
        order(CLIP, shared)
    assert torch.equal(shared.get_state(), before)


def test_an_unknown_order_is_an_error_that_lists_the_orders():
    with pytest.raises(ValueError, match="order=backwards is unknown; the orders are forward, reversed, shuffled"):
        order_named("backwards", 0)


@repeatable
@given(length=st.integers(1, 20), name=st.sampled_from(["forward", "reversed", "shuffled", "strided", "frozen"]))
def test_every_order_keeps_the_number_of_frames_and_shows_only_frames_of_the_clip(length: int, name: str):
    clip = torch.arange(length) * 3 + 7
    shown = order_named(name, frozen_at=0)(clip, generator())
    assert shown.shape == clip.shape
    assert set(shown.tolist()) <= set(clip.tolist())
