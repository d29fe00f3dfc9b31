"""A video written anew: the same frames at the same times, in pictures that are read alike."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tubelet.video import encode as module
from tubelet.video.encode import Clock, Encoded, Encoding, Pictures, encode, reduced_size
from tubelet.video.open import open_video
from tubelet.video.pyav import LinearReader, read_header
from tubelet.video.reader import DecodeError

FINE = Encoding(short_side=320, gop=12, crf=5)


def encoded(source: str, encoding: Encoding = FINE) -> tuple[str, Encoded]:
    """(path of the new file, what is told of it)."""
    *_, found = encode(source, f"{source}.new", encoding)
    assert isinstance(found, Encoded)
    return f"{source}.new", found


def times(path: str) -> list[Fraction]:
    """Seconds at which the frames are shown, from a header of packets."""
    with av.open(path) as container:
        unit = container.streams.video[0].time_base
    return [time * unit for time in read_header(path).times]


def test_every_frame_is_there_and_can_be_reached_exactly(closed_groups: str, files: SimpleNamespace, tmp_path):
    source = files.copy(closed_groups, str(tmp_path / "a.mp4"))
    path, found = encoded(source)
    assert (found.num_frames, found.damaged) == (90, "")
    assert found.num_bytes == Path(path).stat().st_size
    header = read_header(path)
    assert (header.container, header.codec, header.fps, header.seekable) == ("mp4", "h264", 25.0, True)
    assert header.key_frames == (0, 12, 24, 36, 48, 60, 72, 84)
    with open_video(path) as opened:
        assert (opened.name, opened.num_frames, opened.size) == ("pyav_seek", 90, (64, 80))
        assert files.numbers(opened.read([89, 0, 47, 48, 11, 12])) == [89, 0, 47, 48, 11, 12]
        assert files.numbers(opened.read(range(90))) == list(range(90))


def test_uneven_times_stay_and_a_late_start_becomes_zero(files: SimpleNamespace, tmp_path):
    durations = [40, 100, 20, 300, 40, 77, 23]
    source = files.write(str(tmp_path / "a.mkv"), range(8), durations=durations, start=5000)
    path, _ = encoded(source)
    assert times(path) == [Fraction(int(ms), 1000) for ms in np.cumsum([0, *durations])]
    with open_video(path) as opened:
        assert files.numbers(opened.read(range(8))) == list(range(8))


def test_b_frames_in_avi_which_has_no_times_follow_each_other_evenly(files: SimpleNamespace, tmp_path):
    plain = files.write(str(tmp_path / "plain.avi"), range(41), codec="mpeg4", bf=1, g=12, qscale=2)
    source = files.pack(plain, str(tmp_path / "packed.avi"))
    path, found = encoded(source)
    with LinearReader(source) as linear, open_video(path) as opened:
        assert found.num_frames == linear.num_frames == opened.num_frames
        assert files.numbers(opened.read(range(41))) == files.numbers(linear.read(range(41))) == list(range(41))
    assert times(path) == [Fraction(i, 25) for i in range(41)]


def test_a_frame_without_a_time_or_not_after_the_last_one_follows_it_at_the_rate():
    clock = Clock(Fraction(1, 1000), fps=25.0)
    assert [clock(time) for time in (500, 530, None, 580, 100, 700, 700)] == [0, 30, 70, 80, 120, 200, 240]
    without_rate = Clock(Fraction(1, 1000), fps=0.0)
    assert [without_rate(time) for time in (None, None, 9)] == [0, 1, 9]


@pytest.mark.parametrize(
    ("size", "short_side", "reduced"),
    [
        ((1080, 1920), 320, (320, 568)),  # 568.9
        ((1920, 1080), 320, (568, 320)),
        ((240, 320), 320, (240, 320)),
        ((257, 341), 320, (256, 340)),
        ((257, 341), 129, (128, 170)),  # 171.2
        ((1, 3), 320, (2, 2)),
    ],
)
def test_frames_get_smaller_never_larger_and_even(size: tuple[int, int], short_side: int, reduced: tuple[int, int]):
    assert reduced_size(*size, short_side) == reduced


def test_a_large_frame_is_written_at_its_short_side_and_an_odd_one_at_even_sides(files: SimpleNamespace, tmp_path):
    large = files.write(str(tmp_path / "a.mp4"), range(3), size=(96, 130))
    odd = files.write(str(tmp_path / "b.mp4"), range(3), size=(65, 83), pix_fmt="yuv444p")
    for source, size in ((large, (72, 96)), (odd, (64, 82))):  # 130 * 72 / 96 is 97.5
        path, _ = encoded(source, Encoding(short_side=72, gop=2, crf=5))
        with open_video(path) as opened:
            assert opened.size == size


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turns_are_applied_to_the_pixels(turns: int, files: SimpleNamespace):
    frame = av.VideoFrame.from_ndarray(files.frame(37), format="rgb24")
    turned = Pictures(320)(frame, turns).to_ndarray(format="rgb24")
    expected = np.rot90(files.frame(37), turns)
    assert turned.shape == expected.shape
    # Colours have half the resolution: 5 grey levels were seen, 50 with any other number of turns.
    assert np.abs(turned.astype(int) - expected).mean() < 10


def ask_for_a_turn(path: str) -> None:
    """Let an mp4 file say that it is to be shown turned by a quarter."""
    data = bytearray(Path(path).read_bytes())
    at = data.index((1 << 16).to_bytes(4, "big"), data.index(b"tkhd") + 40)  # the matrix of the track
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]  # ISO/IEC 14496-12, 6.2.2
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    Path(path).write_bytes(data)


def test_the_turn_that_a_file_asks_for_is_made_once(files: SimpleNamespace, tmp_path):
    source = files.write(str(tmp_path / "a.mp4"), range(5))
    ask_for_a_turn(source)
    path, _ = encoded(source)
    with LinearReader(source) as old, LinearReader(path) as new:
        assert old.size == new.size == (80, 64)
        assert (old.read([3]).float() - new.read([3]).float()).abs().mean() < 10


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize(("space", "colour_range"), [(1, 1), (1, 2), (5, 1), (9, 1)])
def test_colours_are_read_alike_whatever_matrix_and_range_the_source_states(
    space: int, colour_range: int, turn: bool, tmp_path
):
    source, planes = str(tmp_path / "a.mp4"), np.full((72, 64), 100, np.uint8)
    planes[48:60], planes[60:] = 90, 200  # blue and red differences
    with av.open(source, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = space, colour_range
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.colorspace, frame.color_range = space, colour_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if turn:
        ask_for_a_turn(source)
    path, _ = encoded(source)
    with LinearReader(source) as old, LinearReader(path) as new:
        assert old.size == new.size == ((64, 48) if turn else (48, 64))
        # Of the colour (100, 90, 200) the matrices differ by 10 and more, the ranges by up to 10.
        assert (old.read([1]).int() - new.read([1]).int()).abs().max() <= 2


def test_sound_is_left_out(files: SimpleNamespace, tmp_path):
    source = str(tmp_path / "a.mp4")
    with av.open(source, "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=16000)
        video.height, video.width, video.pix_fmt = files.height, files.width, "yuv420p"
        for number in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(files.frame(number), format="rgb24")))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16000, 1024 * number
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    path, _ = encoded(source)
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_of_a_damaged_source_all_frames_that_can_be_read_are_kept_and_the_damage_is_told(
    files: SimpleNamespace, tmp_path
):
    source = files.write(str(tmp_path / "a.avi"), range(60), codec="mpeg4", g=12)
    data = Path(source).read_bytes()
    Path(source).write_bytes(data[: len(data) // 2])
    path, found = encoded(source)
    with LinearReader(source) as linear, open_video(path) as opened:
        assert 0 < linear.num_frames < 60
        assert found.num_frames == linear.num_frames == opened.num_frames
    assert f"it ends after {found.num_frames} of 60 promised frames" in found.damaged


def test_a_new_file_with_another_number_of_frames_is_an_error_that_names_the_source(
    closed_groups: str, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    survey = module.survey
    lacking = SimpleNamespace(damaged="", num_frames=89)
    monkeypatch.setattr(module, "survey", lambda path: lacking if survey(path).num_frames == 90 else None)
    told = rf"{closed_groups}: cannot decode: the file encoded from it is not right: it has 89 frames, not 90"
    with pytest.raises(DecodeError, match=told):
        list(encode(closed_groups, str(tmp_path / "new.mp4"), FINE))


def test_a_source_without_frames_is_a_decode_error_and_a_place_that_cannot_be_written_an_os_error(
    closed_groups: str, tmp_path
):
    (tmp_path / "page.mp4").write_text("<html>")
    with pytest.raises(DecodeError, match=r"page\.mp4: cannot open"):
        list(encode(str(tmp_path / "page.mp4"), str(tmp_path / "new.mp4"), FINE))
    with pytest.raises(OSError, match="No such file or directory") as caught:
        list(encode(closed_groups, str(tmp_path / "absent/new.mp4"), FINE))
    assert caught.value.filename == str(tmp_path / "absent/new.mp4")
