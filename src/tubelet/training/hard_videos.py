"""The videos that a model was most sure of and wrong about, and short films of them."""

from pathlib import Path

import torch
from torch import Tensor

from tubelet.evaluation.results import FAILED, Results
from tubelet.video.dataset import VideoDataset
from tubelet.video.order import Draw
from tubelet.video.pyav import write_video
from tubelet.video.reader import DecodeError

FPS = 8  # of a film: slow enough to follow the few frames of a clip
SMALLEST = 96  # pixels: smaller frames are enlarged in whole numbers, so that something can be seen


def hardest(results: Results, most: int) -> list[int]:
    """Places in `results` of at most so many wrong answers, the most probable first; unreadable videos are none."""
    predicted = results.predicted
    wrong = ((predicted != results.label) & (predicted != FAILED)).nonzero()[:, 0]
    sure = results.probabilities[wrong, predicted[wrong]]
    return wrong[sure.argsort(descending=True, stable=True)][:most].tolist()


def confused(results: Results, most: int) -> list[list]:
    """(label, prediction, videos, their share of the label's videos): the most frequent pairs of wrong answers."""
    read = ~results.failed
    pairs = torch.stack([results.label, results.predicted])[:, read]  # (2, n)
    pairs, counts = pairs[:, pairs[0] != pairs[1]].unique(dim=1, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:most].tolist()
    videos = results.label.bincount()
    names = results.classes
    return [
        [names[label], names[answer], count, count / int(videos[label])]
        for (label, answer), count in ((pairs[:, i].tolist(), int(counts[i])) for i in order)
    ]


def film(dataset: VideoDataset, place: int, path: Path) -> None:
    """Writes the middle one of the views that the model was shown of a video. Raises DecodeError."""
    sample = dataset[Draw(0, place)]  # the draw of an evaluation
    if sample["failure"]:
        raise DecodeError(dataset.videos[place].path, "decode", sample["failure"])
    views = sample["video"]
    write_video(str(path), visible(views[len(views) // 2]).numpy(), FPS)


def visible(clip: Tensor) -> Tensor:
    """uint8 (C, T, H, W) -> (T, h, w, C): enlarged where it is small, with the even sides that H.264 wants."""
    frames = clip.permute(1, 2, 3, 0)
    times = max(1, -(-SMALLEST // min(frames.shape[1:3])))
    frames = frames.repeat_interleave(times, 1).repeat_interleave(times, 2)
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    return frames[:, :height, :width].contiguous()
