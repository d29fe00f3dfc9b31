"""How weights are updated: parameter groups, the schedule of the learning rate, and what the batch is."""

import math
from collections.abc import Callable, Iterator

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# Weight decay would pull these towards zero though no matrix product uses them; timm and SlowFast leave them out too.
NOT_DECAYED = {"cls_token", "pos_embed"}


class Optim:
    """The `optim` node of the config.

    optimizer: called with parameter groups and lr; a partial of a torch optimiser
    lr: learning rate at the end of the warm-up
    weight_decay: of matrices and convolutions; biases, norms, positions and tokens are not decayed
    warmup_epochs: epochs in which the rate grows linearly from `warmup_lr`; may be a fraction
    warmup_lr, end_lr: the rates at the first and at the last step; between, half a cosine
    clip_norm: gradients of a larger L2 norm are scaled down to it; None leaves them
    total_batch: clips of one optimiser step, over all devices, repeats and accumulated batches
    label_smoothing: share of each label given to all classes alike
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        lr: float,
        weight_decay: float,
        warmup_epochs: float,
        warmup_lr: float,
        end_lr: float,
        clip_norm: float | None,
        total_batch: int,
        label_smoothing: float,
    ):
        above_zero = {"lr": lr, "total_batch": total_batch} | ({} if clip_norm is None else {"clip_norm": clip_norm})
        from_zero = {"weight_decay": weight_decay, "warmup_epochs": warmup_epochs, "label_smoothing": label_smoothing}
        for name, value in (above_zero | from_zero).items():
            if value < 0 or (name in above_zero and value == 0):
                raise ValueError(f"optim.{name}={value} is not {'above' if name in above_zero else 'at least'} 0")
        self.optimizer, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self.warmup_epochs, self.warmup_lr, self.end_lr = warmup_epochs, warmup_lr, end_lr
        self.clip_norm, self.total_batch, self.label_smoothing = clip_norm, total_batch, label_smoothing

    def build(self, model: nn.Module, steps_per_epoch: int, num_steps: int) -> tuple[Optimizer, LambdaLR]:
        """The optimiser, and its schedule, which is stepped after every optimiser step."""
        optimizer = self.optimizer(list(parameter_groups(model, self.weight_decay)), lr=self.lr)
        warmup = round(self.warmup_epochs * steps_per_epoch)
        return optimizer, LambdaLR(optimizer, lambda step: self.rate(step, warmup, num_steps) / self.lr)

    def rate(self, step: int, warmup: int, num_steps: int) -> float:
        """The rate of a step, counted from 0: linear from `warmup_lr` to `lr`, then half a cosine to `end_lr`."""
        if step < warmup:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / warmup
        done = min((step - warmup) / max(num_steps - 1 - warmup, 1), 1.0)
        return self.end_lr + (self.lr - self.end_lr) * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(model: nn.Module, weight_decay: float) -> Iterator[dict]:
    """Two groups: with weight decay, and without it for what is one-dimensional, a position or a token."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    kept = [(n, p) for n, p in trained if p.ndim <= 1 or NOT_DECAYED & set(n.split("."))]
    names = {name for name, _ in kept}
    yield {"params": [p for n, p in trained if n not in names], "weight_decay": weight_decay}
    yield {"params": [p for _, p in kept], "weight_decay": 0.0}


def accumulation(total_batch: int, batch_size: int, devices: int, repeats: int) -> int:
    """Batches to accumulate for one optimiser step. Raises ValueError where total_batch does not divide.

    batch_size: videos, of each of which a batch has `repeats` clips
    """
    at_once = batch_size * devices * repeats
    if total_batch % at_once:
        nearest = max(round(total_batch / at_once), 1) * at_once
        repeated = f" times data.repeats={repeats}" if repeats > 1 else ""
        raise ValueError(
            f"optim.total_batch={total_batch} is not a multiple of data.batch_size={batch_size} "
            f"times {devices} devices{repeated}; the nearest is optim.total_batch={nearest}"
        )
    return total_batch // at_once
