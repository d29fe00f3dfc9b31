"""How weights are updated: the learning rate and its schedule, what decays, and what the batch is."""

import math
from collections.abc import Callable, Sequence

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tubelet.training.groups import parameter_groups
from tubelet.training.schedules import Schedule


class Optim:
    """The `optim` node of the config.

    optimizer: called with parameter groups and lr; a partial of a torch optimiser. `fused: null` is true on a GPU,
        but under 16-mixed, where Lightning clips no gradients of a fused optimiser
    lr: learning rate at the end of the warm-up
    base_batch: clips of a step for which lr, warmup_lr and end_lr are meant: all rates grow with total_batch over it
        (Goyal et al. 2017, section 2.1); None leaves them as they are
    weight_decay: of matrices and convolutions; of what else, decay_vectors and not_decayed say, see groups.py
    layer_decay: rate of each block over that of the next one (Clark et al. 2020, section 3.4); 1 for none
    trained: names of the modules that are trained, the rest is frozen; None trains all
    warmup_epochs: epochs in which the rate grows linearly from `warmup_lr`; may be a fraction
    schedule: of the rate after the warm-up
    clip_norm: gradients of a larger L2 norm are scaled down to it; None leaves them
    total_batch: clips of one optimiser step, over all devices, repeats and accumulated batches
    label_smoothing: share of each label given to all classes alike
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        lr: float,
        base_batch: int | None,
        weight_decay: float,
        decay_vectors: bool,
        not_decayed: Sequence[str],
        layer_decay: float,
        trained: Sequence[str] | None,
        warmup_epochs: float,
        warmup_lr: float,
        schedule: Schedule,
        clip_norm: float | None,
        total_batch: int,
        label_smoothing: float,
    ):
        above_zero = {"lr": lr, "total_batch": total_batch, "layer_decay": layer_decay}
        above_zero |= {k: v for k, v in {"clip_norm": clip_norm, "base_batch": base_batch}.items() if v is not None}
        from_zero = {"weight_decay": weight_decay, "warmup_epochs": warmup_epochs, "warmup_lr": warmup_lr}
        for name, value in (above_zero | from_zero).items():
            if not 0 <= value < math.inf or (name in above_zero and value == 0):
                raise ValueError(f"optim.{name}={value} is not {'above' if name in above_zero else 'at least'} 0")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"optim.label_smoothing={label_smoothing} is not from 0 to below 1")
        self.optimizer, self.lr, self.base_batch = optimizer, lr, base_batch
        self.weight_decay, self.decay_vectors, self.not_decayed = weight_decay, decay_vectors, not_decayed
        self.layer_decay, self.trained = layer_decay, trained
        self.warmup_epochs, self.warmup_lr, self.schedule = warmup_epochs, warmup_lr, schedule
        self.clip_norm, self.total_batch, self.label_smoothing = clip_norm, total_batch, label_smoothing

    @property
    def scale(self) -> float:
        """Factor on all rates."""
        return self.total_batch / self.base_batch if self.base_batch else 1.0

    def build(
        self, model: nn.Module, steps_per_epoch: int, num_steps: int, fused: bool = False
    ) -> tuple[Optimizer, LambdaLR]:
        """The optimiser, and its schedule, which is stepped after every optimiser step.

        fused: updates all parameters in one kernel, where the config leaves it open (`fused: null`)
        """
        decay = self.weight_decay, self.decay_vectors, self.not_decayed
        groups = list(parameter_groups(model, *decay, self.layer_decay))
        is_open = getattr(self.optimizer, "keywords", {}).get("fused", False) is None
        # Not False: with that, torch would update one parameter after the other.
        optimizer = self.optimizer(groups, lr=self.lr * self.scale, **({"fused": True} if fused and is_open else {}))
        factors = [
            lambda step, slower=group["rate"]: (
                slower * self.rate(step, num_steps, steps_per_epoch) / self.lr / self.scale
            )
            for group in groups
        ]
        return optimizer, LambdaLR(optimizer, factors)

    def rate(self, step: int, num_steps: int, steps_per_epoch: int) -> float:
        """The rate of a step, counted from 0: linear from `warmup_lr` to what the schedule gives, then that."""
        warmup = self._num_warmup(steps_per_epoch)
        rate = self.schedule.rate(self.lr, step, warmup, num_steps, steps_per_epoch)
        if step < warmup:
            rate = self.warmup_lr + (rate - self.warmup_lr) * step / warmup
        return rate * self.scale

    def check_warmup(self, steps_per_epoch: int, num_steps: int, ended_by: str) -> None:
        """Raises ValueError where the warm-up lasts as long as the run, which the setting `ended_by` ends."""
        warmup = self._num_warmup(steps_per_epoch)
        if warmup >= num_steps:
            raise ValueError(
                f"optim.warmup_epochs={self.warmup_epochs:g} takes {warmup} steps, and {ended_by} ends the run after "
                f"{num_steps}, while the rate still grows; give a shorter warm-up (0: none) or a longer run"
            )

    def _num_warmup(self, steps_per_epoch: int) -> int:
        return round(self.warmup_epochs * steps_per_epoch)

    def told(self) -> str:
        """One line: the optimiser, the rate it reaches, and on which way."""
        scaled = f" = {self.lr:g} x {self.total_batch} / {self.base_batch} clips" if self.base_batch else ""
        slower = f", x {self.layer_decay:g} a layer" if self.layer_decay != 1 else ""
        only = f", trains only {', '.join(self.trained)}" if self.trained else ""
        name = getattr(self.optimizer, "func", self.optimizer).__name__
        warmup = f"warm-up of {self.warmup_epochs:g} epochs from {self.warmup_lr * self.scale:g}, "
        way = (warmup if self.warmup_epochs else "") + self.schedule.told(self.scale)
        return f"{name}, lr {self.lr * self.scale:g}{scaled}{slower}, {way}, weight decay {self.weight_decay:g}{only}"


def accumulation(total_batch: int, batch_size: int, devices: int, repeats: int) -> int:
    """Batches to accumulate for one optimiser step. Raises ValueError where total_batch does not divide.

    batch_size: videos, of each of which a batch has `repeats` clips
    """
    at_once = batch_size * devices * repeats
    if total_batch % at_once:
        nearest = max(round(total_batch / at_once), 1) * at_once
        repeated = f" times data.repeats={repeats}" if repeats > 1 else ""
        smaller = next((n for n in range(batch_size, 0, -1) if total_batch % (n * devices * repeats) == 0), None)
        fitting = f"data.batch_size={smaller} divides it, or take" if smaller else "the nearest is"
        raise ValueError(
            f"optim.total_batch={total_batch} is not a multiple of data.batch_size={batch_size} "
            f"times {devices} devices{repeated}; {fitting} optim.total_batch={nearest}"
        )
    return total_batch // at_once
