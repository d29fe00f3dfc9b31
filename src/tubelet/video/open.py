"""Opening a video file with whichever decoder reads that file exactly."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tubelet.video.decord import SeekingReader, has_decord
from tubelet.video.frames import FramesReader, check_names
from tubelet.video.header import Header
from tubelet.video.index import Known
from tubelet.video.pyav import LinearReader, read_header
from tubelet.video.reader import DecodeError, Reader
from tubelet.video.seeking import KeyFrameReader
from tubelet.video.time_limit import within
from tubelet.video.torchcodec import TorchcodecReader, decoder_class

READERS = ("auto", "pyav", "pyav_seek", "decord", "torchcodec", "frames")
# (container, codec) pairs in which a reader's seeking proved equal to linear reading, by tests/video/test_readers.py,
# provided that the header check of each file holds (see `Header.seekable`). All else is read from its first frame on.
PROVEN = {("mp4", "h264"), ("matroska", "h264"), ("matroska", "vp9"), ("matroska", "vp8")}
HEVC = {("mp4", "hevc"), ("matroska", "hevc")}
EXACT_SEEK = {
    "pyav_seek": PROVEN | HEVC | {("avi", "mpeg4")},
    "decord": PROVEN,
    "torchcodec": PROVEN | HEVC,
}
# Where an entry of the index may say that seeking is exact: others give no time to each frame that could be relied on.
CONTAINERS = {
    "pyav_seek": {"mp4", "matroska", "avi"},
    "decord": {"mp4", "matroska", "avi"},
    "torchcodec": {"mp4", "matroska"},
}


@dataclass(frozen=True)
class ReadOptions:
    """How files are read, beside the reader.

    short_side: pixels; frames with a short side of more than twice that come scaled to it; None: never scaled
    time_limit: seconds for one video
    frame_names, first_frame: of folders of frames, see `FramesReader`
    """

    short_side: int | None = None
    time_limit: float = 20.0
    frame_names: str | None = None
    first_frame: int | None = None


DEFAULTS = ReadOptions()


def check_reader(reader: str, options: ReadOptions) -> None:
    """Raises ValueError where the settings are not right, or the reader is not installed."""
    _check_name(reader)
    if not 0 < options.time_limit < math.inf:
        raise ValueError(f"data.time_limit={options.time_limit} is not a positive number of seconds")
    check_names(options.frame_names)
    first = options.first_frame
    if first is not None and (type(first) is not int or first < 0):
        raise ValueError(f"data.first_frame={first} is not a whole number of at least 0")
    if reader == "torchcodec":
        decoder_class()
    if reader == "decord" and not has_decord():
        raise ValueError("data.reader=decord: decord is not installed; data.reader=auto does without it")


def _check_name(reader: str) -> None:
    if reader not in READERS:
        raise ValueError(f"data.reader={reader} is unknown; the readers are {', '.join(READERS)}")


def open_video(path: str, reader: str = "auto", known: Known | None = None, options: ReadOptions = DEFAULTS) -> Reader:
    """Open a file with `auto` (PyAV, seeking where that is proven exact; a folder as frames), or with the reader named.

    known: from the index; left aside where the file has changed since
    Raises DecodeError, also where a seeking reader is asked for and would not be exact.
    """
    _check_name(reader)
    if reader == "frames" or (reader == "auto" and os.path.isdir(path)):
        return FramesReader(path, options.frame_names, options.first_frame, options.short_side)
    known = known if known is not None and known.tells_of(path) else None
    if reader == "pyav" or (reader == "auto" and known and not _worth_seeking(known)):
        return LinearReader(path, known, options.short_side)
    seeking = "pyav_seek" if reader == "auto" else reader
    header = read_header(path, timed=known is not None and known.exact.get("pyav_seek", False))
    if _exact(seeking, header, known):
        opened = open_seeking(path, seeking, header, options.short_side)
        if opened.num_frames == len(header.times):
            return opened
        opened.close()
    if reader == "auto":
        return LinearReader(path, known, options.short_side)
    kind = f"{header.container}/{header.codec}"
    raise DecodeError(path, "open", f"{reader}'s seeking is not proven exact in this {kind} file; use data.reader=auto")


def open_seeking(path: str, reader: str, header: Header, short_side: int | None = None) -> Reader:
    """Open a file with a reader that seeks, whether or not it is exact there. Raises DecodeError."""
    if reader == "pyav_seek":
        return KeyFrameReader(path, header, short_side)
    if reader == "decord":
        return SeekingReader(path, header.fps, short_side)
    return TorchcodecReader(path, header.fps, short_side)


def may_seek(reader: str, header: Header) -> bool:
    """Whether an entry of the index may say of this file that the reader's seeking is exact."""
    return header.timed and header.container in CONTAINERS[reader]


def _exact(reader: str, header: Header, known: Known | None) -> bool:
    proven = (header.container, header.codec) in EXACT_SEEK[reader] and header.seekable
    if reader != "pyav_seek":  # some frames of a file prove nothing of the others here: an index can only forbid
        return proven and header.plain and (known is None or known.exact.get(reader, True))
    if known is not None and reader in known.exact:
        return known.exact[reader] and known.num_frames == len(header.times) and may_seek(reader, header)
    return proven


def _worth_seeking(known: Known) -> bool:
    """Whether seeking is known to be exact, which in H.264 also leaves out frames; else whether there is where to."""
    return known.exact.get("pyav_seek", known.has_keys)


def read_clips(
    path: str, choose: Callable[[int, float], Tensor], reader: str, known: Known | None, options: ReadOptions
) -> tuple[Tensor, str]:
    """(K, T) frame numbers, chosen from the number and the rate of frames -> uint8 (K, T, C, H, W), decoded once.

    The second that is returned is the name of the reader.

    Raises DecodeError, also where that takes longer than `options.time_limit`.
    """

    def read() -> tuple[Tensor, str]:
        with open_video(path, reader, known, options) as opened:
            clips = choose(opened.num_frames, opened.fps)
            return opened.read(clips.flatten().tolist()).unflatten(0, clips.shape), opened.name

    return within(options.time_limit, path, read)
