"""Writing videos: all frames, or no file."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tubelet.video.open import open_video
from tubelet.video.pyav import write_video


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".webm", "libvpx-vp9"), (".avi", "mpeg4")]
)
def test_a_written_video_holds_the_frames(suffix: str, codec: str, files: SimpleNamespace, tmp_path: Path):
    path = str(tmp_path / f"a{suffix}")
    write_video(path, (files.frame(number) for number in range(20)), fps=12, codec=codec)
    with open_video(path, "pyav") as opened:
        assert (opened.num_frames, opened.size, opened.fps) == (20, (64, 80), 12)
        assert files.numbers(opened.read(range(20))) == list(range(20))
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("num_written", [0, 1, 60])
def test_an_interrupted_write_leaves_no_file_of_that_name(num_written: int, files: SimpleNamespace, tmp_path: Path):
    def frames() -> Iterable[np.ndarray]:
        yield from (files.frame(number) for number in range(num_written))
        raise KeyboardInterrupt

    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt):
        write_video(str(path), frames(), fps=10, g="1", tune="zerolatency")
    assert not path.exists()


def test_an_interrupted_write_keeps_the_file_that_was_there(files: SimpleNamespace, tmp_path: Path):
    def frames() -> Iterable[np.ndarray]:
        yield files.frame(99)
        raise RuntimeError("the disk is full")

    path = str(tmp_path / "a.mp4")
    write_video(path, [files.frame(7)], fps=10)
    with pytest.raises(RuntimeError, match="the disk is full"):
        write_video(path, frames(), fps=10)
    with open_video(path) as opened:
        assert files.numbers(opened.read([0])) == [7]
