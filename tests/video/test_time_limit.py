"""A decoder that does not come back costs its time limit, and no more."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import tubelet.video.open
from tubelet.video.open import DEFAULTS, ReadOptions, check_reader, read_clips
from tubelet.video.reader import DecodeError
from tubelet.video.time_limit import within


def test_work_that_takes_longer_is_a_decode_error_after_the_limit():
    release = threading.Event()
    start = time.monotonic()
    with pytest.raises(DecodeError) as caught:
        within(0.2, "a.mp4", release.wait)
    assert 0.2 <= time.monotonic() - start < 5
    release.set()
    assert (caught.value.path, caught.value.stage, caught.value.reason) == ("a.mp4", "decode", "no answer within 0.2 s")


def test_what_the_work_gives_or_raises_comes_through():
    assert within(5, "a.mp4", lambda: (1, None)) == (1, None)
    assert within(5, "a.mp4", lambda: None) is None
    error = DecodeError("a.mp4", "open", "Invalid data")
    with pytest.raises(DecodeError) as caught:
        within(5, "a.mp4", lambda: (_ for _ in ()).throw(error))
    assert caught.value is error
    with pytest.raises(ZeroDivisionError):
        within(5, "a.mp4", lambda: 1 / 0)


LEAVE_A_THREAD = """
import threading, time
from tubelet.video.reader import DecodeError
from tubelet.video.time_limit import within

try:
    within(0.05, "b.mp4", lambda: time.sleep(600))
except DecodeError:
    print(any(thread.name == "reads b.mp4" for thread in threading.enumerate()))
"""


def test_the_thread_left_behind_does_not_keep_the_process_alive():
    ended = subprocess.run([sys.executable, "-c", LEAVE_A_THREAD], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_reader_that_blocks_is_cut_off(where: str, monkeypatch: pytest.MonkeyPatch, videos):
    release = threading.Event()

    class Blocking(tubelet.video.open.KeyFrameReader):
        def __init__(self, *arguments):
            if where == "open":
                release.wait(30)
            super().__init__(*arguments)

        def read(self, indices):
            release.wait(30)
            return super().read(indices)

    monkeypatch.setattr(tubelet.video.open, "KeyFrameReader", Blocking)
    with pytest.raises(DecodeError, match=r"cannot decode: no answer within 0\.3 s"):
        read_clips(
            videos[0].path, lambda n, fps: torch.zeros(1, 2, dtype=torch.int64), "auto", None, ReadOptions(None, 0.3)
        )
    release.set()


def test_a_limit_that_is_not_positive_is_a_value_error():
    with pytest.raises(ValueError, match=r"data\.time_limit=0 is not a positive number"):
        check_reader("auto", ReadOptions(time_limit=0))


def test_clips_are_chosen_from_the_number_of_frames_and_come_with_the_name_of_the_reader(videos, files):
    asked = []

    def choose(num_frames, fps):
        asked.append(num_frames)
        return torch.tensor([[3, 1, 4], [1, 5, 9]])

    frames, name = read_clips(videos[2].path, choose, "auto", None, DEFAULTS)
    assert (asked, name) == ([20], "pyav_seek")
    assert frames.shape == (2, 3, 3, 64, 80)
    assert [[number - 64 for number in files.numbers(clip)] for clip in frames] == [[3, 1, 4], [1, 5, 9]]


def test_the_default_is_twenty_seconds(tmp_path: Path):
    assert DEFAULTS.time_limit == 20
