"""What a user gets from a wheel: the command line and the configs, away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A folder that holds the built wheel, unpacked as an installation would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("tubelet-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def in_another_folder(unpacked, code, cwd):
    environment = os.environ | {"PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_wheel_trains_in_another_folder(unpacked, motion_root, tmp_path):
    found = in_another_folder(unpacked, "import tubelet; print(tubelet.__file__)", tmp_path)
    assert found.strip() == str(unpacked / "tubelet/__init__.py")
    arguments = ["tubelet", "train", "experiment=demo", f"data.root={motion_root}", "data.train=24", "data.val=8"]
    arguments += ["data.test=16", "data.batch_size=8", "optim.total_batch=8", "data.num_workers=0"]
    arguments += ["trainer.max_epochs=1", "model.depth=1", "trainer.accelerator=cpu", "logger=csv", "run_dir=mine"]
    code = f"import sys; sys.argv = {arguments!r}; from tubelet.commands.main import main; main()"
    in_another_folder(unpacked, code, tmp_path)
    assert (tmp_path / "mine/checkpoints/best.ckpt").exists()


def test_a_wheel_names_its_commands(unpacked, tmp_path):
    code = "import sys; sys.argv = ['tubelet', '--help']; from tubelet.commands.main import main; main()"
    assert "tubelet predict best.ckpt" in in_another_folder(unpacked, code, tmp_path)
    assert "tubelet = tubelet.commands.main:main" in next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
