"""A video written anew so that a training clip of it is cheap to read: H.264 in mp4, small, with many key frames.

Every frame of the source is kept, and shown when it was. Frames refer to earlier ones only, and to none before the
last key frame, so that every reader seeks exactly. Beside pyav.py, only this file imports PyAV.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from tubelet.video.pyav import read_header
from tubelet.video.reader import DecodeError
from tubelet.video.survey import Watched, survey

BEAT = 50  # frames after which the caller hears of it
GBR, BT601 = 0, 5  # matrices of ITU-T H.273: what RGB pictures state, and by which they are converted here


@dataclass(frozen=True)
class Encoding:
    """short_side: pixels; larger frames get this size, smaller ones keep theirs
    gop: frames from one key frame to the next
    crf: constant rate factor of x264, 1 to 51: smaller is nearer to the source, and takes more bytes
    """

    short_side: int
    gop: int
    crf: int

    def options(self) -> dict[str, str]:
        """Of x264. fastdecode leaves out what is dear to decode: CABAC and the deblocking filter."""
        own = {"g": str(self.gop), "crf": str(self.crf), "bf": "0", "sc_threshold": "0"}
        return {"preset": "veryfast", "tune": "fastdecode", "threads": "1", **own}


@dataclass(frozen=True)
class Encoded:
    """num_frames: of the source by linear reading, and of the new file
    num_bytes: of the new file
    damaged: what the decoder complained about in the source; empty for a sound one
    seconds: of CPU that it took
    """

    num_frames: int
    num_bytes: int
    damaged: str
    seconds: float


def encode(source: str, target: str, encoding: Encoding) -> Iterator[int | Encoded]:
    """Write `target`; gives the number of frames so far now and then, and at last what became of them.

    The new file has been read from start to end, and is on the disk, when that comes.
    Raises DecodeError where the source cannot be read or encoded, OSError where the target cannot be written.
    """
    begun, watched = time.process_time(), Watched(source)
    try:
        yield from _write(watched, target, encoding)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from error
    except av.FFmpegError as error:
        raise DecodeError(source, "decode", f"the encoder refuses its frames: {error}") from error
    found = survey(target)
    if found.damaged or found.num_frames != len(watched.sizes) or not read_header(target).seekable:
        told = found.damaged or f"it has {found.num_frames} frames, not {len(watched.sizes)}, or no exact key frames"
        raise DecodeError(source, "decode", f"the file encoded from it is not right: {told}")
    with open(target, "rb") as written:
        os.fsync(written.fileno())
    seconds = time.process_time() - begun
    yield Encoded(found.num_frames, os.path.getsize(target), watched.damaged, seconds)


def _write(watched: Watched, target: str, encoding: Encoding) -> Iterator[int]:
    fps, pictures = read_header(watched.path).fps, Pictures(encoding.short_side)
    stream = None
    with av.open(target, "w", format="mp4") as container:
        for number, frame in enumerate(watched):
            picture = pictures(frame, watched.turns)
            if stream is None:
                clock = Clock(frame.time_base, fps)
                stream = _stream(container, frame, picture, fps, encoding)
            picture.pts, picture.time_base = clock(None if watched.untimed else frame.pts), frame.time_base
            container.mux(stream.encode(picture))  # which scales a frame of another size than the first
            if number % BEAT == 0:
                yield number
        assert stream is not None  # a source without frames has raised
        container.mux(stream.encode(None))


def _stream(
    container: av.container.OutputContainer,
    frame: av.VideoFrame,
    picture: av.VideoFrame,
    fps: float,
    encoding: Encoding,
) -> av.VideoStream:
    """frame: the first of the source, which tells of times and colours; picture: made of it"""
    assert frame.time_base is not None
    rate = Fraction(fps).limit_denominator(10**6) if fps else Fraction(1 / frame.time_base)
    stream = container.add_stream("libx264", rate=rate, options=encoding.options())
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width, stream.pix_fmt = picture.height, picture.width, "yuv420p"
    context = stream.codec_context
    context.time_base, context.thread_count = frame.time_base, 1
    context.colorspace = BT601 if frame.colorspace == GBR else frame.colorspace
    context.color_range = picture.color_range
    return stream


class Pictures:
    """Frames as they are encoded: yuv420p, turned as the file asks for, scaled down, with even sides."""

    def __init__(self, short_side: int):
        self.short_side, self._converter = short_side, VideoReformatter()

    def __call__(self, frame: av.VideoFrame, turns: int) -> av.VideoFrame:
        """turns: counterclockwise quarter turns"""
        height, width = reduced_size(frame.height, frame.width, self.short_side)
        picture = self._converter.reformat(frame, width, height, format="yuv420p", interpolation="BICUBIC")
        return turned(picture, turns) if turns else picture


def turned(picture: av.VideoFrame, turns: int) -> av.VideoFrame:
    """A yuv420p picture with even sides, turned plane by plane: by way of RGB its matrix would be lost.

    turns: counterclockwise quarter turns
    """
    height, width, planes = picture.height, picture.width, picture.to_ndarray()  # (h * 3 / 2, w)
    colours = planes[height:].reshape(2, height // 2, width // 2)
    parts = [np.rot90(plane, turns).flatten() for plane in (planes[:height], *colours)]
    width = height if turns % 2 else width
    found = av.VideoFrame.from_ndarray(np.concatenate(parts).reshape(-1, width), format="yuv420p")
    found.colorspace, found.color_range = picture.colorspace, picture.color_range
    return found


def reduced_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height, width: both even, as pictures with half as many colours must be, and never enlarged but from 1 to 2."""
    short = min(height, width)
    scale = Fraction(min(short_side, short), short)
    return max(int(height * scale) // 2 * 2, 2), max(int(width * scale) // 2 * 2, 2)


class Clock:
    """When frames are shown: as in the source, but from 0 on, and always after the frame before.

    A frame without a time of its own, as in AVI with B-frames, follows the one before it at the rate of the file.
    """

    def __init__(self, unit: Fraction | None, fps: float):
        self.step = max(round(1 / (fps * unit)), 1) if fps and unit else 1
        self.last = self.first = -1

    def __call__(self, time: int | None) -> int:
        if self.last < 0:
            self.first, self.last = time or 0, 0
            return 0
        shown = self.last if time is None else time - self.first
        self.last = shown if shown > self.last else self.last + self.step
        return self.last
