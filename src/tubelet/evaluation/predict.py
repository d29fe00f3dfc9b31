"""Answers for single video files, with the transform that the checkpoint carries."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tubelet.evaluation.checkpoint import Checkpoint
from tubelet.evaluation.predictor import Predictor
from tubelet.video.annotations import Video
from tubelet.video.dataset import VideoDataset
from tubelet.video.open import DEFAULTS, ReadOptions
from tubelet.video.order import Draw
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import forward
from tubelet.video.transforms import Normalise


@torch.inference_mode()
def predictions(
    checkpoint: Checkpoint,
    paths: Iterable[str],
    clips: int | None = None,
    crops: int | None = None,
    seconds: float = DEFAULTS.time_limit,
) -> Iterator[Tensor | DecodeError]:
    """Yields probabilities (num_classes,) for each file, in order; a DecodeError for one that cannot be read.

    clips, crops: None takes those of the run's own test. Frames are shown forward, whatever the run was trained on.
    seconds: for one video, after which it is one that cannot be read
    """
    clip, test_views = checkpoint.config["clip"], checkpoint.build_views(clips, crops)
    predictor = Predictor(checkpoint.build_model(), Normalise(clip["mean"], clip["std"]))
    videos = [Video(path, 0) for path in paths]
    data = checkpoint.config["data"]
    options = ReadOptions(
        short_side=clip["resize"] if data["scale_while_decoding"] else None,
        time_limit=seconds,
        frame_names=data["frame_names"],
        first_frame=data["first_frame"],
    )
    choose = (test_views.sample, forward, test_views.transform)
    dataset = VideoDataset(videos, *choose, seed=0, reader="auto", skip_errors=False, options=options)
    for i in range(len(videos)):
        try:
            views = dataset[Draw(0, i)]["video"]  # (V, C, T, H, W)
        except DecodeError as error:
            yield error
        else:
            answer = predictor(views[None])[0]
            if not answer.isfinite().all():
                raise ValueError(f"{checkpoint.path}: the answers are not finite numbers; its weights are broken")
            yield answer
