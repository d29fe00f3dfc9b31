"""When a checkpoint may be saved: never between a step and the validation that follows it."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tubelet.training.saving import SaveLast, validates_after


class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.line(batch).mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Noted(L.Callback):
    """The batches, counted from the first of the run, after which a validation was foretold, and was run."""

    def __init__(self):
        self.seen, self.foretold, self.run = 0, [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen += 1
        if validates_after(trainer, batch_idx):
            self.foretold.append(self.seen)

    def on_validation_start(self, trainer, module):
        self.run.append(self.seen)


def fit(tmp_path, *callbacks, **options):
    trainer = L.Trainer(
        **{"accelerator": "cpu", "default_root_dir": tmp_path, "logger": False, "num_sanity_val_steps": 0},
        **{"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False},
        **{"callbacks": list(callbacks), "max_epochs": 3},
        **options,
    )
    batches = DataLoader(torch.ones(10, 3), batch_size=1)
    trainer.fit(Line(), batches, batches)


@pytest.mark.filterwarnings("ignore")  # Lightning counts workers
@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(0.5, 1, [5, 10, 15, 20, 25, 30]), (4, 1, [4, 8, 14, 18, 24, 28]), (7, None, [7, 14, 21, 28])],
)
def test_validations_within_an_epoch_are_foretold(every, epochs, expected, tmp_path):
    noted = Noted()
    fit(tmp_path, noted, val_check_interval=every, check_val_every_n_epoch=epochs)
    assert noted.foretold == noted.run == expected


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_saved_between_a_step_and_its_validation(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(L.Trainer, "save_checkpoint", lambda trainer, path: saved.append(trainer.global_step))
    fit(tmp_path, SaveLast(str(tmp_path), every_n_steps=2), val_check_interval=4, limit_train_batches=9)
    # Epochs of 9 steps. Of the even ones, 4 and 8 are validated in the first, 13 and 17 in the second, 22 and 26 last.
    assert saved == [2, 6, 9, 10, 12, 14, 16, 18, 20, 24, 27]
