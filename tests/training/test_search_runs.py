"""Whole searches, of small runs, from the command line. Needs Optuna, of the extra `search`."""

import json
import os

import pytest
from soak import ROOT

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState  # noqa: E402

SMALL = ["experiment=demo", "data.train=8", "data.val=8", "data.test=16", "data.batch_size=4", "optim.total_batch=8"]
SMALL += ["data.num_workers=0", "trainer.max_epochs=2", "model.depth=1", "logger=csv", "hydra.sweep.dir=sweep"]


@pytest.fixture
def search(motion_root, tmp_path, run_script, monkeypatch):
    """Searches with the callbacks of tests/ended.py at hand; gives the finished process."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.getenv("PYTHONPATH")])]))
    command = ["sweep=optuna_lr", *SMALL, f"data.root={motion_root.parent / 'few'}"]
    return lambda *words: run_script("train.py", *command, *words, cwd=tmp_path, check=False)


def trials_in(folder):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{folder}/search.journal"))
    return optuna.load_study(storage=storage, study_name="search").trials


def record_of(folder, job):
    return json.loads((folder / str(job) / "metrics.json").read_text())


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_prunes_a_bad_trial_and_goes_on_with_neither_that_nor_a_diverged_one(tmp_path, search):
    (tmp_path / "jobs.json").write_text('{"2": "diverge"}')
    words = ["trainer=cpu", "callbacks.prune.startup_trials=1", "callbacks.prune.warmup=0"]
    words += ["+callbacks.answers={_target_: ended.Answers, wrong: [1]}"]
    words += [f"+callbacks.trouble={{_target_: ended.Trouble, jobs: {tmp_path / 'jobs.json'}}}"]
    first = search(*words, "hydra.sweeper.trials=3")
    assert first.returncode == 0, first.stderr
    assert "search: 3 trials in sweep: 1 finished, 1 pruned, 1 diverged, 0 failed" in first.stdout
    records = [record_of(tmp_path / "sweep", job) for job in range(3)]
    assert [record["status"] for record in records] == ["finished", "pruned", "diverged"]
    told = "Diverged: the answers of the validation are not finite numbers at step 2: the run has diverged; a smaller"
    assert records[2]["error"].startswith(told)
    assert records[0]["best"] == {"val/top1": 1.0}
    assert ["test" in record for record in records] == [True, False, False]
    assert (tmp_path / "sweep/1/checkpoints/last.ckpt").exists()
    assert not (tmp_path / "sweep/1/predictions.csv").exists()

    again = search(*words, "hydra.sweeper.trials=4", "ckpt=last")
    assert again.returncode == 0, again.stderr
    assert "search: 4 trials in sweep: 2 finished, 1 pruned, 1 diverged, 0 failed" in again.stdout
    assert [record_of(tmp_path / "sweep", job) for job in range(3)] == records
    trials = trials_in(tmp_path / "sweep")
    complete, pruned = TrialState.COMPLETE, TrialState.PRUNED
    assert [trial.state for trial in trials] == [complete, pruned, pruned, complete]
    assert [trial.intermediate_values for trial in trials[:2]] == [{1: 1.0, 2: 1.0}, {1: 0.0}]
    assert len({trial.params["optim.lr"] for trial in trials}) == 4


def test_both_ranks_of_a_trial_train_at_its_rate(tmp_path, search):
    process = search("trainer=ddp_cpu", "+callbacks.rate={_target_: ended.NoteRate}", "hydra.sweeper.trials=2")
    assert process.returncode == 0, process.stderr
    rates = [[(tmp_path / f"sweep/{job}/lr.{rank}").read_text() for rank in range(2)] for job in range(2)]
    typed = [record_of(tmp_path / "sweep", job)["overrides"] for job in range(2)]
    assert [f"optim.lr={one}" in words for (one, _), words in zip(rates, typed, strict=True)] == [True, True]
    assert [one == other for one, other in rates] == [True, True]
    assert rates[0] != rates[1]


def test_a_search_without_a_validation_ends_at_its_first_trial(tmp_path, search):
    words = ["trainer=cpu", "trainer.limit_val_batches=0", "callbacks.prune=null", "hydra.sweeper.trials=3"]
    process = search(*words)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "error: sweep/0 had no validation, and a search cannot choose by the test: it needs callbacks.best, and a "
        "validation before the run ends"
    )
    assert not (tmp_path / "sweep/1").exists()
