"""What is known of a file before it is decoded, by which readers are chosen (open.py) and seek (seeking.py)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """What the packets of a file say without decoding. One or two milliseconds for a ten-second clip.

    container, codec: as `CONTAINERS` and FFmpeg name them
    timed: each packet shows one frame, at a time of its own, and none is lacking
    seekable: timed, and each key frame starts afresh
    plain: the file has one video stream, of a size that decord can read
    times: when each frame is shown, in the order of the frames and in the unit of the stream; empty if not timed
    key_frames: numbers of the frames at which decoding can begin; empty if not timed
    """

    container: str
    codec: str
    fps: float
    timed: bool
    seekable: bool
    plain: bool
    times: tuple[int, ...]
    key_frames: tuple[int, ...]
