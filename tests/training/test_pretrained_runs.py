"""Runs that start from published weights: what they record, that they stand alone, that a resume starts from none."""

import json

import pytest
import torch
import yaml

from tubelet.evaluation.checkpoint import load_checkpoint
from tubelet.training.launch import compose_config

ONE_STEP = [
    *("experiment=demo", "data.train=8", "data.val=8", "data.test=16", "data.batch_size=8", "optim.total_batch=8"),
    *("data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "model.depth=1", "logger=csv"),
]


@pytest.fixture(scope="module")
def started(trained, motion_root, tmp_path_factory, run_script):
    """(folder of a run that started from the weights of another, since deleted, its overrides, what it printed)."""
    cwd = tmp_path_factory.mktemp("started")
    weights = cwd / "weights.ckpt"
    weights.write_bytes((trained[0] / "checkpoints/best.ckpt").read_bytes())
    overrides = [*ONE_STEP, f"data.root={motion_root.parent / 'few'}", f"model.pretrained={weights}", "optim.lr=1e-12"]
    process = run_script("train.py", *overrides, "run_dir=run", cwd=cwd)
    weights.unlink()
    return cwd / "run", overrides, process.stdout


def test_a_run_starts_from_the_weights_tells_so_and_records_it(started, trained):
    folder, overrides, printed = started
    weights = overrides[-2].partition("=")[2]
    assert (
        f"weights: model.pretrained={weights}\n  loaded   20 parameters of a checkpoint of tubelet's Joint\n" in printed
    )
    record = json.loads((folder / "metrics.json").read_text())["pretrained"]
    layout = "a checkpoint of tubelet's Joint"
    assert record == {
        **{"name": weights, "layout": layout, "loaded": 20, "resized": {}, "new": {}, "unused": {}, "notes": []}
    }
    first, then = (load_checkpoint(str(run / "checkpoints/best.ckpt")) for run in (trained[0], folder))
    torch.testing.assert_close(then.weights, first.weights, rtol=0, atol=1e-8)  # at a learning rate of 1e-12


def test_the_checkpoint_of_such_a_run_stands_alone(started, run_script):
    folder, _, _ = started
    checkpoint = load_checkpoint(str(folder / "checkpoints/best.ckpt"))
    assert checkpoint.config["model"]["pretrained"].endswith("weights.ckpt")
    assert checkpoint.build_model()(torch.zeros(1, 3, 8, 48, 48)).shape == (1, 8)
    run_script("eval.py", "ckpt=run/checkpoints/best.ckpt", "run_dir=eval", cwd=folder.parent)
    tested = [json.loads((folder.parent / run / "metrics.json").read_text())["test"] for run in ("run", "eval")]
    assert tested[0] == tested[1]


def test_a_resumed_run_does_not_start_from_them_again(started, run_script, tmp_path):
    folder, overrides, _ = started
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.ckpt").write_bytes((folder / "checkpoints/last.ckpt").read_bytes())
    more = ["trainer.max_epochs=2", "ckpt=run/checkpoints/last.ckpt"]
    run_script("train.py", *overrides, *more, cwd=tmp_path)
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (record["status"], record["pretrained"]) == ("finished", None)


def test_a_run_without_pretrained_weights_records_none(trained):
    folder, _ = trained
    assert json.loads((folder / "metrics.json").read_text())["pretrained"] is None
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["pretrained"] is None


@pytest.mark.parametrize("model", ["mvit", "vivit_joint", "timesformer_tiny"])
def test_every_model_takes_the_keys_without_a_plus(model):
    overrides = ["model.pretrained=k400", "model.inflate=average", "model.accept=[frames,crop]"]
    cfg = compose_config("train", ["data=motion", f"model={model}", *overrides])
    assert (cfg.model.pretrained, cfg.model.inflate, list(cfg.model.accept)) == ("k400", "average", ["frames", "crop"])


@pytest.mark.parametrize(
    ("overrides", "first_line"),
    [
        (["model.pretraned=x"], "error: model.pretraned: there is no such key; did you mean model.pretrained?"),
        (
            ["model.pretrained=absent.pth"],
            "error: model.pretrained=absent.pth: there is no such file, and no such name in the catalogue, which has "
            "for Joint of this size: none; a hub id is org/name",
        ),
    ],
)
def test_a_mistake_is_told_in_the_first_line(overrides, first_line, motion_root, run_script, tmp_path):
    root = f"data.root={motion_root.parent / 'few'}"
    process = run_script("train.py", *ONE_STEP, root, "run_dir=run", *overrides, cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert process.stderr.splitlines()[0] == first_line
