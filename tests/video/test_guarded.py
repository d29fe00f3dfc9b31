"""A file whose decoding hangs or crashes costs itself, and no other."""

import importlib
import multiprocessing
from pathlib import Path
from types import ModuleType

import pytest

import tubelet.video.guarded
from tubelet.video.guarded import in_children

WORK = """
import os, signal, time

here = os.path.dirname(__file__)
if os.path.exists(os.path.join(here, "dies at the start")):
    os._exit(3)
while os.path.exists(os.path.join(here, "hangs at the start")):
    time.sleep(0.05)

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


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("dies at the start", r"a decoding process ended while it started \(exit code 3\); see above for why"),
        ("hangs at the start", r"a decoding process did not start within 2 s; fewer of them \(--num-workers\) may"),
    ],
)
def test_a_child_that_does_not_start_is_an_error(
    what: str, told: str, work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    list(in_children(iter, ["of a module without trouble"], 1, lambda path: 60.0))  # starts the server they come from
    monkeypatch.setattr(tubelet.video.guarded, "START_SECONDS", 2)
    (tmp_path / what).touch()
    with pytest.raises(ChildProcessError, match=told):
        list(in_children(work.work, ["a", "b", "c"], 2, lambda path: 60.0))
    (tmp_path / what).unlink()


def test_a_child_that_dies_between_two_tasks_costs_the_next_one_alone(work: ModuleType):
    def limit(path: str) -> float:
        if path == "b":
            (child,) = multiprocessing.active_children()
            child.kill()
            child.join()
        return 60.0

    outcomes = {outcome.task: outcome[1:] for outcome in in_children(work.work, ["a", "b", "c"], 1, limit)}
    assert outcomes == {
        "a": ("a done", ""),
        "b": (None, "the decoding process ended (SIGKILL)"),
        "c": ("c done", ""),
    }


def test_no_path_is_no_work(work: ModuleType):
    assert list(in_children(work.work, [], 3, lambda path: 1.0)) == []
