"""Frame numbers of clips, by hand and by what must hold for every length of video."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from tubelet.video.sampling import (
    Dense,
    FirstOfEachPart,
    FirstToLast,
    NoFrameRate,
    Sampling,
    Segments,
    Starts,
    clip_at,
    forward,
    frozen,
    last_start,
    order_named,
    reversed_,
    shuffled,
    strided,
)

repeatable = settings(deadline=None, derandomize=True)
shapes = {"num_frames": st.integers(1, 60), "clip_frames": st.integers(1, 12), "stride": st.integers(1, 6)}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def random_clip(num_frames: int, clip_frames: int, stride: int, drawn: Generator) -> Tensor:
    return Dense(clip_frames, stride, None).random_clip(num_frames, 25.0, drawn)


def even_clips(num_frames: int, clip_frames: int, stride: int, num_clips: int) -> Tensor:
    return Dense(clip_frames, stride, None).test_clips(num_frames, 25.0, num_clips, FirstToLast())


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


# The other published grid.


def test_first_of_each_part_starts_at_k_times_the_last_start_over_the_number_of_clips():
    # 20 frames, a clip spans 7: starts 0..13, five clips at floor(k * 13 / 5), as SlowFast and TimeSformer do.
    clips = Dense(3, 3, None).test_clips(20, 25.0, 5, FirstOfEachPart())
    assert clips[:, 0].tolist() == [0, 2, 5, 7, 10]
    assert clips[-1].tolist() == [10, 13, 16]


def test_first_of_each_part_of_one_clip_is_the_beginning_of_the_video():
    assert Dense(3, 3, None).test_clips(20, 25.0, 1, FirstOfEachPart()).tolist() == [[0, 3, 6]]


# A frame rate of its own.


@pytest.mark.parametrize(
    ("fps", "target", "expected"),
    [
        (25.0, 25.0, [0, 2, 4, 6]),
        (30.0, 15.0, [0, 4, 8, 12]),  # every second frame of the file
        (15.0, 30.0, [0, 1, 2, 3]),  # each frame of the file twice
        (25.0, 10.0, [0, 5, 10, 15]),  # frames 0, 2, 4, 6 of one every 2.5
        (10.0, 25.0, [0, 1, 2, 2]),  # 0, 2, 4, 6 of one every 0.4: 0, 0.8, 1.6, 2.4
        (30000 / 1001, 30.0, [0, 2, 4, 6]),  # 0, 1.998, 3.996, 5.994
    ],
)
def test_stride_counts_frames_of_the_video_at_the_rate_asked_for(fps: float, target: float, expected: list[int]):
    sampling = Dense(4, 2, target)
    assert sampling.test_clips(40, fps, 1, FirstOfEachPart()).tolist() == [expected]


def test_of_two_frames_of_the_file_as_near_the_later_is_shown():
    # One resampled frame every 2.5 of the file: 0, 2.5, 5, 7.5.
    assert Dense(4, 1, 10.0).test_clips(8, 25.0, 1, FirstToLast()).tolist() == [[0, 3, 5, 5]]  # 7.5 lies past frame 7
    assert Dense(4, 1, 10.0).test_clips(9, 25.0, 1, FirstToLast()).tolist() == [[0, 3, 5, 8]]


def test_clips_of_two_files_of_the_same_scene_at_two_rates_show_the_same_times():
    # 10 s each, one frame every 1 / 6 s: every fifth frame of the one, every fourth of the other.
    sampling = Dense(6, 2, 12.0)
    fast, slow = (sampling.test_clips(round(10 * fps) + 1, fps, 5, FirstToLast()) for fps in (30.0, 24.0))
    assert (fast / 30.0 - slow / 24.0).abs().max() <= 0.5 / 24 + 0.5 / 30  # each is nearest in its own file
    assert (slow[:, 1:] - slow[:, :-1] == 4).all()


def test_frame_rates_of_television_are_exact():
    # In floats, frame 1001 of 1000 a second over 30000/1001 would be off by rounding; the place is 30000 exactly.
    assert Dense(2, 1001, 1000.0).test_clips(31, 30000 / 1001, 1, FirstToLast()).tolist() == [[0, 30]]


@pytest.mark.parametrize("fps", [0.0, float("nan"), float("inf")])
def test_a_rate_asked_of_a_file_without_one_is_an_error_that_names_the_key(fps: float):
    with pytest.raises(NoFrameRate, match=r"the file does not say its frame rate, which clip\.fps=15 needs"):
        Dense(4, 2, 15.0).random_clip(20, fps, generator())
    assert Dense(4, 2, None).test_clips(20, fps, 1, FirstToLast()).tolist() == [[6, 8, 10, 12]]


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan")])
def test_a_rate_that_is_not_positive_is_an_error(fps: float):
    with pytest.raises(ValueError, match=r"clip\.fps=.* is not a positive number"):
        Dense(4, 2, fps)


@repeatable
@given(**shapes, target=st.integers(1, 60), num_clips=st.integers(1, 5), fps=st.sampled_from([10, 25, 30000 / 1001]))
def test_a_clip_at_a_rate_of_its_own_shows_frames_within_half_a_frame_of_their_time(
    num_frames: int, clip_frames: int, stride: int, target: int, num_clips: int, fps: float
):
    clips = Dense(clip_frames, stride, float(target)).test_clips(num_frames, fps, num_clips, FirstToLast())
    step, length = fps / target, int((num_frames - 1) / (fps / target) + 1e-9) + 1  # of the resampled video
    for clip in clips.tolist():
        assert clip == sorted(clip)
        assert 0 <= clip[0] <= clip[-1] < num_frames
    resampled = even_clips(length, clip_frames, stride, num_clips)
    assert (clips - resampled * step).abs().max() <= 0.5 + 1e-4


# Segments.


def segments(num_frames: int, clip_frames: int, num_clips: int) -> list[list[int]]:
    return Segments(clip_frames, 1, None).test_clips(num_frames, 25.0, num_clips, FirstToLast()).tolist()


def test_one_clip_of_segments_is_the_middle_of_each():
    # 20 frames in 4 segments of 5: 2.5, 7.5, ...; 10 in 4 of 2.5: 1.25, 3.75, 6.25, 8.75.
    assert segments(20, 4, 1) == [[2, 7, 12, 17]]
    assert segments(10, 4, 1) == [[1, 3, 6, 8]]


def test_two_clips_of_segments_are_their_beginning_and_their_middle_as_in_videomae():
    # tick * x and tick / 2 + tick * x, with tick = 2.5
    assert segments(10, 4, 2) == [[0, 2, 5, 7], [1, 3, 6, 8]]


def test_three_clips_of_segments_are_shifted_by_thirds_of_a_segment():
    assert segments(18, 3, 3) == [[0, 6, 12], [2, 8, 14], [4, 10, 16]]


def test_of_more_segments_than_frames_some_show_the_frame_of_the_one_before():
    assert segments(3, 5, 1) == [[0, 0, 1, 2, 2]]  # 0.3, 0.9, 1.5, 2.1, 2.7
    assert segments(1, 4, 2) == [[0] * 4] * 2
    drawn = Segments(5, 1, None).random_clip(1, 25.0, generator())
    assert drawn.tolist() == [0] * 5


def test_in_training_every_frame_of_a_segment_is_equally_likely_and_none_of_the_video_is_left_out():
    # 10 frames in 4 segments of 2.5: frame 2 is half in the first and half in the second.
    shared, sampling = generator(), Segments(4, 1, None)
    clips = torch.stack([sampling.random_clip(10, 25.0, shared) for _ in range(4000)])
    shares = [torch.bincount(clips[:, i], minlength=10) / 4000 for i in range(4)]
    expected = [[0.4, 0.4, 0.2], [0, 0, 0.2, 0.4, 0.4], [0] * 5 + [0.4, 0.4, 0.2], [0] * 7 + [0.2, 0.4, 0.4]]
    for share, known in zip(shares, expected, strict=True):
        # A standard deviation is 0.008 at most: 5 of them allowed.
        assert (share - torch.tensor(known + [0] * (10 - len(known)))).abs().max() < 0.04


@repeatable
@given(num_frames=st.integers(1, 60), clip_frames=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_a_random_frame_lies_in_its_segment(num_frames: int, clip_frames: int, seed: int):
    clip = Segments(clip_frames, 1, None).random_clip(num_frames, 25.0, generator(seed)).tolist()
    assert clip == sorted(clip)
    for i, frame in enumerate(clip):  # frame f is the time from f to f + 1
        assert i * num_frames // clip_frames <= frame < (i + 1) * num_frames / clip_frames


@repeatable
@given(num_frames=st.integers(1, 60), clip_frames=st.integers(1, 12), num_clips=st.integers(1, 6))
def test_test_clips_of_segments_lie_in_their_segments_and_follow_each_other(
    num_frames: int, clip_frames: int, num_clips: int
):
    clips = torch.tensor(segments(num_frames, clip_frames, num_clips))
    assert clips.shape == (num_clips, clip_frames)
    assert (clips.T.flatten().diff() >= 0).all()  # first frames of all clips, then second ones, ...
    for i, frames in enumerate(clips.T.tolist()):
        assert all(i * num_frames // clip_frames <= f < (i + 1) * num_frames / clip_frames for f in frames)


def test_a_frame_rate_with_segments_is_an_error():
    with pytest.raises(ValueError, match=r"clip\.fps=15\.0 has no effect with segments"):
        Segments(4, 2, 15.0)


# What all of them obey.

SAMPLINGS = [Dense(5, 3, None), Dense(5, 3, 12.5), Segments(5, 3, None)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["dense", "dense at a rate", "segments"])
def test_a_random_clip_comes_from_its_generator_alone(sampling: Sampling):
    draw = partial(sampling.random_clip, 1000, 25.0)
    torch.manual_seed(0)
    first = draw(generator(5))
    torch.manual_seed(1)
    assert torch.equal(draw(generator(5)), first)
    assert not torch.equal(draw(generator(6)), first)


@pytest.mark.parametrize("starts", [FirstToLast(), FirstOfEachPart()])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["dense", "dense at a rate", "segments"])
@repeatable
@given(num_frames=st.integers(1, 40), num_clips=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_every_clip_has_its_frames_in_order_and_inside_of_the_video(
    sampling: Sampling, starts: Starts, num_frames: int, num_clips: int, seed: int
):
    clips = sampling.test_clips(num_frames, 25.0, num_clips, starts)
    clips = torch.cat([clips, sampling.random_clip(num_frames, 25.0, generator(seed))[None]])
    assert (clips.shape, clips.dtype) == ((num_clips + 1, 5), torch.int64)
    assert (clips.diff() >= 0).all()
    assert 0 <= clips.min() <= clips.max() < num_frames


def test_a_test_is_told_in_words_that_hold_all_that_decides_its_frames():
    assert Dense(8, 2, None).told(FirstToLast()) == "starts from first to last, 8 frames, stride 2"
    told = Dense(8, 2, 12.5).told(FirstOfEachPart())
    assert told == "starts k * last / K, 8 frames, stride 2 at 12.5 frames a second"
    assert Segments(8, 2, None).told(FirstToLast()) == "8 frames, one of each of 8 segments (clip.stride has no part)"


# Orders.

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
