"""benchmarks/loading.py: that the pipelines do the same work, its table by hand, and one short run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tubelet.training.launch import config_dir
from tubelet.video.order import Draw
from tubelet.video.sampling import Dense

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import loading
from pipelines import files, mmaction2_style, ours
from pipelines.task import AUGMENTS, CROP, MEAN, POLICY, SCALE, STD, Task

DRAWS = [Draw(3, 0), Draw(5, 1)]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Two files of 260 x 270 pixels, each smaller than any of those that are measured."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(files.KINDS, "small", (260, 270, 20, 10, ".mp4", "libx264", {"g": "5"}))
        patch.setattr(files, "NUM_FILES", 2)
        listed = files.generated("small", folder)
    return Task(listed, Dense(4, 3, fps=None), "resized_crop", torch.device("cpu"))


@pytest.fixture(scope="module")
def contestants(task):
    return loading.contestants(task)


def seeded(call):
    torch.manual_seed(7)
    return call(DRAWS)


@pytest.mark.parametrize("name", ["tubelet", "tubelet, scanned", "mmaction2-style"])
def test_the_float_batch_is_the_bytes_normalised(name, contestants):
    in_bytes, in_floats = (seeded(contestants[name][kind]) for kind in ("uint8", "float"))
    assert in_bytes.shape == (2, 3, 4, 224, 224)
    assert in_bytes.dtype == torch.uint8
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (MEAN, STD))
    torch.testing.assert_close(in_floats, (in_bytes / 255 - mean) / std, rtol=0, atol=1e-5)  # float32 on values of 2


def test_an_index_changes_no_pixel(contestants):
    plain, scanned = (contestants[name]["uint8"](DRAWS) for name in ("tubelet", "tubelet, scanned"))
    assert plain.equal(scanned)


def test_the_augmentations_are_those_of_the_config():
    kinds = {name: [type(one).__name__ for one in ours.transforms(name).values()] for name in AUGMENTS}
    flip = "RandomHorizontalFlip"
    assert kinds == {
        "crop_flip": ["Resize", "RandomCrop", flip],
        "resized_crop": ["RandomResizedCrop", flip],
        "randaugment": ["RandAugment", "RandomResizedCrop", flip],
    }
    assert ours.transforms("randaugment")["crop"].scale == list(SCALE)
    assert ours.transforms("randaugment")["crop"].size == (CROP, CROP)
    text = (Path(config_dir()) / "augment" / "randaugment.yaml").read_text()
    assert f"policy: {POLICY} " in text


@pytest.mark.parametrize("augment", AUGMENTS)
def test_every_pipeline_gives_clips_of_one_shape_with_every_augmentation(augment, task):
    for name, formats in loading.contestants(task._replace(augment=augment)).items():
        for kind, call in formats.items():
            shape = (2, 0) if name.startswith("libav") else (2, 3, 4, 224, 224)
            assert call(DRAWS).shape == shape, (name, kind)
        assert formats or (name, augment) == ("pytorchvideo-style", "randaugment")


def test_timms_randaugment_draws_once_for_all_frames():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    torch.manual_seed(1)
    first, second, third = mmaction2_style.randomly([image, image, image])
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)
    assert not np.array_equal(first, image)


def test_repeats_are_clips_of_the_same_frames(task):
    one, two = (made["uint8"](DRAWS) for made in loading.repeated(task, 2).values())
    assert (len(one), len(two)) == (2, 4)
    assert two[::2].equal(one)  # each video's clips follow each other
    assert not two[1::2].equal(one)


def test_pytorchvideos_style_gives_floats_only(contestants):
    assert list(contestants["pytorchvideo-style"]) == ["float"]
    batch = contestants["pytorchvideo-style"]["float"](DRAWS)
    assert (batch.shape, batch.dtype) == ((2, 3, 4, 224, 224), torch.float32)
    assert batch.min() >= -0.45 / 0.225 - 1e-5  # of black
    assert batch.max() <= 0.55 / 0.225 + 1e-5  # of white


def test_a_ratio_is_the_median_of_those_of_the_rounds():
    readings = {
        ("tubelet, scanned", "uint8"): [0.1, 0.2, 0.4],
        ("tubelet, scanned", "float"): [0.2, 0.2, 0.2],
        ("other", "float"): [0.5, 0.4, 0.8],
    }
    _, _, own, other = loading.table(readings)
    assert own == (
        "| tubelet, scanned | 5.0 (2.5 to 10.0) | 1.00 (1.00 to 1.00) | 5.0 (5.0 to 5.0) | 1.00 (1.00 to 1.00) |"
    )
    assert other == "| other |  |  | 2.0 (1.2 to 2.5) | 2.50 (2.00 to 4.00) |"


def test_files_of_a_folder_are_taken_evenly(tmp_path):
    for i in range(17):
        (tmp_path / f"{i}.mp4").touch()
    (tmp_path / "0.txt").touch()
    assert [Path(path).stem for path, _ in files.found(tmp_path)] == ["0", "10", "12", "14", "16", "3", "5", "7"]
    with pytest.raises(FileNotFoundError, match="elsewhere holds no video"):
        files.found(tmp_path / "elsewhere")


def test_a_run_writes_a_table_for_each_kind_that_is_given(task, tmp_path, monkeypatch, capsys):
    threads = torch.get_num_threads()
    arguments = [f"mine={task.files[0].path}", "--kinds", "", "--rounds", "2", "--batch", "1", "--frames", "3"]
    monkeypatch.setattr(sys, "argv", ["loading.py", *arguments, "--device", "cpu", "--out", str(tmp_path / "x.md")])
    loading.main()
    torch.set_num_threads(threads)
    written = (tmp_path / "x.md").read_text()
    assert written == capsys.readouterr().out
    assert written.startswith(f"`python {loading.shlex.join(sys.argv)}`\n")
    assert "### mine, resized_crop\n\n1 file(s): small_0.mp4; stride 4." in written
    rows = [line.split(" | ")[0] for line in written.splitlines() if line.startswith("| ")]
    names = ["tubelet", "tubelet, scanned", "mmaction2-style", "pytorchvideo-style", "libav, every frame"]
    assert rows[1:6] == [f"| {name}" for name in names]
