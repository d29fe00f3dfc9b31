"""Answers for single video files, with the transform that the checkpoint carries."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tubelet.evaluation.checkpoint import Checkpoint
from tubelet.evaluation.predictor import Predictor
from tubelet.video.annotations import Video
from tubelet.video.dataset import VideoDataset
from tubelet.video.order import Draw
from tubelet.video.sampling import forward
from tubelet.video.transforms import Normalise
from tubelet.video.views import TestViews


@torch.inference_mode()
def probabilities(
    checkpoint: Checkpoint, paths: Iterable[str], clips: int | None = None, crops: int | None = None
) -> Iterator[Tensor]:
    """Yields (num_classes,) for each file, in order. clips, crops: None takes those of the run's own test.

    Raises DecodeError at a file that cannot be read.
    """
    clip, views = checkpoint.config["clip"], checkpoint.config["views"]
    test_views = TestViews(clip, clips or views["clips"], crops or views["crops"])
    predictor = Predictor(checkpoint.build_model(), Normalise(clip["mean"], clip["std"]))
    videos = [Video(path, 0) for path in paths]
    dataset = VideoDataset(
        videos, test_views.sample, forward, test_views.transform, seed=0, reader="auto", skip_errors=False
    )
    for i in range(len(videos)):
        yield predictor(dataset[Draw(0, i)]["video"][None])[0]
