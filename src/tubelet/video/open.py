"""Opening a video file with whichever decoder reads that file exactly."""

from tubelet.video.decord import SeekingReader
from tubelet.video.pyav import Header, LinearReader, read_header
from tubelet.video.reader import DecodeError, Reader

READERS = ("auto", "decord", "pyav")
# (container, codec) pairs in which decord's seeking proved equal to linear reading, by tests/video/test_readers.py,
# provided that the header check of each file holds (see `Header.seekable`). All else is read from its first frame on.
EXACT_SEEK = {("mp4", "h264"), ("matroska", "h264"), ("matroska", "vp9"), ("matroska", "vp8")}
SEEK_PAYS = 8_000_000  # decoded pixels: below, reading the whole file costs less than decord's start (about 10 ms)


def open_video(path: str, reader: str = "auto") -> Reader:
    """Open a file with `auto` (decord where its seeking is proven exact and pays, else PyAV), `decord` or `pyav`.

    Raises DecodeError, also where decord is asked for and would not be exact.
    """
    if reader not in READERS:
        raise ValueError(f"data.reader={reader} is unknown; the readers are {', '.join(READERS)}")
    if reader == "pyav":
        return LinearReader(path)
    header = read_header(path)
    exact = (header.container, header.codec) in EXACT_SEEK and header.seekable
    if exact and (reader == "decord" or header.num_pixels > SEEK_PAYS):
        opened = _seeking(path, header)
        if opened is not None:
            return opened
    if reader == "decord":
        pair = f"{header.container}/{header.codec}"
        raise DecodeError(
            path, "open", f"decord's seeking is not proven exact in this {pair} file; use data.reader=auto"
        )
    return LinearReader(path)


def _seeking(path: str, header: Header) -> SeekingReader | None:
    """decord on a file whose header promises exact seeking; None where decord cannot open it or counts otherwise."""
    try:
        opened = SeekingReader(path, header.fps)
    except DecodeError:
        return None
    if opened.num_frames == header.num_packets:
        return opened
    opened.close()
    return None
