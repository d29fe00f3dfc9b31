"""Files that a reader never sees half, also where the machine stops."""

import math
import os

import pytest

from tubelet.training.json_files import read_json, write_json


def test_a_file_takes_its_place_when_all_of_it_is_on_the_disk(tmp_path, monkeypatch):
    path, done = tmp_path / "a.json", []
    write_json(path, {"loss": 0.5})
    fsync, replace = os.fsync, os.replace

    def noted_fsync(number):
        done.append((os.fstat(number).st_size, read_json(path)))
        fsync(number)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("moved"), replace(*paths)))
    write_json(path, {"loss": math.nan, "top1": 0.25})
    assert done == [(path.stat().st_size, {"loss": 0.5}), "moved"]
    assert read_json(path) == {"loss": None, "top1": 0.25}


def test_a_file_that_holds_no_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"loss": 0.')
    with pytest.raises(ValueError, match=r"a.json is damaged: .*; delete it"):
        read_json(tmp_path / "a.json")
