"""Files that another program has cut, rearranged or turned: the frames that a player would show, and no others."""

import struct
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch

from tubelet.video.decord import SeekingReader
from tubelet.video.open import open_video
from tubelet.video.reader import DecodeError

FPS = 25


@pytest.mark.parametrize("options", [{"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
@pytest.mark.parametrize("reader", ["pyav_seek", "decord"])
def test_readers_seek_in_a_file_with_its_index_in_front_or_in_fragments(
    reader: str, options: dict[str, str], closed_groups: str, files: SimpleNamespace, tmp_path: Path
):
    path = files.copy(closed_groups, str(tmp_path / "a.mp4"), **options)
    for index in (0, 37, 61, 89):
        with open_video(path, reader) as opened:
            assert (opened.name, opened.num_frames) == (reader, 90)
            assert files.numbers(opened.read([index])) == [index]


@pytest.fixture
def cut(closed_groups: str, files: SimpleNamespace, tmp_path: Path) -> str:
    """An mp4 cut at frame 30 without encoding it again: it holds the group from frame 24 on, and an edit list."""
    with av.open(closed_groups) as source:
        packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size]
        first = sorted(packet.pts for packet in packets)[30]
        key = max(i for i, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= first)

    def shift(place: int, packet: av.Packet) -> av.Packet | None:
        packet.pts, packet.dts = packet.pts - first, packet.dts - first
        return packet if place >= key else None

    return files.copy(closed_groups, str(tmp_path / "cut.mp4"), shift)


def test_frames_that_an_edit_list_hides_are_not_counted_and_not_given(cut: str, files: SimpleNamespace):
    for reader in ("auto", "pyav"):
        with open_video(cut, reader) as opened:
            assert opened.name == "pyav"
            assert opened.num_frames == 60
            assert files.numbers(opened.read(range(60))) == list(range(30, 90))
            assert files.numbers(opened.read([59, 0, 17])) == [89, 30, 47]
    with pytest.raises(DecodeError, match="not proven exact"):
        open_video(cut, "decord")


def test_decord_without_our_check_counts_the_frames_that_an_edit_list_hides(cut: str):
    assert SeekingReader(cut, FPS).num_frames > 60


# 3x3 matrices of the track header, ISO/IEC 14496-12 section 6.2.2: a point (p, q), q downwards, is shown at
# (a p + c q, b p + d q). For (0, 1, -1, 0) that is (-q, p): right becomes down, a quarter turn clockwise.
MATRICES = {
    "a quarter turn clockwise": ((0, 1, -1, 0), -1),
    "half a turn": ((-1, 0, 0, -1), 2),
    "a quarter turn counterclockwise": ((0, -1, 1, 0), 1),
}


@pytest.mark.parametrize("turn", MATRICES)
def test_pictures_are_turned_as_the_file_asks(turn: str, closed_groups: str, files: SimpleNamespace, tmp_path: Path):
    (a, b, c, d), quarters = MATRICES[turn]
    data = bytearray(Path(closed_groups).read_bytes())
    at = data.index(b"tkhd") + 44  # the matrix, past the name and ten fields of the box of version 0
    assert struct.unpack_from(">9i", data, at) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    with open_video(closed_groups, "pyav") as upright:
        expected = torch.rot90(upright.read([3, 70, 41]), quarters, (2, 3))  # counterclockwise, as np.rot90
    for reader in ("pyav", "pyav_seek", "decord"):
        with open_video(str(turned), reader) as opened:
            assert opened.name == reader
            assert opened.size == expected.shape[-2:]
            # decord turns before it converts to RGB, PyAV after: half a grey level apart.
            assert (opened.read([3, 70, 41]).float() - expected.float()).abs().mean() < 3


def test_auto_is_exact_where_some_packets_of_vp8_show_no_picture(files: SimpleNamespace, tmp_path: Path):
    # Such packets (alternate references) come from encoders that look ahead. Bit 4 of the first byte is `show_frame`,
    # RFC 6386 section 9.1; we clear it in every tenth packet.
    def hide(place: int, packet: av.Packet) -> av.Packet:
        if place % 10 != 5:
            return packet
        data = bytes(packet)
        hidden = av.Packet(bytes([data[0] & ~0x10]) + data[1:])
        hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
        hidden.is_keyframe = packet.is_keyframe
        return hidden

    whole = files.write(str(tmp_path / "whole.webm"), range(90), "libvpx", **{"g": "24", "cpu-used": "8"})
    path = files.copy(whole, str(tmp_path / "hidden.webm"), hide)
    shown = [number for number in range(90) if number % 10 != 5]
    with open_video(path, "pyav") as opened:
        assert files.numbers(opened.read(range(opened.num_frames))) == shown
    with open_video(path) as opened:
        assert opened.num_frames == len(shown)
        assert files.numbers(opened.read(range(opened.num_frames))) == shown


def test_auto_reads_the_same_one_of_two_video_streams_as_linear_reading(files: SimpleNamespace, tmp_path: Path):
    path = str(tmp_path / "two.mp4")
    with av.open(path, "w") as output:
        streams = [output.add_stream("libx264", rate=FPS) for _ in range(2)]
        for stream, (height, width) in zip(streams, ((64, 80), (96, 128)), strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(40):
            for stream, shown in zip(streams, (number, 100 + number), strict=True):
                frame = av.VideoFrame.from_ndarray(files.frame(shown, stream.height, stream.width), format="rgb24")
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    with open_video(path, "pyav") as linear, open_video(path) as auto:
        indices = [3, 17, 39]
        assert auto.size == linear.size
        assert files.numbers(auto.read(indices)) == files.numbers(linear.read(indices))
