"""PyAV, which else only encode.py imports: the header check, the linear reader that is exact everywhere, the writer."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import torch
from av import library_versions
from av.video.reformatter import VideoReformatter
from torch import Tensor

from tubelet.video.bitstream import shows_one, starts_afresh
from tubelet.video.header import Header
from tubelet.video.index import Known
from tubelet.video.reader import DecodeError, Reader, check_indices
from tubelet.video.scaling import scaled_size

logging.getLogger("libav").setLevel(logging.CRITICAL)  # reasons reach the user through DecodeError, once

CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska"}
KEPT_BYTES = 256 * 2**20  # a file whose decoded frames fit in this is decoded once, a larger one twice
NOT_BY_DECORD = {16, 24, 48, 72}  # pixels: it opens pictures that wide, but fails to read them; heights after turning
Opened = tuple[av.container.InputContainer, av.VideoStream]
Frame = av.VideoFrame


def pyav_version() -> str:
    return f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, library_versions['libavcodec']))}"


@contextmanager
def open_stream(path: str, strict: bool = False) -> Iterator[Opened]:
    """The file and its best video stream; every error of opening or decoding becomes a DecodeError.

    strict: also what a decoder would conceal otherwise, by parts of other frames
    """
    stage = "open"
    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise DecodeError(path, "open", "the file has no video stream")
            if stream.codec_context is None:
                raise DecodeError(path, "open", "FFmpeg, as built into PyAV, has no decoder for its codec")
            stream.thread_type = "NONE"  # decoder threads beside worker processes cost time, and can deadlock
            if strict:
                stream.codec_context.options = {"err_detect": "explode"}
            stage = "decode"
            yield container, stream
    except DecodeError:
        raise
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise DecodeError(path, stage, getattr(error, "strerror", None) or str(error)) from error


def read_header(path: str, timed: bool = False) -> Header:
    """Walk the packets of a file, up to the first one that is not `timed`. Raises DecodeError.

    timed: each is known to show one frame, so that only key frames are looked into, which takes half of the time
    """
    with open_stream(path) as (container, stream):
        times, key_times, afresh = _walk(container, stream, timed)
        shown = sorted(times)
        numbers = {time: number for number, time in enumerate(shown)}
        name = container.format.name
        return Header(
            container=CONTAINERS.get(name, name),
            codec=stream.codec_context.name,
            fps=_fps(stream),
            timed=bool(times),
            seekable=bool(times) and afresh,
            plain=len(container.streams.video) == 1 and not {stream.width, stream.height} & NOT_BY_DECORD,
            times=tuple(shown),
            key_frames=tuple(sorted(numbers[time] for time in key_times)),
        )


def _walk(
    container: av.container.InputContainer, stream: av.VideoStream, timed: bool
) -> tuple[list[int], list[int], bool]:
    """Times of all packets and of the key frames, as they follow in the file; whether each key frame starts afresh.

    The lists are empty where packets are not as `Header.timed` says.
    """
    codec, extra = stream.codec_context.name, stream.codec_context.extradata or b""
    times, key_times, afresh = [], [], True
    for packet in container.demux(stream):
        if not packet.size:
            continue
        data = bytes(packet) if packet.is_keyframe or not timed else b""
        shown = timed or shows_one(codec, data, stream.width * stream.height)
        if packet.pts is None or packet.is_discard or packet.is_corrupt or not shown:
            return [], [], False
        times.append(packet.pts)
        if packet.is_keyframe:
            key_times.append(packet.pts)
            afresh = afresh and starts_afresh(codec, extra, data)
    promised = stream.frames or len(times)  # 0 where the file does not say
    first = times[0] if times and key_times[:1] == times[:1] else None
    if first is None or first != min(times) or len(set(times)) != promised or len(times) != promised:
        return [], [], False
    return times, key_times, afresh


def _fps(stream: av.VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else 0.0


@contextmanager
def open_watched(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream, list[tuple[int, str, str]]]]:
    """The file, its best video stream, and (level, source, text) of what libav logs as errors from now on."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else a line is lost that is the last one of the file before
    try:
        with av.logging.Capture(local=True) as logged, open_stream(path) as (container, stream):
            yield container, stream, logged
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


class PyavReader(Reader):
    """What the reader below and the one that seeks (seeking.py) share: pictures from frames."""

    def __init__(self, path: str, short_side: int | None):
        self.path, self.short_side = path, short_side
        self._converter = VideoReformatter()  # one for all frames: setting it up costs more than a small frame

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, C), turned as the file asks for: unlike decord, PyAV leaves that to its caller."""
        turns = round(frame.rotation / 90) % 4  # counterclockwise quarter turns
        height, width = scaled_size(frame.height, frame.width, self.short_side)
        # One thread, as for decoding: PyAV would take all cores, which costs more than it saves.
        image = self._converter.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, turns))

    def stack(self, images: Mapping[int, np.ndarray], indices: Sequence[int]) -> Tensor:
        """Pictures by their number -> uint8 (T, C, H, W)."""
        try:
            frames = np.stack([images[int(i)] for i in indices])  # (T, H, W, C)
        except ValueError as error:
            raise DecodeError(self.path, "decode", "the frame size changes within the file") from error
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


class LinearReader(PyavReader):
    """Decodes from the first frame on and never seeks: exact on every file, and the reference in the tests.

    Where no entry of the index tells it, the number of frames is known only after decoding all of them. Frames of a
    small file are kept while counting (not yet converted to RGB, so cheaply), a large file is decoded again for the
    frames wanted. With an entry, decoding ends at the last frame wanted.
    """

    name = "pyav"

    def __init__(self, path: str, known: Known | None = None, short_side: int | None = None):
        super().__init__(path, short_side)
        self._kept: list[av.VideoFrame] | None = None
        if known is not None:
            self.num_frames, self.fps = known.num_frames, known.fps
        else:
            self._count()

    def _count(self) -> None:
        self._kept = []
        self.num_frames, num_bytes = 0, 0
        for frame in self._frames():
            self.num_frames += 1
            num_bytes += sum(plane.buffer_size for plane in frame.planes)
            if num_bytes > KEPT_BYTES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(frame)
        if not self.num_frames:
            raise DecodeError(self.path, "decode", "the video stream holds no frame")

    def _frames(self) -> Iterator[av.VideoFrame]:
        with open_stream(self.path) as (container, stream):
            self.fps = _fps(stream)
            yield from container.decode(stream)

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers -> uint8 RGB (T, C, H, W)."""
        check_indices(self.path, indices, self.num_frames)
        wanted = {int(i) for i in indices}
        images: dict[int, np.ndarray] = {}
        for i, frame in enumerate(self._frames() if self._kept is None else self._kept):
            if i in wanted:
                images[i] = self.to_rgb(frame)
            if len(images) == len(wanted):
                break
        if len(images) < len(wanted):
            raise DecodeError(self.path, "decode", f"it ends before frame {max(wanted)} of {self.num_frames}")
        return self.stack(images, indices)

    def close(self) -> None:
        self._kept = None


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
