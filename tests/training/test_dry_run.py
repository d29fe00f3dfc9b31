"""dry_run=true: what it estimates, and that it leaves nothing."""

import logging
import re
from types import SimpleNamespace

import pytest

from tubelet.training import dry_run as dry
from tubelet.training.averaging import AverageWeights
from tubelet.training.classifier import limited
from tubelet.training.dry_run import Estimate, dry_run, num_validations, told_time
from tubelet.training.launch import compose_config

SMALL = ["experiment=demo", "data.train=64", "data.val=24", "data.test=16", "data.batch_size=4", "model.depth=1"]
SMALL += ["optim.total_batch=8", "data.num_workers=0", "trainer.accelerator=cpu", "views=1x3"]


def config(motion_root, folder, *overrides):
    return compose_config("train", [*SMALL, f"data.root={motion_root}", f"run_dir={folder}", "name=x", *overrides])


@pytest.fixture
def tried(motion_root, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tubelet")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/train.log").touch()
    hours = dry_run(config(motion_root.parent / "dry", tmp_path / "run"), ["dry_run=true"]).hours
    return hours, [line.strip() for line in caplog.messages], tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")  # those that a run silences itself
def test_a_table_tells_what_the_run_would_take_and_nothing_is_left(tried):
    hours, lines, folder = tried
    assert 0 < hours < 1
    table = {re.split(r"  +", line)[0]: line for line in lines[lines.index("dry run of 20 steps of 8 clips:") + 1 :]}
    assert list(table) == [
        *("whole run", "device-hours", "speed", "waiting for data", "peak memory", "learning rate"),
    ]
    assert table["whole run"].split("  ")[-1].strip().startswith(told_time(3600 * hours))
    assert table["learning rate"].endswith(
        "AdamW, lr 0.001, warm-up of 0.5 epochs from 1e-06, cosine after it to 1e-06, weight decay 0.05"
    )
    assert list(folder.iterdir()) == []
    assert any("6 epochs, 8 clips a step" in line for line in lines)  # the run that is told is the whole one


def test_the_estimate_adds_up_all_batches_of_training_validation_and_test():
    sizes = {"batches": 300, "clips": 16, "val_batches": 40, "test_batches": 9, "devices": 2}
    found = Estimate(0.02, 0.08, val_time=0.5, peak_memory=None, **sizes)
    assert found.parts == pytest.approx({"training": 30.0, "validation": 20.0, "test": 4.5})
    assert found.hours == pytest.approx(54.5 / 3600)
    assert found.rows() == {
        "whole run": "54 s: training 30 s, validation 20 s, test 4 s",
        "device-hours": "0.0303 (2 devices)",
        "speed": "160 training clips/s",
        "waiting for data": "20 % of the training time",
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_batches_are_counted_over_the_whole_run(motion_root, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(dry, "Estimate", lambda **given: seen.update(given) or Estimate(**given))
    dry_run(
        config(motion_root.parent / "dry", tmp_path, "trainer.max_epochs=5", "trainer.check_val_every_n_epoch=2"), []
    )
    assert seen["batches"] == 5 * 16  # 64 videos in fours
    assert (seen["val_batches"], seen["test_batches"]) == (2 * 6, 4 * 3)  # after epochs 2 and 4; three crops
    assert (seen["clips"], seen["devices"]) == (4, 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_average_of_the_weights_is_in_the_time_and_memory_that_are_measured(motion_root, tmp_path, monkeypatch):
    averaged, average = [], AverageWeights.on_train_batch_end

    def counted(self, trainer, *others):
        averaged.append(trainer.global_step)
        average(self, trainer, *others)

    monkeypatch.setattr(AverageWeights, "on_train_batch_end", counted)
    (tmp_path / "with").mkdir()
    dry_run(config(motion_root.parent / "dry", tmp_path / "with", "callbacks=ema"), [])
    assert averaged[-1] == 5 + 20  # steps of two batches: the first five are the warm-up
    averaged.clear()
    dry_run(config(motion_root.parent / "dry", tmp_path), [])
    assert averaged == []


def test_limits_are_batches_or_a_share_of_them():
    assert [limited(10, limit) for limit in (None, 3, 30, 0.25, 0)] == [10, 3, 10, 2, 0]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("length", "message"),
    [
        (["trainer.max_epochs=-1"], "trainer.max_epochs or trainer.max_steps must end the run"),
        (["trainer.max_steps=7", "optim.warmup_epochs=2"], "optim.warmup_epochs=2 takes 16 steps, and trainer.max_st"),
    ],
)
def test_a_run_without_a_length_is_refused_before_a_step_and_the_folder_is_free_for_the_next_try(
    length, message, motion_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(dry.Validated, "on_validation_start", None)  # nothing is run
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            dry_run(config(motion_root.parent / "dry", tmp_path, *length), [])
        assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]  # which tells of the failure


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_of_fewer_steps_than_are_measured_is_estimated_by_its_own(motion_root, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(dry, "Estimate", lambda **given: seen.update(given) or Estimate(**given))
    dry_run(config(motion_root.parent / "dry", tmp_path, "trainer.max_steps=7"), [])
    assert seen["batches"] == 7 * 2
    assert seen["step_time"] > 0


def test_a_folder_that_holds_a_run_is_not_touched(motion_root, tmp_path):
    (tmp_path / "config.yaml").write_text("of a run")
    with pytest.raises(ValueError, match=r"holds a run, and dry_run=true removes its folder; give another one"):
        dry_run(config(motion_root.parent / "dry", tmp_path), [])
    assert (tmp_path / "config.yaml").read_text() == "of a run"


def test_what_a_user_keeps_in_the_folder_stays(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "metrics.json").touch()
    dry.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_resume_has_no_dry_run():
    with pytest.raises(ValueError, match=r"dry_run=true resumes nothing; leave out ckpt=a.ckpt"):
        compose_config("train", ["experiment=demo", "dry_run=true", "ckpt=a.ckpt", "run_dir=x"])


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(None, 1, 5), (None, 2, 2), (0.5, 1, 10), (4, 1, 10), (4, None, 13), (15, None, 3), ("00:01:00:00", 1, 5)],
)
def test_validations_are_counted_as_lightning_takes_its_intervals(every, epochs, expected):
    trainer = SimpleNamespace(val_check_interval=every, check_val_every_n_epoch=epochs)
    assert num_validations(53, 10, trainer) == expected  # batches, of which an epoch has 10
