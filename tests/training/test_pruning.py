"""Trials that a search ends early: which, and when. Needs Optuna, of the extra `search`."""

import lightning as L
import pytest
import torch
from line import Line
from torch.utils.data import DataLoader

optuna = pytest.importorskip("optuna")

from optuna.distributions import FloatDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from tubelet.training.journal import open_study, report  # noqa: E402
from tubelet.training.pruning import Pruning  # noqa: E402
from tubelet.training.search import ask  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning counts workers, Optuna tells of what is new in it
LR = {"optim.lr": FloatDistribution(1e-5, 1e-2, log=True)}


def study_in(folder):
    return open_study(folder, LR, "maximize", seed=5, at_once=1, fixed=[], go_on=False)


def test_a_trial_worse_than_the_median_of_finished_ones_is_ended(tmp_path):
    study = study_in(tmp_path)
    ask(study, LR, 4)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)
    for number, value in enumerate((0.2, 0.4, 0.6)):
        assert not report(tmp_path, number, 1, value, pruner)
        study.tell(number, value)
    assert report(tmp_path, 3, 1, 0.3, pruner)  # the median is 0.4
    assert study.trials[3].state == TrialState.RUNNING
    assert report(tmp_path, 3, 1, 0.9, pruner)  # of a resumed run: the first figure stays
    assert study.trials[3].intermediate_values == {1: 0.3}


def test_pruning_is_for_the_jobs_of_a_search(tmp_path):
    with pytest.raises(ValueError, match=r"callbacks.prune is for the jobs of a search, such as sweep=optuna_lr"):
        Pruning(str(tmp_path / "0"), "val/top1", startup_trials=1, warmup=0)


@pytest.mark.parametrize(
    ("length", "pruned", "steps"),
    [
        ({"max_epochs": 3}, True, 10),
        ({"max_epochs": 1}, False, 10),
        ({"max_epochs": 1, "val_check_interval": 5}, True, 5),  # within the last epoch
        ({"max_epochs": 1, "val_check_interval": 4, "limit_train_batches": 9}, True, 4),
        ({"max_epochs": 3, "max_steps": 10}, False, 10),
        ({"max_epochs": 3, "max_steps": 12}, True, 10),
        ({"max_epochs": -1, "max_steps": 12}, True, 10),
    ],
)
def test_a_bad_trial_is_ended_at_once_but_not_where_no_step_is_left(tmp_path, monkeypatch, length, pruned, steps):
    ask(study_in(tmp_path), LR, 1)
    pruning = Pruning(str(tmp_path / "0"), "val/top1", startup_trials=1, warmup=0)
    monkeypatch.setattr(pruning, "_is_bad", lambda value: True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", callbacks=[pruning], enable_checkpointing=False, **quiet, **length)
    trainer.fit(Line(), DataLoader(torch.ones(10, 3)), DataLoader(torch.ones(2, 3)))
    assert (pruning.pruned, trainer.global_step) == (pruned, steps)
