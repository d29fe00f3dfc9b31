"""One video decoded from its first frame to its last: how many frames, of which size, and what is wrong with it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubelet.video.frames import FramesReader
from tubelet.video.pyav import open_watched, read_header
from tubelet.video.reader import DecodeError


@dataclass(frozen=True)
class Survey:
    """The fields are those of `index.Entry`."""

    digest: str
    damaged: str
    num_frames: int
    fps: float
    height: int
    width: int
    rotation: int
    container: str
    codec: str
    key_frames: tuple[int, ...]
    untimed: bool


class Watched:
    """The frames of a file from its first to its last, with what is noticed on the way.

    sizes, key_frames: (height, width) of the frames so far, and the numbers of those at which decoding can begin
    turns: counterclockwise quarter turns that the file asks for
    untimed, damaged: as in `Survey`; the latter is known when all frames have been taken
    """

    def __init__(self, path: str):
        self.path, self.turns, self.damaged, self.untimed = path, 0, "", False
        self.sizes: list[tuple[int, int]] = []
        self.key_frames: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        """PyAV's frames. Raises DecodeError where reading linearly would."""
        num_packets, num_corrupt = 0, 0
        with open_watched(self.path) as (container, stream, logged):
            for packet in container.demux(stream):
                num_packets += packet.size > 0
                num_corrupt += packet.is_corrupt
                for frame in packet.decode():
                    num_corrupt += frame.is_corrupt
                    if frame.key_frame:
                        self.key_frames.append(len(self.sizes))
                    self.sizes.append((frame.height, frame.width))
                    self.turns = round(frame.rotation / 90) % 4
                    self.untimed = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
                    yield frame
            if not self.sizes:
                raise DecodeError(self.path, "decode", "the video stream holds no frame")
            others = {one.codec_context.name for one in container.streams if one is not stream and one.codec_context}
            errors = [f"{source}: {text.strip()}" for _, source, text in logged if source not in others]
            self.damaged = _damage(errors, num_corrupt, num_packets, stream.frames, self.sizes)


def survey(path: str) -> Survey:
    """Decode every frame. Raises DecodeError where reading linearly would.

    Damage is what libav logs as an error or flags as corrupt, an end before the promised one, and a change of the
    frame size. Changed bytes that still make pictures without a complaint are not seen.
    """
    header, watched = read_header(path), Watched(path)
    num_frames = sum(1 for _ in watched)
    height, width = watched.sizes[0][:: -1 if watched.turns % 2 else 1]
    return Survey(
        digest=_digest(path),
        damaged=watched.damaged,
        num_frames=num_frames,
        fps=header.fps,
        height=height,
        width=width,
        rotation=90 * watched.turns,
        container=header.container,
        codec=header.codec,
        key_frames=tuple(watched.key_frames),
        untimed=watched.untimed,
    )


def survey_folder(path: str, names: str | None, first: int | None) -> Survey:
    """Decode every picture of a folder of frames. Raises DecodeError, which names the first that cannot be read."""
    sizes, broken = [], []
    with FramesReader(path, names, first) as reader:
        for number in range(reader.num_frames):
            try:
                height, width = reader.read([number]).shape[-2:]
                sizes.append((height, width))
            except DecodeError as error:
                broken.append(f"frame {number}: {error.reason}")
        files = reader.files
    if broken:
        raise DecodeError(path, "decode", f"{broken[0]}; {len(broken)} of {len(files)} frames cannot be read")
    kind = Path(files[0]).suffix[1:].lower()
    rest = len(sizes), reader.fps, *sizes[0], 0, "frames", kind, (), False
    contents = "".join(map(_digest, files)).encode()  # whatever the pictures are called
    return Survey(hashlib.blake2b(contents, digest_size=16).hexdigest(), _change_of_size(sizes), *rest)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _damage(errors: list[str], num_corrupt: int, num_packets: int, promised: int, sizes: list[tuple[int, int]]) -> str:
    """One line, empty for a sound file. `promised`: packets, by the header; 0 where it promises nothing."""
    told = []
    if errors:
        told.append(f"errors reported: {len(errors)}, the first: {errors[0]}")
    if num_corrupt:
        told.append(f"packets and frames flagged as corrupt: {num_corrupt}")
    if num_packets < promised - 1:  # one less is usual in AVI, where a frame packed with another leaves a place empty
        told.append(f"it ends after {num_packets} of {promised} promised frames")
    return "; ".join(filter(None, [*told, _change_of_size(sizes)]))


def _change_of_size(sizes: list[tuple[int, int]]) -> str:
    change = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if change is None:
        return ""
    return "the frame size changes at frame {0} from {2}x{1} to {4}x{3}".format(change, *sizes[0], *sizes[change])
