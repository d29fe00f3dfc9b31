"""One video decoded from its first frame to its last: how many frames, of which size, and what is wrong with it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

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


def survey(path: str) -> Survey:
    """Decode every frame. Raises DecodeError where reading linearly would.

    Damage is what libav logs as an error or flags as corrupt, an end before the promised one, and a change of the
    frame size. Changed bytes that still make pictures without a complaint are not seen.
    """
    header = read_header(path)
    num_packets, num_corrupt = 0, 0
    sizes: list[tuple[int, int]] = []
    key_frames: list[int] = []
    with open_watched(path) as (container, stream, logged):
        for packet in container.demux(stream):
            num_packets += packet.size > 0
            num_corrupt += packet.is_corrupt
            for frame in packet.decode():
                num_corrupt += frame.is_corrupt
                if frame.key_frame:
                    key_frames.append(len(sizes))
                sizes.append((frame.height, frame.width))
                turns = round(frame.rotation / 90) % 4
        if not sizes:
            raise DecodeError(path, "decode", "the video stream holds no frame")
        others = {one.codec_context.name for one in container.streams if one is not stream and one.codec_context}
        errors = [f"{source}: {text.strip()}" for _, source, text in logged if source not in others]
        untimed = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        damaged = _damage(errors, num_corrupt, num_packets, stream.frames, sizes)
    height, width = sizes[0][::-1] if turns % 2 else sizes[0]
    rest = header.fps, height, width, 90 * turns, header.container, header.codec, tuple(key_frames), untimed
    return Survey(_digest(path), damaged, len(sizes), *rest)


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
