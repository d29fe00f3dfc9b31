"""Training and evaluation with the index that `tubelet scan` leaves: the same batches, and what it says is used."""

import os
import shutil

import pytest
import torch

from tubelet.training.build_data import build_catalogue, build_training_data
from tubelet.training.launch import compose_config
from tubelet.video.index import INDEX_NAME, Entry, append_entries, state_of
from tubelet.video.order import Draw
from tubelet.video.scan import update_index

SMALL = ["data=motion", "data.train=8", "data.val=8", "data.test=8", "model=vivit_joint_tiny"]
SMALL += ["data.batch_size=4", "optim.total_batch=4"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of 24 generated videos."""
    folder = tmp_path_factory.mktemp("data") / "motion"
    build_catalogue(compose_config("train", [*SMALL, f"data.root={folder}"]).data)
    return folder


def data_in(root, *overrides):
    cfg = compose_config("train", [*SMALL, f"data.root={root}", *overrides])
    return build_training_data(cfg, build_catalogue(cfg.data), {})


def test_batches_are_the_same_with_and_without_an_index(root, tmp_path):
    indexed = tmp_path / "motion"
    shutil.copytree(root, indexed)
    paths = [str(path) for path in indexed.glob("*/*/*.mp4")]
    update_index(indexed / INDEX_NAME, paths, num_workers=2, seconds=60)
    plain, known = data_in(root), data_in(indexed)
    assert len(plain.train_set.index) == 0
    assert len(known.train_set.index) == len(paths) == 24
    for name in ("train_set", "val_set", "test_set"):
        for i in range(8):
            expected, found = (getattr(data, name)[Draw(3, i)] for data in (plain, known))
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert torch.equal(found[key], value) if isinstance(value, torch.Tensor) else found[key] == value


def test_an_index_of_files_that_have_changed_since_is_told(root, tmp_path, caplog):
    caplog.set_level("INFO")
    copied = tmp_path / "motion"
    shutil.copytree(root, copied)
    paths = [str(path) for path in copied.glob("*/*/*.mp4")]
    append_entries(copied / INDEX_NAME, [Entry(path, *state_of(path), num_frames=16) for path in paths])
    data_in(copied)
    assert caplog.messages[-1] == f"index: 24 of 24 videos are in {os.path.relpath(copied / INDEX_NAME)}"
    for path in paths:
        os.utime(path, (1, 1))
    data_in(copied)
    assert caplog.messages[-1].startswith("index: 24 of 24 files asked for have changed since, and are read as without")


def test_the_index_is_found_by_absolute_path_wherever_the_run_is_started(root, tmp_path, monkeypatch):
    paths = sorted(str(path) for path in root.glob("*/*/*.mp4"))
    update_index(tmp_path / "index.jsonl", paths, num_workers=2, seconds=60)
    monkeypatch.chdir(root.parent)
    index = data_in("motion", f"data.index={tmp_path / 'index.jsonl'}").train_set.index
    assert all(index.get(os.path.relpath(path)).num_frames == 16 for path in paths)


def test_an_index_that_is_named_and_not_there_is_an_error(root):
    with pytest.raises(FileNotFoundError, match=r"data\.index=nowhere\.jsonl: there is no such file"):
        data_in(root, "data.index=nowhere.jsonl")
