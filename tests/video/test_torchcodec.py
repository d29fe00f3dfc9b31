"""torchcodec, which is an extra: what it is asked for, and what is said where it is not installed.

tests/video/test_readers.py runs the real one where it can be imported; here a stand-in takes its place.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch

from tubelet.video.open import DEFAULTS, check_reader, open_video
from tubelet.video.reader import DecodeError
from tubelet.video.torchcodec import TorchcodecReader


class FakeDecoder:
    asked: ClassVar[list] = []

    def __init__(self, path, **options):
        if "broken" in path:
            raise ValueError("No valid stream found\nmore")
        self.asked.append((path, options))

    def __len__(self):
        return 90

    def get_frames_at(self, indices):
        if 13 in indices:
            raise RuntimeError("Could not push packet to decoder\nmore")
        self.asked.append(indices)
        return SimpleNamespace(data=torch.tensor(indices, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 40, 50))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the decoder in the place of torchcodec's was asked for."""
    module = ModuleType("torchcodec.decoders")
    module.VideoDecoder = FakeDecoder
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    monkeypatch.setattr(FakeDecoder, "asked", [])
    return FakeDecoder.asked


def test_it_is_opened_in_exact_mode_with_one_thread(fake: list, closed_groups: str):
    with open_video(closed_groups, "torchcodec") as opened:
        assert (opened.name, opened.num_frames, opened.fps) == ("torchcodec", 90, 25)
        frames = opened.read(range(5, 20, 7))
        assert opened.size == (40, 50)
        with pytest.raises(IndexError, match="90"):
            opened.read([90])
    assert frames[:, 0, 0, 0].tolist() == [5, 12, 19]
    assert fake == [(closed_groups, {"seek_mode": "exact", "num_ffmpeg_threads": 1}), [5, 12, 19], [0]]


def test_its_errors_are_decode_errors_in_one_line(fake: list):
    with pytest.raises(DecodeError, match=r"broken\.mp4: cannot open: No valid stream found$"):
        TorchcodecReader("broken.mp4", 25)
    with pytest.raises(DecodeError, match=r"a\.mp4: cannot decode: Could not push packet to decoder$"):
        TorchcodecReader("a.mp4", 25).read([13])


def test_it_is_refused_in_an_avi(fake: list, files: SimpleNamespace, tmp_path):
    path = files.write(str(tmp_path / "a.avi"), range(20), "mpeg4")
    with pytest.raises(DecodeError, match="torchcodec's seeking is not proven exact in this avi/mpeg4 file"):
        open_video(path, "torchcodec")
    assert fake == []


def test_without_it_the_way_to_install_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(
        ValueError, match=r"data\.reader=torchcodec needs pip install 'tubelet\[torchcodec\]'"
    ) as caught:
        check_reader("torchcodec", DEFAULTS)
    assert "\n" not in str(caught.value)
