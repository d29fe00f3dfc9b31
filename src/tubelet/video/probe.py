"""What is found out about one video file: what decoding every frame tells, and whose random access is exact in it.

A reader may seek in a file if frames that it read after a seek are those of linear reading. How far apart two frames
are is the mean absolute difference of their 8-bit values, since decoders round differently.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from tubelet.video.index import Entry, state_of
from tubelet.video.open import DEFAULTS, ReadOptions, may_seek, open_seeking
from tubelet.video.pyav import LinearReader, read_header
from tubelet.video.reader import DecodeError, Reader
from tubelet.video.survey import survey, survey_folder
from tubelet.video.torchcodec import decoder_class
from tubelet.video.versions import reader_versions

MOST_DIFFERENCE = 1.0  # between two decoders' versions of one frame
MOST_FRAMES, FEWEST_FRAMES = 12, 4  # looked at in a file
REFERENCE_BYTES = 256 * 2**20  # that the frames looked at and those beside them may take


class Task(NamedTuple):
    path: str
    options: ReadOptions = DEFAULTS  # of which the names of frames count
    known: Entry | None = None  # a current one, of which only the readers that are `untried` are looked at


def look_at(task: Task) -> Iterator[Entry]:
    """`probe` for children that are sent what to do."""
    return probe(*task)


def probe(path: str, options: ReadOptions = DEFAULTS, known: Entry | None = None) -> Iterator[Entry]:
    """What is known of a file, each entry telling more than the one before it. The arguments are those of a `Task`.

    A reader that is being tried counts as not exact, so that the last entry before a hang or a crash is right.
    Raises OSError where there is no file.
    """
    if known is not None:
        yield from _try_readers(known)
        return
    entry, is_folder = Entry(path, *state_of(path)), os.path.isdir(path)
    names = (options.frame_names, options.first_frame) if is_folder else (None, None)
    entry = replace(entry, frame_names=names[0], first_frame=names[1])
    try:
        found = survey_folder(path, *names) if is_folder else survey(path)
    except DecodeError as error:
        yield replace(entry, stage=error.stage, reason=error.reason)
        return
    entry = replace(entry, **asdict(found))
    yield entry
    if not is_folder:  # all frames of a folder are as easy to reach
        yield from _try_readers(entry)


def untried(entry: Entry) -> dict[str, str]:
    """Reader -> its version, of those installed here that were not tried on the file in this version."""
    return {name: version for name, version in seeking_readers().items() if entry.versions.get(name) != version}


def _try_readers(entry: Entry) -> Iterator[Entry]:
    """Those that are `untried`; what is known of the others stays."""
    path, names = entry.path, untried(entry)
    exact = {name: value for name, value in entry.exact.items() if name not in names}
    versions = {name: value for name, value in entry.versions.items() if name not in names}
    entry = replace(entry, exact=exact, versions=versions)
    yield entry
    none = replace(entry, exact=exact | dict.fromkeys(names, False), versions=versions | names)
    if entry.untimed:  # no proof: decord sometimes gives the last frame but one for the last one, on a busy machine
        yield none
        return
    wanted = sample_frames(entry.num_frames, entry.key_frames, _num_frames(entry.height, entry.width))
    try:
        reference = _read_around(path, wanted, entry.num_frames)
    except DecodeError:  # frames of several sizes: seeking in such a file is not worth a proof
        yield none
        return
    header = read_header(path)
    for name, version in names.items():
        exact, versions = exact | {name: False}, versions | {name: version}
        if may_seek(name, header):
            yield replace(entry, exact=exact, versions=versions)
            right = is_exact(partial(open_seeking, path, name, header), wanted, reference, entry.num_frames)
            exact = exact | {name: right}
    yield replace(entry, exact=exact, versions=versions)


@cache
def seeking_readers() -> dict[str, str]:
    """Reader -> version, of those that are installed here and work."""
    found = dict(reader_versions())
    try:
        decoder_class()
    except ValueError:
        found.pop("torchcodec", None)
    return found


def _num_frames(height: int, width: int) -> int:
    return min(MOST_FRAMES, max(FEWEST_FRAMES, REFERENCE_BYTES // (3 * 3 * height * width)))


def sample_frames(num_frames: int, key_frames: Sequence[int], most: int) -> list[int]:
    """Up to `most` frame numbers, sorted: first and last, two key frames and those beside them, others spread evenly.

    Around key frames, since a seek lands there: the frames shown just before one may be decoded after it.
    """
    later = [key for key in key_frames if key > 0]
    around = [key + step for key in (later[-1:] + later[len(later) // 2 :][:1]) for step in (-1, 0, 1, -2)]
    spread = [(2 * k + 1) * num_frames // (2 * most) for k in range(most)]
    wanted = [i for i in (0, num_frames - 1, *around, *spread) if 0 <= i < num_frames]
    return sorted(list(dict.fromkeys(wanted))[:most])


def _read_around(path: str, wanted: Sequence[int], num_frames: int) -> dict[int, Tensor]:
    """The frames wanted and those beside them, read linearly: number -> uint8 (C, H, W). Raises DecodeError."""
    numbers = sorted({i + step for i in wanted for step in (-1, 0, 1)} & set(range(num_frames)))
    with LinearReader(path) as reader:
        return dict(zip(numbers, reader.read(numbers), strict=True))


def is_exact(
    open_reader: Callable[[], Reader], wanted: Sequence[int], reference: Mapping[int, Tensor], num_frames: int
) -> bool:
    """Whether the wanted frames are the right ones, read together and each by a reader of its own.

    reference: number -> uint8 (C, H, W) of the frames wanted and of those beside them
    num_frames: by linear reading; a reader that counts otherwise is not exact
    False also where nothing is proven, since the frames beside each other are all identical.
    """
    if num_frames > 1 and not any(_others(reference, i) for i in wanted):
        return False
    try:
        for together in (wanted, *([i] for i in wanted)):
            with open_reader() as reader:
                if reader.num_frames != num_frames:
                    return False
                images = reader.read(together)
            if not all(_is_frame(image, reference, i) for image, i in zip(images, together, strict=True)):
                return False
    except DecodeError:
        return False
    return True


def _others(reference: Mapping[int, Tensor], i: int) -> list[Tensor]:
    """The frames beside frame i, as far as they are not identical to it."""
    beside = [reference[j] for j in (i - 1, i + 1) if j in reference]
    return [other for other in beside if not torch.equal(other, reference[i])]


def _is_frame(image: Tensor, reference: Mapping[int, Tensor], i: int) -> bool:
    """Whether uint8 (C, H, W) is frame i: near it, and nearer to it than to the frames beside it."""
    if image.shape != reference[i].shape:
        return False
    own = _difference(image, reference[i])
    return own <= MOST_DIFFERENCE and all(own < _difference(image, other) for other in _others(reference, i))


def _difference(a: Tensor, b: Tensor) -> float:
    return (a.short() - b.short()).abs().float().mean().item()
