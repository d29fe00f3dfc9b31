"""A misspelt key is never silently accepted, wherever it was written."""

import subprocess
import sys
from pathlib import Path

import pytest

from tubelet.training.launch import compose_config

ROOT = Path(__file__).parents[2]


def misspelt(*overrides):
    with pytest.raises(ValueError, match=r"there is no such (key|entry)") as caught:
        compose_config("train", ["data=motion", *overrides])
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+trainer.max_epoch=1", "trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?"),
        ("+modle.x=1", "modle: there is no such key; did you mean model?"),
        ("+optim.optimizer.bettas=[0,0]", "did you mean optim.optimizer.betas?"),
        ("+callbacks.best.moniter=x", "did you mean callbacks.best.monitor?"),
        ("+augment.flip.prob=1", "augment.flip.prob: there is no such key"),
        ("+clip.strid=1", "did you mean clip.stride?"),
        ("+views.clip=1", "did you mean views.clips?"),
        ("+data.size=3", "data.size: there is no such key; there are: batch_size"),
        ("+sed=9", "did you mean seed?"),
        ("+augment.flipp.p=0.3", "augment.flipp: there is no such entry; did you mean augment.flip?"),
        ("+callbacks.bst.monitor=x", "callbacks.bst: there is no such entry; did you mean callbacks.best?"),
    ],
)
def test_a_misspelt_key_after_a_plus_is_named_with_the_nearest_right_one(override, told):
    assert told in misspelt(override)


@pytest.mark.parametrize(
    "override",
    [
        "+optim.optimizer.fused=true",  # an argument of the target that conf/ does not list
        "+callbacks.early={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/top1}",
        "+augment.grey={_target_: torchvision.transforms.v2.RandomGrayscale, p: 0.1}",
        "~augment.flip",
        "+logger.wandb.entity=us",
    ],
)
def test_what_a_target_does_take_is_accepted(override):
    logger = ["logger=wandb"] if "wandb" in override else []
    compose_config("train", ["data=motion", *logger, override])


@pytest.mark.parametrize(
    ("overrides", "first_line"),
    [
        (["model=vivit_jointt"], "error: model=vivit_jointt: there is no such model; did you mean model=vivit_joint?"),
        (["data.batchsize=3"], "error: data.batchsize: there is no such key; did you mean data.batch_size?"),
        (["+trainer.max_epoch=1"], "error: trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?"),
        (["modle=x"], "error: modle: there is no such key; did you mean model?"),
        (["data=folder"], "error: data.root has no value; give it on the command line: data.root=..."),
    ],
)
def test_a_mistaken_command_is_told_in_its_first_line_at_once(overrides, first_line, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.splitlines()[0] == first_line
    assert "Traceback" not in process.stderr


def test_a_misspelt_key_in_an_experiment_file_is_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\noptim: {learning_rate: 1.0e-3}\n")
    command = [sys.executable, str(ROOT / "train.py"), "--config-dir", str(tmp_path), "experiment=mine"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("error: optim.learning_rate: there is no such key")


def test_help_answers_without_importing_torch(tmp_path):
    lines = [
        "import runpy, sys",
        "sys.argv = ['train.py', '--help']",
        "try:",
        f"    runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')",
        "except SystemExit:",
        "    print('torch' in sys.modules)",
    ]
    code = "\n".join(lines)
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "vivit_joint_tiny" in process.stdout
    assert process.stdout.splitlines()[-1] == "False"
