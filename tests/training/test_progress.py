"""What a run shows while it goes, and that it does not hold up a device for it."""

import json
import math

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from tubelet.evaluation.predictor import Predictor
from tubelet.training import progress
from tubelet.training.classifier import Classifier
from tubelet.training.optim import Optim
from tubelet.training.progress import Diverged, Progress, refuse_divergence
from tubelet.training.quarantine import Quarantine
from tubelet.training.record import recorded
from tubelet.training.schedules import Cosine
from tubelet.training.short_videos import ShortVideos
from tubelet.video.annotations import Catalogue
from tubelet.video.sampling import forward
from tubelet.video.transforms import Normalise

STEPS = 7


class Data(L.LightningDataModule):
    """Batches of 3 videos, 2 views of each, of 4 frames of 5 x 6 pixels."""

    seed, catalogue = 0, Catalogue(classes=["jump", "run"], train=[], val=[], test=[])

    def __init__(self):
        super().__init__()
        self.train_set = type("Videos", (), {"order": staticmethod(forward)})

    def batches_per_epoch(self, world_size):
        return STEPS

    def train_dataloader(self):
        batch = {
            "video": torch.randint(0, 256, (3, 2, 3, 4, 5, 6), dtype=torch.uint8),
            "shown": torch.tensor([[0, 0], [1, 1], [0, 1]]),
            "frames": torch.arange(4).expand(3, 1, 4),
            "reader": ["pyav_seek"] * 3,
            "failure": [""] * 3,
        }
        return DataLoader([batch] * STEPS, batch_size=None)

    val_dataloader = train_dataloader  # not used


class Reads(TorchDispatchMode):
    """Counts the numbers that Python fetches from tensors; on a GPU each waits for all the work it has."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # Of whole numbers only the CPU's one_hot reads some here, which on a GPU it does not.
        self.count += function is torch.ops.aten._local_scalar_dense.default and args[0].dtype != torch.long
        return function(*args, **(kwargs or {}))


class Bar(ProgressBar):
    def __init__(self):
        super().__init__()
        self.losses = []

    def disable(self):
        return

    def on_train_batch_end(self, trainer, module, *_):
        self.losses.append(self.get_metrics(trainer, module).get("loss"))


@pytest.fixture
def fit(tmp_path):
    """(a bar or none) -> how many numbers were read in an epoch, and the loss of the last step."""

    def go(bar, lr=0.01):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5 * 6, 2))
        schedule = Cosine(end_lr=0.0, after_warmup=False)
        no_decay = {"weight_decay": 0.0, "decay_vectors": False, "not_decayed": [], "layer_decay": 1.0}
        rates = {"lr": lr, "base_batch": None, "warmup_epochs": 0.0, "warmup_lr": 0.0, "schedule": schedule}
        rest = {"trained": None, "clip_norm": None, "total_batch": 6, "label_smoothing": 0.1}
        optim = Optim(torch.optim.SGD, **rates, **no_decay, **rest)
        predictor = Predictor(model, Normalise([0.5] * 3, [0.2] * 3))
        classifier = Classifier(predictor, Quarantine(str(tmp_path), 3, 0.0), optim, [], {})
        quiet = {"enable_checkpointing": False, "enable_model_summary": False, "logger": False}
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            callbacks=[Progress(), ShortVideos(), *([bar] if bar else [])],
            enable_progress_bar=bar is not None,
            **quiet,
        )
        with Reads() as reads:
            trainer.fit(classifier, Data())
        return reads.count, float(trainer.callback_metrics["train/loss"])

    return go


def test_no_step_waits_for_its_loss(fit):
    reads, _ = fit(None)
    assert reads < STEPS  # before the first step Lightning reads a few


def test_a_bar_shows_the_loss_of_a_step_now_and_then_and_fetches_no_other(fit, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOSSES", 1000.0)
    bar = Bar()
    reads, _ = fit(bar)
    assert bar.losses == [None] * STEPS
    assert reads < STEPS
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOSSES", 0.0)
    bar = Bar()
    _, last = fit(bar)
    assert len(set(bar.losses)) == STEPS
    assert bar.losses[-1] == last


def test_a_run_that_has_diverged_ends_with_what_may_help(fit, monkeypatch):
    told = r"the training loss is (nan|inf) at step \d+: the run has diverged; a smaller optim.lr, .*"
    with pytest.raises(ValueError, match=told):  # at the end of the epoch
        fit(None, lr=1e38)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOSSES", 0.0)
    bar = Bar()
    with pytest.raises(ValueError, match=told):  # as soon as a loss is looked at
        fit(bar, lr=1e38)
    assert len(bar.losses) < STEPS


def test_a_run_that_has_diverged_has_a_status_of_its_own(tmp_path):
    with pytest.raises(Diverged), recorded(str(tmp_path)):
        refuse_divergence(math.nan, 5)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["status"] == "diverged"
    assert record["error"].startswith("Diverged: the training loss is nan at step 5: the run has diverged; a smaller")
