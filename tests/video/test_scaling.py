"""Frames much larger than what is asked for are scaled when they are read, by one rule for all readers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from tubelet.video.open import ReadOptions, open_video
from tubelet.video.pyav import write_video
from tubelet.video.scaling import scale, scaled_size


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((1080, 1920), 256, (256, 455)),  # 455.1
        ((1920, 1080), 256, (455, 256)),
        ((512, 640), 256, (512, 640)),  # twice as large: stays
        ((513, 640), 256, (256, 319)),
        ((640, 513), 256, (319, 256)),
        ((240, 320), 256, (240, 320)),  # never larger
        ((1080, 1920), None, (1080, 1920)),
    ],
)
def test_the_short_side_gets_the_size_asked_for_where_it_is_more_than_twice_that(size, short_side, expected):
    assert scaled_size(*size, short_side) == expected
    frames = torch.zeros(1, 3, *size, dtype=torch.uint8)
    assert scale(frames, short_side).shape[-2:] == expected
    if expected != size:
        assert F.resize(frames, [short_side]).shape[-2:] == expected  # the rule of torchvision


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Smooth pictures of 216 x 384 pixels with an edge."""
    path = str(tmp_path_factory.mktemp("large") / "large.mp4")
    down, across = np.mgrid[:216, :384]
    images = [
        np.stack([across / 2, down, 90 + 60 * np.sin((across + down + 9 * i) / 20)], axis=-1)
        + 60 * (across > 150)[..., None]
        for i in range(9)
    ]
    write_video(path, [image.clip(0, 255).astype(np.uint8) for image in images], fps=10, qp="10")
    return path


@pytest.mark.parametrize("reader", ["auto", "pyav", "decord"])
def test_scaled_frames_are_those_of_resizing_them_afterwards(reader: str, large: str):
    # decord's frames are resized by torchvision; FFmpeg's scaler, which PyAV's go through, differs from it by less than
    # a grey level on average and a few at edges, where it places pixels a little otherwise.
    with open_video(large, "pyav") as full:
        expected = F.resize(full.read([7, 2]), [64], antialias=True).float()
    with open_video(large, reader, None, ReadOptions(short_side=64)) as opened:
        assert opened.size == (64, 113)
        frames = opened.read([7, 2]).float()
    assert frames.shape == expected.shape == (2, 3, 64, 113)
    assert (frames - expected).abs().mean() < 1.5
    assert (frames - expected).abs().max() < 24


def test_frames_up_to_twice_as_large_are_not_touched(large: str):
    with open_video(large) as full, open_video(large, "auto", None, ReadOptions(short_side=108)) as opened:
        assert torch.equal(opened.read([4]), full.read([4]))


def test_turned_frames_are_scaled_by_their_short_side(closed_groups: str, tmp_path: Path):
    data = bytearray(Path(closed_groups).read_bytes())
    at = data.index(b"tkhd") + 44  # the matrix of a quarter turn clockwise, see test_changed_files.py
    data[at : at + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    for reader in ("pyav", "pyav_seek", "decord"):
        with open_video(str(path), reader, None, ReadOptions(short_side=30)) as opened:
            assert opened.size == (37, 30)  # 80 x 64 after turning
