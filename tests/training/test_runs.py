"""train.py and eval.py as a user runs them: processes of their own, real files, and all that they leave behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tubelet.evaluation.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
ONE_STEP = [  # an optimiser step on 8 videos
    *("experiment=demo", "data.train=8", "data.val=8", "data.test=16", "data.batch_size=8", "optim.total_batch=8"),
    *("data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "model.depth=1", "logger=csv"),
    "run_dir=run",
]


def evaluate(folder, *overrides):
    """eval.py in a folder without conf/ or src/; returns metrics.json."""
    command = [sys.executable, str(ROOT / "eval.py"), *overrides, f"run_dir={folder}"]
    process = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads((folder / "metrics.json").read_text())


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_config_metrics_predictions_checkpoints_and_wandb_files(trained):
    folder, printed = trained
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["num_classes"] == 8  # from the data
    assert config["model"]["num_frames"] == config["clip"]["num_frames"] == 8  # resolved
    record = json.loads((folder / "metrics.json").read_text())
    assert record["status"] == "finished"
    assert record["test"]["videos"] == 16
    assert record["failures"] == {}
    # 24 videos for 2 epochs, 8 validated twice and once before training, 16 tested
    assert record["readers"] == {"pyav_seek": 24 * 2 + 8 * 3 + 16}
    assert "8 frames, stride 2, short side 56, crop 48" in record["test"]["protocol"]
    assert len(rows(folder / "predictions.csv")) == 16
    assert {"train/loss", "val/top1", "lr-AdamW/pg1"} <= set(rows(folder / "metrics.csv")[0])
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert "\ntest: 1 x 1 views (clips x crops), starts from first to last, 8 frames, stride 2\n" in printed
    assert "M parameters, 2 epochs, 8 clips a step" in printed
    assert f"eval.py ckpt={os.path.relpath(folder / 'checkpoints/best.ckpt', folder.parent)}" in printed


def test_a_run_takes_one_step_for_every_total_batch(trained):
    folder, _ = trained
    content = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 2 * (24 // 8)


def test_a_checkpoint_loads_as_weights_only_and_rebuilds_the_model_from_itself(trained):
    folder, _ = trained
    checkpoint = load_checkpoint(str(folder / "checkpoints/best.ckpt"))
    assert checkpoint.classes[:2] == ["moves_right", "moves_left"]
    model = checkpoint.build_model()
    assert not model.training
    logits = model(torch.zeros(1, 3, 8, 48, 48))
    assert logits.shape == (1, 8)
    assert model.head.weight.equal(checkpoint.weights["head.weight"])


def test_eval_gives_the_top1_of_the_runs_own_test_exactly_and_the_same_predictions(trained, tmp_path):
    folder, _ = trained
    record = evaluate(tmp_path / "eval", f"ckpt={folder / 'checkpoints/best.ckpt'}")
    test = json.loads((folder / "metrics.json").read_text())["test"]
    assert record["test"] == test
    assert (tmp_path / "eval/predictions.csv").read_text() == (folder / "predictions.csv").read_text()


def test_eval_takes_other_views_another_subset_and_another_order(trained, tmp_path):
    folder, _ = trained
    ckpt = f"ckpt={folder / 'checkpoints/best.ckpt'}"
    record = evaluate(tmp_path / "eval", ckpt, "views=4x3", "subset=val", "order=frozen", "frozen_at=3")
    assert record["val"]["videos"] == 8
    assert record["val"]["protocol"].startswith("8 val videos of ")
    assert "4 x 3 views" in record["val"]["protocol"]
    assert record["val"]["protocol"].endswith("frames frozen at 3, 32-true")


@pytest.mark.parametrize("typed", [["run_dir=0"], ["-m", "hydra.sweep.dir=."]])
def test_eval_into_the_folder_of_a_training_run_is_refused(typed, tmp_path, run_script):
    (tmp_path / "0").mkdir()
    (tmp_path / "0/metrics.json").write_text('{"status": "finished", "overrides": []}')
    process = run_script("eval.py", *typed, "ckpt=best.ckpt", cwd=tmp_path, check=False)
    assert process.returncode == 1
    told = "error: 0 holds a training run; give another run_dir (with -m: hydra.sweep.dir) for its evaluation"
    ending = [] if typed == ["run_dir=0"] else ["error: 1 of the jobs in . did not finish (number 0)"]
    assert process.stderr.splitlines() == [told, *ending]
    assert (tmp_path / "0/metrics.json").read_text() == '{"status": "finished", "overrides": []}'


def test_eval_takes_the_precision_of_the_training(motion_root, tmp_path, run_script):
    root = f"data.root={motion_root.parent / 'few'}"
    run_script("train.py", *ONE_STEP, root, "trainer.precision=bf16-mixed", cwd=tmp_path)
    evaluate(tmp_path / "eval", "ckpt=run/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    assert (tmp_path / "eval/predictions.csv").read_text() == (tmp_path / "run/predictions.csv").read_text()


def test_a_run_without_validation_tests_its_last_checkpoint(motion_root, tmp_path, run_script):
    root = f"data.root={motion_root.parent / 'few'}"
    run_script("train.py", *ONE_STEP, root, "trainer.check_val_every_n_epoch=2", cwd=tmp_path)
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (record["status"], record["best"], record["tested"]) == ("finished", {}, "checkpoints/last.ckpt")


def test_a_run_of_a_few_steps_says_nothing_of_the_validation_that_it_never_had(motion_root, tmp_path, run_script):
    steps = ["data.batch_size=4", "optim.total_batch=4", "trainer.max_steps=1", "optim.warmup_epochs=0"]
    process = run_script("train.py", *ONE_STEP, *steps, f"data.root={motion_root.parent / 'few'}", cwd=tmp_path)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["best"] == {}
    printed = process.stdout + process.stderr
    assert "monitor" not in printed
    assert "M parameters, 1 step or 1 epoch, whichever is less, 4 clips a step" in printed


def test_another_number_of_classes_than_the_data_has_is_an_error(motion_root, tmp_path, run_script):
    typed = ["model.num_classes=10", f"data.root={motion_root.parent / 'few'}"]
    process = run_script("train.py", *ONE_STEP, *typed, cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert "error: model.num_classes=10, but the data has 8 classes; leave it out\n" in process.stderr
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (record["status"], record["name"], record["resumed_from"]) == ("failed", "vivit_joint_tiny_motion", None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ckpt=absent.ckpt"], "error: ckpt=absent.ckpt: there is no such file"),
        ([], "error: ckpt has no value; give it on the command line: ckpt=..."),
        (["ckpt=x", "order=sideways"], "error: ckpt=x: there is no such file"),
        (
            ["ckpt=x", "data=folder", "data.root=y", "data.max_failed=0.1"],
            "error: data.max_failed has no effect in an evaluation, which counts each failure as wrong; leave it out",
        ),
        (["ckpt=x", "data.bach_size=3"], "error: data.bach_size: there is no such key; did you mean data.batch_size?"),
    ],
)
def test_a_mistaken_eval_says_so_in_its_first_line_without_a_traceback(overrides, message, tmp_path):
    command = [sys.executable, str(ROOT / "eval.py"), *overrides]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.splitlines()[0] == message
    assert "Traceback" not in process.stderr
