"""What a run tells while it goes: a bar on a terminal, plain lines elsewhere, and one line an epoch on both."""

import logging
import math
import time

import lightning as L

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0  # where there is no bar
SECONDS_BETWEEN_LOSSES = 1.0  # on a bar; fetching one waits for the device


def say(trainer: L.Trainer, line: str) -> None:
    """A line of its own, from rank 0: above the bar, where there is one."""
    if not trainer.is_global_zero:
        return
    if trainer.progress_bar_callback is not None:
        trainer.progress_bar_callback.print(line)
    else:
        log.info(line)


class Diverged(ValueError):
    """No weight of the run will ever be a number again."""


def diverged(what: str, step: int) -> Diverged:
    """The error to raise. what: was found at this optimiser step, a clause"""
    return Diverged(
        f"{what} at step {step}: the run has diverged; a smaller optim.lr, a longer "
        "optim.warmup_epochs or optim.clip_norm=1 may help, and trainer.detect_anomaly=true says where it began"
    )


def refuse_divergence(loss: float, step: int) -> None:
    """Raises Diverged for a loss that is no finite number."""
    if not math.isfinite(loss):
        raise diverged(f"the training loss is {loss}", step)


class Progress(L.Callback):
    """Prints, and measures: `clips_per_second` is that of the training batches alone, None where there were none."""

    def __init__(self) -> None:
        self.clips, self.seconds = 0, 0.0

    @property
    def clips_per_second(self) -> float | None:
        return self.clips / self.seconds if self.seconds else None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.on_train_epoch_start(trainer, module)  # which Lightning leaves out when it resumes within an epoch

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._epoch_started = self._last = self._told = time.monotonic()
        self._epoch_clips = 0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        now, clips = time.monotonic(), batch["video"].shape[:2].numel() * trainer.world_size
        self.clips, self.seconds, self._last = self.clips + clips, self.seconds + now - self._last, now
        self._epoch_clips += clips
        if trainer.progress_bar_callback is not None and now - self._told > SECONDS_BETWEEN_LOSSES:
            self._told = now
            loss = trainer.callback_metrics["train/loss"].cpu()
            self._refuse_divergence(trainer, float(loss))
            module.log("loss", loss, prog_bar=True, logger=False)
        if trainer.progress_bar_callback is None and now - self._told > SECONDS_BETWEEN_LINES:
            self._told = now
            speed = self._epoch_clips / (now - self._epoch_started)
            loss = float(trainer.callback_metrics["train/loss"])
            self._refuse_divergence(trainer, loss)
            step = f"batch {batch_idx + 1}/{trainer.num_training_batches}"
            say(trainer, f"  {self._epoch(trainer)}  {step}  loss {loss:.3f}  {speed:.0f} clips/s")

    def _refuse_divergence(self, trainer: L.Trainer, loss: float) -> None:
        """Of rank 0 alone: it would tell of a broken connection where another rank had ended before it."""
        if trainer.is_global_zero:
            refuse_divergence(loss, trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._last = time.monotonic()  # validation is not training time
        figures = {k: float(v) for k, v in trainer.callback_metrics.items()}
        told = f"train loss {module.train_loss.compute():.3f}"
        told += f"  val loss {figures['val/loss']:.3f}  val top-1 {figures['val/top1']:.3f}"
        say(trainer, f"{self._epoch(trainer)}  {told}  {time.monotonic() - self._epoch_started:.0f} s")

    def _epoch(self, trainer: L.Trainer) -> str:
        if trainer.max_steps > 0:  # which may end the run long before its last epoch
            return f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}/{trainer.max_steps}"
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
