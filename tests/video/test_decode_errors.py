"""Files that give no frames: one error, in one line, that says where and why, whichever the decoder."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tubelet.video.decord import SeekingReader
from tubelet.video.open import open_video
from tubelet.video.pyav import LinearReader, read_header, write_video
from tubelet.video.reader import DecodeError, Reader
from tubelet.video.seeking import KeyFrameReader

FPS = 25


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory, closed_groups: str, files: SimpleNamespace) -> dict[str, str]:
    """What lies at the path -> the path."""
    folder = tmp_path_factory.mktemp("broken")
    whole = closed_groups
    front = files.copy(whole, str(folder / "front.mp4"), movflags="faststart")
    contents = {
        "an empty file": b"",
        "a web page": b"<!DOCTYPE html><html><head><title>404</title></head><body>not found</body></html>",
        "noise": random.Random(0).randbytes(5000),
        "a file cut short, index lost": Path(whole).read_bytes()[:-2000],
        "a file cut short, index in front": Path(front).read_bytes()[:6000],
    }
    paths = {"nothing": str(folder / "missing.mp4"), "a folder": str(folder / "folder.mp4")}
    Path(paths["a folder"]).mkdir()
    for i, (what, data) in enumerate(contents.items()):
        paths[what] = str(folder / f"{i}.mp4")
        Path(paths[what]).write_bytes(data)
    paths["sound alone"] = str(folder / "sound.mp4")
    with av.open(paths["sound alone"], "w") as output:
        stream = output.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    return paths


BROKEN = {
    "nothing": "open",
    "a folder": "open",
    "an empty file": "open",
    "a web page": "open",
    "noise": "open",
    "sound alone": "open",
    "a file cut short, index lost": "open",
    "a file cut short, index in front": "decode",
}


@pytest.mark.parametrize("reader", ["auto", "decord", "pyav", "pyav_seek"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_gives_no_frames_is_a_decode_error_in_one_line_with_its_path_and_stage(
    what: str, reader: str, broken: dict[str, str]
):
    with pytest.raises(DecodeError) as caught, open_video(broken[what], reader) as opened:
        opened.read([0, opened.num_frames - 1])
    error = caught.value
    assert error.path == broken[what]
    # decord looks for the last packets when it opens a file, PyAV comes to them when it decodes.
    assert error.stage in ({"open", "decode"} if BROKEN[what] == "decode" else {"open"})
    assert str(error) == f"{broken[what]}: cannot {error.stage}: {error.reason}"
    assert error.reason
    assert "\n" not in str(error)


def test_the_reason_names_what_is_wrong(broken: dict[str, str]):
    for what, reason in {
        "nothing": "No such file",
        "a folder": "the folder holds no picture",
        "sound alone": "no video stream",
        "a web page": "Invalid data",
    }.items():
        with pytest.raises(DecodeError, match=reason):
            open_video(broken[what])


def test_a_frame_size_that_changes_within_the_file_is_a_decode_error(files: SimpleNamespace, tmp_path: Path):
    paths = [tmp_path / "small.ts", tmp_path / "large.ts"]
    for path, size in zip(paths, ((64, 80), (96, 128)), strict=True):
        files.write(str(path), range(30), "mpeg2video", "mpegts", size=size)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(paths[0].read_bytes() + paths[1].read_bytes())
    with open_video(str(joined)) as opened:
        assert files.numbers(opened.read([5, 20])) == [5, 20]
        with pytest.raises(DecodeError, match="cannot decode: the frame size changes within the file"):
            opened.read([5, opened.num_frames - 1])


MAKERS = {
    "pyav": LinearReader,
    "pyav_seek": lambda path: KeyFrameReader(path, read_header(path)),
    "decord": lambda path: SeekingReader(path, FPS),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_frame_past_the_end_is_an_error_and_never_another_frame(make: Callable[[str], Reader], closed_groups: str):
    with make(closed_groups) as opened, pytest.raises((IndexError, DecodeError)):
        opened.read([0, 90])


def test_a_decode_error_survives_pickling():
    error = DecodeError("a/b c.mp4", "decode", "Invalid data\n  found")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DecodeError
    assert (copy.path, copy.stage, copy.reason) == ("a/b c.mp4", "decode", "Invalid data found")
    assert str(copy) == str(error) == "a/b c.mp4: cannot decode: Invalid data found"


def test_a_decode_error_without_a_reason_says_so():
    assert str(DecodeError("a.mp4", "open", "")) == "a.mp4: cannot open: no reason given by the decoder"


def test_an_unknown_reader_is_a_value_error_that_lists_the_readers():
    with pytest.raises(
        ValueError, match=r"data\.reader=opencv is unknown; the readers are auto, pyav, pyav_seek, decord"
    ):
        open_video("never opened.mp4", "opencv")


@pytest.mark.parametrize(("width", "height"), [(72, 64), (64, 48), (16, 24)])
def test_a_size_that_decord_cannot_read_is_read_all_the_same(width, height, tmp_path):
    path = str(tmp_path / "narrow.mp4")
    frames = [np.full((height, width, 3), 10 * i, dtype=np.uint8) for i in range(12)]
    write_video(path, frames, fps=10, qp="0")
    with open_video(path, "auto") as reader:
        read = reader.read([11, 0, 5])
    assert read.shape == (3, 3, height, width)
    assert read.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx([110, 0, 50], abs=2)  # colour conversion rounds


@pytest.mark.parametrize("reader", ["auto", "pyav", "pyav_seek", "decord"])
def test_a_codec_that_nobody_decodes_is_a_decode_error(reader: str, closed_groups: str, tmp_path: Path):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(Path(closed_groups).read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(DecodeError, match="has no decoder for its codec"):
        open_video(str(path), reader)
