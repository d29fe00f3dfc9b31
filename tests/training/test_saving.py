"""When a checkpoint is saved, never between a step and the validation that follows it; and that each can be resumed."""

import os
import resource
import shutil
from contextlib import suppress

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from line import Line
from torch import Generator, nn
from torch.utils.data import DataLoader

from tubelet.training.resume import ResumableLoader, in_folder
from tubelet.training.saving import AtomicCheckpoints, OutOfTime, SaveLast, TimeLimit, validates_after
from tubelet.video.order import TrainingOrder


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
        **{"enable_progress_bar": False, "enable_model_summary": False},
        **{"enable_checkpointing": any(isinstance(callback, SaveLast) for callback in callbacks)},
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


class Draws(L.LightningDataModule):
    """Batches of 2 of 13 videos, which are their numbers (epoch, place in the list): 6 an epoch."""

    batch_size = 2

    def train_dataloader(self):
        order = TrainingOrder(13, seed=0, step=4, rank=0, world_size=1)
        videos, own = {(epoch, i): torch.tensor([epoch, i]) for epoch in range(5) for i in range(13)}, Generator()
        return ResumableLoader(videos, 2, sampler=order, generator=own)

    def val_dataloader(self):
        return DataLoader(torch.ones(1, 2), generator=Generator())


class Told(Line):
    """What happens in a run: each batch, with its epoch, number and videos, and each validation."""

    def __init__(self):
        super().__init__()
        self.line, self.dropout, self.happened = nn.Linear(2, 1), nn.Dropout(0.3), []

    def configure_optimizers(self):
        """A rate that falls from 0.1 to 0 over the run, or without max_steps over 20 steps."""
        optimizer, steps = super().configure_optimizers(), max(self.trainer.max_steps, 20)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch, batch_idx):
        self.happened.append((self.current_epoch, batch_idx, *batch.flatten().tolist()))
        return self.line(self.dropout(batch / 13)).square().mean()

    def validation_step(self, batch, batch_idx):
        self.happened.append(("validation", self.global_step))
        self.log("score", -self.global_step)


def trained(folder, ckpt=None, callbacks=(), accumulated=1, **options):
    """What happened, and what is left: weights, and the count of steps for the loggers."""
    torch.manual_seed(3)
    last, module = SaveLast(str(folder), every_n_steps=1), Told()
    trainer = L.Trainer(
        **{"accelerator": "cpu", "default_root_dir": folder, "logger": False, "num_sanity_val_steps": 0},
        **{"enable_progress_bar": False, "enable_model_summary": False},
        **{"callbacks": [*(make(last, module) for make in callbacks), last], "use_distributed_sampler": False},
        **{"accumulate_grad_batches": accumulated, **options},
    )
    with suppress(OutOfTime):
        trainer.fit(module, datamodule=Draws(), ckpt_path=ckpt, weights_only=True)
    return module.happened, module.line.weight.tolist(), trainer.fit_loop.epoch_loop._batches_that_stepped


def same_from_each_save(whole, part, folder, monkeypatch):
    """Whether `whole` goes on from each checkpoint that `part` saves as it does without; gives their steps."""
    saved, save = [], L.Trainer.save_checkpoint

    def keep(trainer, path):
        save(trainer, path)
        saved.append((shutil.copy(path, folder / f"{len(saved)}"), trainer.global_step, len(trainer.model.happened)))

    monkeypatch.setattr(L.Trainer, "save_checkpoint", keep)
    trained(folder, **part)
    monkeypatch.undo()
    happened, *left = trained(folder, **whole)
    for path, step, before in saved:
        assert trained(folder, path, **whole) == (happened[before:], *left), f"from step {step}"
    return [step for _, step, _ in saved]


