"""A file whose decoding hangs or crashes costs itself, and no other."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from tubelet.video.guarded import in_children

WORK = """
import os, signal, time

def work(path):
    yield f"{path} begun"
    if path == "hangs":
        time.sleep(600)
    if path == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path != "gives one thing":
        yield f"{path} done"
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """In a module that child processes can import, which a test is not."""
    (tmp_path / "guarded_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("guarded_work")


def test_a_hang_and_a_crash_are_told_with_what_was_found_before_and_the_other_paths_are_finished(work: ModuleType):
    paths = ["a", "hangs", "b", "crashes", "c", "gives one thing"]
    outcomes = {outcome.task: outcome[1:] for outcome in in_children(work.work, paths, 2, lambda path: 3.0)}
    assert outcomes == {
        "a": ("a done", ""),
        "b": ("b done", ""),
        "c": ("c done", ""),
        "gives one thing": ("gives one thing begun", ""),
        "hangs": ("hangs begun", "no answer within 3 s"),
        "crashes": ("crashes begun", "the decoding process ended (SIGSEGV)"),
    }


def test_no_path_is_no_work(work: ModuleType):
    assert list(in_children(work.work, [], 3, lambda path: 1.0)) == []
