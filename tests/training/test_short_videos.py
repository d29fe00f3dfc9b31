"""That the clips of a run are longer than its videos is told, once."""

import logging
from types import SimpleNamespace

import pytest
import torch

from tubelet.training.short_videos import ShortVideos, repeating
from tubelet.video.sampling import clip_at, forward, frozen, reversed_, strided

NUM_FRAMES, STRIDE = 4, 3  # a clip of frames 0, 3, 6 and 9; of a video of 6 frames it is 0, 3, 5 and 5


def epoch(callback, lengths, order=forward):
    """Batches of 5 videos of so many frames, K = 2 clips of each, as a loader gives them."""
    trainer = SimpleNamespace(is_global_zero=True, progress_bar_callback=None)
    trainer.datamodule = SimpleNamespace(train_set=SimpleNamespace(order=order))
    clips = [order(clip_at(0, length, NUM_FRAMES, STRIDE), None) for length in lengths]
    for first in range(0, len(clips), 5):
        frames = torch.stack(clips[first : first + 5])[:, None].repeat(1, 2, 1)  # (B, K, T)
        callback.on_train_batch_end(trainer, None, {}, {"frames": frames}, first)
    callback.on_train_epoch_end(trainer, None)


def test_clips_longer_than_many_of_the_videos_are_told_once(caplog):
    caplog.set_level(logging.INFO)
    callback = ShortVideos()
    epoch(callback, [6] * 2 + [10] * 10 + [300] * 3)
    epoch(callback, [6] * 5)
    told = "their videos are shorter than a clip (clip.num_frames, clip.stride), or clip.fps is above theirs"
    assert caplog.messages == [f"13 % of the training clips show a frame more than once: {told}"]


@pytest.mark.parametrize(
    ("lengths", "order"),
    [([6, *[10] * 9], forward), ([5] * 5, frozen(1)), ([30] * 5, strided), ([10] * 5, reversed_)],
)
def test_a_few_short_videos_and_orders_that_repeat_frames_are_not_told(lengths, order, caplog):
    caplog.set_level(logging.INFO)
    epoch(ShortVideos(), lengths, order)
    assert not caplog.messages


def test_a_clip_repeats_where_a_number_stands_in_it_twice():
    assert repeating(torch.tensor([[0, 1, 2], [2, 0, 2], [4, 4, 4]])).tolist() == [False, True, True]
    assert repeating(torch.tensor([[3]])).tolist() == [False]
