"""One line where the videos are too short for the clips that are cut from them, since no loss and no error shows it."""

import lightning as L
import torch
from torch import Generator, Tensor

from tubelet.training.progress import say

MANY = 0.1  # share of the clips; data sets have a few short videos, and a frame rate of its own may show a frame twice


class ShortVideos(L.Callback):
    """Looks at the training clips of one epoch, those of this rank."""

    def __init__(self) -> None:
        self.told, self._num_clips, self._num_frames = False, 0, 0
        self._num_repeating: Tensor | int = 0  # stays on the device, which need not be waited for until the end

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        if not self.told:
            clips = batch["frames"].flatten(0, 1)  # (B * K, T)
            self._num_clips, self._num_frames = self._num_clips + len(clips), clips.shape[1]
            self._num_repeating = self._num_repeating + repeating(clips).sum()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.told or not self._num_clips:
            return
        self.told, share = True, int(self._num_repeating) / self._num_clips
        ordered = trainer.datamodule.train_set.order(torch.arange(self._num_frames), Generator())
        if share > MANY and not repeating(ordered[None]).any():  # order=frozen shows one frame on purpose
            what = "their videos are shorter than a clip (clip.num_frames, clip.stride), or clip.fps is above theirs"
            say(trainer, f"{100 * share:.0f} % of the training clips show a frame more than once: {what}")


def repeating(clips: Tensor) -> Tensor:
    """Frame numbers (N, T) -> bool (N,): whether one stands there twice."""
    return (clips.sort(dim=-1).values.diff(dim=-1) == 0).any(dim=-1)
