"""Trials of a search that are ended early, at a validation."""

from pathlib import Path
from typing import Any

import lightning as L

PRUNED = "pruned"  # the status of such a run in metrics.json


class Pruning(L.Callback):
    """Ends a trial whose best validation so far is worse than the median of the finished ones at that validation.

    run_dir: of a job of a search (conf/sweep/optuna_lr.yaml): its name is the number of the trial
    monitor: the figure of the search
    startup_trials: finished trials before the first is ended
    warmup: validations at which no trial is ended
    Raises ValueError in any other run.
    """

    def __init__(self, run_dir: str, monitor: str, startup_trials: int, warmup: int):
        self.folder, number = Path(run_dir).parent, Path(run_dir).name
        if not number.isdigit() or not (self.folder / "search.journal").exists():
            raise ValueError(f"callbacks.prune is for the jobs of a search, such as sweep=optuna_lr; {run_dir} is none")
        self.number, self.monitor = int(number), monitor
        self.startup_trials, self.warmup = startup_trials, warmup
        self.validations, self.pruned = 0, False

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.validations += 1
        bad = trainer.is_global_zero and self._is_bad(trainer.callback_metrics[self.monitor].item())
        if trainer.strategy.broadcast(bad) and not _trained(trainer):  # all ranks stop, or none
            self.pruned = trainer.should_stop = True

    def _is_bad(self, value: float) -> bool:
        import optuna  # only a search needs it

        from tubelet.training.journal import report

        pruner = optuna.pruners.MedianPruner(self.startup_trials, n_warmup_steps=self.warmup + 1)  # ours count from 1
        return report(self.folder, self.number, self.validations, value, pruner)

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validations = state_dict["validations"]


def _trained(trainer: L.Trainer) -> bool:
    """Whether no step is left, and so only the test would be saved, whose figures such a trial deserves."""
    last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
    return trainer.global_step == trainer.max_steps or (last_epoch and trainer.is_last_batch)