EPOCHS, STEPS = {"max_epochs": 3}, {"max_epochs": -1, "max_steps": 18}
ACROSS = {"val_check_interval": 4, "check_val_every_n_epoch": None}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("whole", "ended", "expected"),
    [
        (EPOCHS | {"accumulated": 2}, {}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (STEPS, {}, list(range(1, 19))),
        (STEPS, {"max_steps": 8}, [1, 2, 3, 4, 5, 6, 7, 8, 8]),  # the end of epoch 1, whole, and that of 2, cut
        (STEPS | {"max_steps": 9, "accumulated": 2}, {"max_steps": 4}, [1, 2, 3, 4, 4]),
        (STEPS | {"val_check_interval": 0.5}, {"max_steps": 9}, [1, 2, 4, 5, 6, 7, 8, 9]),
        (STEPS | ACROSS, {"max_steps": 16}, [1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]),
        (EPOCHS, {"max_steps": 7}, [1, 2, 3, 4, 5, 6, 7, 7]),
    ],
)
def test_a_run_goes_on_from_each_of_its_saves_also_where_max_steps_ended_it(
    whole, ended, expected, tmp_path, monkeypatch
):
    assert same_from_each_save(whole, whole | ended, tmp_path, monkeypatch) == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("whole", "batches", "expected"),
    [
        (EPOCHS, 3, [1, 2, 3]),
        (EPOCHS, 6, [1, 2, 3, 4, 5, 6]),
        (EPOCHS | {"accumulated": 2}, 3, [1, 2]),  # after the step under way
        (EPOCHS | {"val_check_interval": 4}, 4, [1, 2, 3, 5]),  # nothing is saved before a validation
        (STEPS, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_a_run_whose_time_is_over_ends_after_a_step_without_a_validation_of_its_own_and_goes_on_from_there(
    whole, batches, expected, tmp_path, monkeypatch
):
    def late(last, module):
        limit = TimeLimit("00:00:00:00", last)
        limit.timer.time_remaining = lambda: batches - len([one for one in module.happened if one[0] != "validation"])
        return limit

    assert same_from_each_save(whole, whole | {"callbacks": [late]}, tmp_path, monkeypatch) == expected


@pytest.mark.filterwarnings("ignore")
def test_the_newest_checkpoint_knows_what_was_best_at_the_end_of_its_own_epoch(tmp_path):
    def best(last, module):
        return ModelCheckpoint(tmp_path, "best", monitor="score", save_on_train_epoch_end=True)

    trained(tmp_path, callbacks=[best], max_epochs=1)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"][best(None, None).state_key]
    assert (state["best_model_score"], state["best_model_path"]) == (-6.0, str(tmp_path / "best.ckpt"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (["best.ckpt", "last.ckpt"], (6, -6.0, "best.ckpt")),
        (["last.ckpt"], (18, -18.0, "best.ckpt")),  # what was best is lost
    ],
)
def test_a_run_whose_folder_was_moved_knows_what_was_best(left, expected, tmp_path, caplog):
    here, there = tmp_path / "here", tmp_path / "there/again"

    def best(folder):
        return lambda last, module: ModelCheckpoint(folder, "best", "score", mode="max", enable_version_counter=False)

    trained(here, callbacks=[best(here)], max_epochs=2)
    there.mkdir(parents=True)
    for name in left:
        shutil.move(here / name, there / name)
    shutil.rmtree(here)
    trained(there, str(there / "last.ckpt"), callbacks=[best(there)], max_epochs=3)
    state = torch.load(there / "last.ckpt", weights_only=True)["callbacks"][best(there)(None, None).state_key]
    step = torch.load(there / "best.ckpt", weights_only=True)["global_step"]
    path, kept = state["best_model_path"], state["best_k_models"]
    assert (step, state["best_model_score"], os.path.relpath(path, there)) == expected
    assert kept == {path: state["best_model_score"]}
    assert ("best.ckpt is lost" in caplog.text) == ("best.ckpt" not in left)


def test_what_was_best_stays_in_the_old_folder_where_only_the_newest_was_copied(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    best = str(old / "best.ckpt")
    (old / "best.ckpt").touch()
    paths = {"kth_best_model_path": best, "last_model_path": "", "best_k_models": {best: 0.5}}
    state = {"dirpath": str(old), "best_model_path": best, "best_model_score": 0.5, **paths}
    assert in_folder(state, str(new)) == state | {"dirpath": str(new)}


@pytest.mark.filterwarnings("ignore")
def test_a_resume_with_more_steps_tells_the_rates_before_and_after(tmp_path, caplog):
    trained(tmp_path, **STEPS | {"max_steps": 9})
    trained(tmp_path, str(tmp_path / "last.ckpt"), **STEPS | {"max_steps": 11})
    assert "learning rate" not in caplog.text
    trained(tmp_path, str(tmp_path / "last.ckpt"), **STEPS | {"max_steps": 25})
    assert "after step 11 the learning rate goes from 0.045 to 0.056, where the new schedule is then" in caplog.text


def test_a_checkpoint_that_does_not_fit_on_the_disk_names_its_file_and_leaves_those_that_are_there(tmp_path):
    io, last = AtomicCheckpoints(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, last)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limit[1]))  # bytes; Python ignores the signal, and gets an error
    try:
        with pytest.raises(OSError, match=r"last\.ckpt was not written, \d+ MiB are free there: .*ckpt=last goes on"):
            io.save_checkpoint({"weights": torch.zeros(2**16)}, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(last, weights_only=True) == {"step": 1}
