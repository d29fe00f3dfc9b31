"""Small generated videos in which every frame shows its number, so that a test can read which frames it was given."""

import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from torch import Tensor

from tubelet.video.annotations import Video

HEIGHT, WIDTH, FPS = 64, 80, 25  # not 48 or 72: decord misjudges the lines of such narrow pictures, and raises
NUM_BITS = 8  # of a frame number, as bright or dark blocks in two rows of four


def _block(bit: int, margin: int = 0) -> tuple[slice, slice]:
    row, column = divmod(bit, 4)
    top, left = 8 + 28 * row, 3 + 19 * column
    return slice(top + margin, top + 20 - margin), slice(left + margin, left + 16 - margin)


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 RGB (H, W, C): the number in blocks, over a ground that moves, so that frames refer to one another."""
    down, across = np.mgrid[:height, :width]
    ground = np.stack([2 * across + 5 * number, 3 * down + 3 * number, 2 * (across + down) - 4 * number], axis=-1)
    image = 60 + (ground % 256) * 0.4
    for bit in range(NUM_BITS):
        image[_block(bit)] = 235 if number >> bit & 1 else 20
    return image.astype(np.uint8)


def read_numbers(frames: Tensor) -> list[int]:
    """uint8 (T, C, H, W) -> the T numbers shown."""
    images = frames.permute(0, 2, 3, 1).numpy()  # (T, H, W, C)
    return [sum(int(image[_block(bit, margin=3)].mean() > 128) << bit for bit in range(NUM_BITS)) for image in images]


def write_numbered(
    path: str,
    numbers: Iterable[int],
    codec: str = "libx264",
    container: str | None = None,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (HEIGHT, WIDTH),
    durations: Iterable[int] | None = None,
    start: int = 0,
    **options: str,
) -> str:
    """One file, a frame for each number; `durations`, from `start` on, are milliseconds, for an uneven frame rate."""
    with av.open(path, "w", format=container) as output:
        stream = output.add_stream(
            codec, rate=Fraction(FPS), options={key: str(value) for key, value in options.items()}
        )
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        times = None
        if durations is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
            times = iter(np.cumsum([start, *durations]).tolist())
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = next(times), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def copy_packets(
    source: str,
    target: str,
    change: Callable[[int, av.Packet], av.Packet | None] = lambda _, packet: packet,
    **options: str,
) -> str:
    """The video stream of a file, without encoding it again; `change` gets each packet and its place, None drops it."""
    with av.open(source) as opened, av.open(target, "w", options=options) as output:
        stream = output.add_stream_from_template(opened.streams.video[0])
        packets = (packet for packet in opened.demux(opened.streams.video[0]) if packet.size)
        for place, packet in enumerate(packets):
            changed = change(place, packet)
            if changed is not None:
                changed.stream = stream
                output.mux(changed)
    return target


def pack_b_frames(source: str, target: str) -> str:
    """An AVI of MPEG-4 with single B-frames -> one as DivX wrote them, a P- and a B-frame in one packet.

    The packet that was the B-frame's holds a picture that is not coded; the decoder is told by the encoder's name.
    """
    told, not_coded = b"\x00\x00\x01\xb2DivX503b1393p", b"\x00\x00\x01\xb6\x50\x00\x7f"
    with av.open(source) as opened:
        packets = [bytes(packet) for packet in opened.demux(opened.streams.video[0]) if packet.size]
    kinds = [data[data.index(b"\x00\x00\x01\xb6") + 4] >> 6 for data in packets]  # 0 I, 1 P, 2 B

    def pack(place: int, packet: av.Packet) -> av.Packet:
        data = packets[place]
        if kinds[place] == 2:
            data = not_coded
        elif kinds[place + 1 : place + 2] == [2]:
            data += packets[place + 1]
        if kinds[place] == 0:
            picture = data.index(b"\x00\x00\x01\xb6")
            data = data[:picture] + told + data[picture:]
        packed = av.Packet(data)
        packed.pts = packed.dts = packet.dts
        packed.time_base, packed.is_keyframe = packet.time_base, packet.is_keyframe
        return packed

    return copy_packets(source, target, pack)


@pytest.fixture(scope="session")
def files() -> SimpleNamespace:
    """The functions above, for the tests, which cannot import this file."""
    return SimpleNamespace(
        write=write_numbered,
        numbers=read_numbers,
        frame=numbered_frame,
        copy=copy_packets,
        pack=pack_b_frames,
        height=HEIGHT,
        width=WIDTH,
    )


@pytest.fixture(scope="session")
def closed_groups(tmp_path_factory: pytest.TempPathFactory) -> str:
    """H.264 in mp4, 90 frames, closed groups of 24 with B-frames: the kind of file in which decord may seek."""
    path = str(tmp_path_factory.mktemp("closed") / "closed.mp4")
    return write_numbered(path, range(90), **{"x264-params": "keyint=24:bframes=3:b-pyramid=normal:scenecut=0"})


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Six videos of 20 frames, of labels 0, 1, 2, 0, 1, 2; frame f of video v shows the number 32 * v + f."""
    folder = tmp_path_factory.mktemp("videos")
    paths = [os.path.join(folder, f"{v}.mp4") for v in range(6)]
    return [Video(write_numbered(path, range(32 * v, 32 * v + 20)), v % 3) for v, path in enumerate(paths)]
