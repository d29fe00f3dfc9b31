"""The only file that imports PyAV: the header check, the linear reader that is exact on every file, and the writer."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from tubelet.video.reader import DecodeError, check_indices

logging.getLogger("libav").setLevel(logging.CRITICAL)  # reasons reach the user through DecodeError, once

CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska"}
KEPT_BYTES = 256 * 2**20  # a file whose decoded frames fit in this is decoded once, a larger one twice
IDR, SLICE = 5, 1  # H.264 unit types, ITU-T H.264 table 7-1
NOT_BY_DECORD = {16, 24, 48, 72}  # pixels: it opens pictures that wide, but fails to read them; heights after turning
VP8_SHOW_FRAME = 0x10  # bit of a packet's first byte, RFC 6386 section 9.1; clear in frames that are only referred to


@dataclass(frozen=True)
class Header:
    """What the packets of a file say without decoding. A few milliseconds for a ten-second clip."""

    container: str
    codec: str
    num_packets: int
    num_pixels: int  # of all frames
    fps: float
    seekable: bool  # each packet shows one frame, at a time of its own, and each key frame starts afresh


@contextmanager
def _open(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The file and its best video stream; every error of opening or decoding becomes a DecodeError."""
    stage = "open"
    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise DecodeError(path, "open", "the file has no video stream")
            stream.thread_type = "NONE"  # decoder threads beside worker processes cost time, and can deadlock
            stage = "decode"
            yield container, stream
    except DecodeError:
        raise
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise DecodeError(path, stage, getattr(error, "strerror", None) or str(error)) from error


def read_header(path: str) -> Header:
    """Walk the packets of a file. Raises DecodeError."""
    with _open(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = {packet.pts for packet in packets}
        codec = stream.codec_context.name
        starts_afresh = all(_is_idr(packet, stream) for packet in packets if packet.is_keyframe) or codec != "h264"
        one_frame_each = None not in times and len(times) == len(packets) and not any(p.is_discard for p in packets)
        shown = codec != "vp8" or all(memoryview(packet)[0] & VP8_SHOW_FRAME for packet in packets)
        sized = not {stream.width, stream.height} & NOT_BY_DECORD
        alone = len(container.streams.video) == 1  # of several streams, decord and PyAV may choose another one
        seekable = (
            bool(packets) and packets[0].is_keyframe and one_frame_each and starts_afresh and shown and alone and sized
        )
        name = container.format.name
        num_pixels = len(packets) * stream.width * stream.height
        return Header(CONTAINERS.get(name, name), codec, len(packets), num_pixels, _fps(stream), seekable)


def _is_idr(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether an H.264 key frame cuts all references to frames before it; in an open group of pictures it does not."""
    extra = stream.codec_context.extradata or b""
    if len(extra) < 5 or extra[0] != 1:
        return False  # not the length-prefixed layout of mp4 and Matroska: not proven, so no seeking
    width, data, at = (extra[4] & 3) + 1, bytes(packet), 0
    while at + width < len(data):
        kind = data[at + width] & 31
        if kind in (IDR, SLICE):
            return kind == IDR
        at += width + int.from_bytes(data[at : at + width], "big")
    return False


def _fps(stream: av.VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else 0.0


class LinearReader:
    """Decodes from the first frame on and never seeks: exact on every file, and the reference in the tests.

    The number of frames is known only after decoding all of them. Frames of a small file are kept while counting (not
    yet converted to RGB, so cheaply), a large file is decoded again for the frames wanted.
    """

    name = "pyav"

    def __init__(self, path: str):
        self._path = path
        self._kept: list[av.VideoFrame] | None = []
        self._converter = VideoReformatter()  # one for all frames: setting it up costs more than a small frame
        self.num_frames, num_bytes = 0, 0
        for frame in self._frames():
            self.num_frames += 1
            num_bytes += sum(plane.buffer_size for plane in frame.planes)
            if num_bytes > KEPT_BYTES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(frame)
        if not self.num_frames:
            raise DecodeError(path, "decode", "the video stream holds no frame")

    def _frames(self) -> Iterator[av.VideoFrame]:
        with _open(self._path) as (container, stream):
            self.fps = _fps(stream)
            yield from container.decode(stream)

    @property
    def size(self) -> tuple[int, int]:
        """Height, width in pixels."""
        _, _, height, width = self.read([0]).shape
        return height, width

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers -> uint8 RGB (T, C, H, W)."""
        check_indices(self._path, indices, self.num_frames)
        wanted = {int(i) for i in indices}
        images: dict[int, np.ndarray] = {}
        for i, frame in enumerate(self._frames() if self._kept is None else self._kept):
            if i in wanted:
                images[i] = self._to_rgb(frame)
            if len(images) == len(wanted):
                break
        try:
            frames = np.stack([images[int(i)] for i in indices])  # (T, H, W, C)
        except ValueError as error:
            raise DecodeError(self._path, "decode", "the frame size changes within the file") from error
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, C), turned as the file asks for: unlike decord, PyAV leaves that to its caller."""
        turns = round(frame.rotation / 90) % 4  # counterclockwise quarter turns
        image = self._converter.reformat(frame, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(image, turns))

    def close(self) -> None:
        self._kept = None

    def __enter__(self) -> "LinearReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def write_video(path: str, frames: Iterable[np.ndarray], fps: int, codec: str = "libx264", **options: str) -> None:
    """uint8 RGB frames (H, W, C) -> one file. `options` are the encoder's own, such as qp="18".

    The file gets its name only when it is complete, so an interrupted call leaves none.
    """
    partial = f"{path}.partial"
    with av.open(partial, "w", format=os.path.splitext(path)[1].lstrip(".").replace("mkv", "matroska")) as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.thread_type = "NONE"
        for i, image in enumerate(frames):
            if i == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(partial, path)
