"""benchmarks/readers.py: who counts as exact, and one short run; benchmarks/loading.py: what a scan changes."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tubelet.video.annotations import Video
from tubelet.video.order import Draw
from tubelet.video.pyav import LinearReader, write_video
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import Dense

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import loading
import readers
from pipelines.task import Task

NUM_FRAMES = 20


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 frames, each brighter than the one before, with a key frame every 5."""
    path = str(tmp_path_factory.mktemp("video") / "a.mp4")
    grey = [np.full((64, 80, 3), 20 + 10 * i, dtype=np.uint8) for i in range(NUM_FRAMES)]
    write_video(path, grey, fps=10, g="5")
    return path


class OneLater(LinearReader):
    def read(self, indices):
        return super().read([min(i + 1, NUM_FRAMES - 1) for i in indices])


class OneMore(LinearReader):
    def __init__(self, path):
        super().__init__(path)
        self.num_frames += 1


class Refusing(LinearReader):
    def read(self, indices):
        raise DecodeError("a.mp4", "decode", "not today")


def test_a_reader_is_exact_only_if_every_frame_and_their_number_are_right_and_is_left_out_if_it_refuses(video, capsys):
    kinds = {"right": LinearReader, "later": OneLater, "more": OneMore, "refusing": Refusing}
    opened = {name: lambda kind=kind: kind(video) for name, kind in kinds.items()}
    found = readers.examine(opened, video, NUM_FRAMES, [[19, 19], [0, 4, 8]])  # of the first, OneLater gives the frames
    assert found == {"right": True, "later": False, "more": False}
    assert capsys.readouterr().out == "  refusing is left out: a.mp4: cannot decode: not today\n"


def test_a_short_run_prints_a_line_for_each_reader_with_its_ratios(video, capsys, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["readers.py", video, "gone.mp4", "--rounds", "2", "--clips", "1"])
    readers.main()
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.mp4: clips of 16 frames, stride 4, 2 rounds"
    figures = r"\d+\.\d+ \(\d+\.\d+ to \d+\.\d+\)"
    row = re.compile(rf"  (auto|pyav)( \+ index)? +{figures} +({figures}|-) +{figures} +exact")
    assert sum(bool(row.fullmatch(line)) for line in lines) == 4
    fastest = next(line for line in lines if "the fastest exact" in line).split("/ this ")[-1].strip().partition(",")[0]
    own = next(line for line in lines if re.match(rf"  {re.escape(fastest)}  ", line))
    assert own.endswith("1.00 (1.00 to 1.00)      exact")
    assert lines[-1].startswith("  left out: ")
    assert "gone.mp4" in lines[-1]


def test_a_scan_changes_nothing_in_the_clips_whose_loading_is_timed(video):
    task = Task([Video(video, 0)], Dense(5, 2, None), "crop_flip", torch.device("cpu"))
    named = loading.contestants(task)
    plain, scanned = (named[name]["uint8"]([Draw(3, 0)]) for name in ("tubelet", "tubelet, scanned"))
    assert plain.shape == (1, 3, 5, 224, 224)
    assert scanned.equal(plain)
