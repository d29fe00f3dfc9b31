"""A folder of pictures, jpg or png, as a video: extracted frames, read by their numbers."""

import os
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from tubelet.video.reader import DecodeError, Reader, check_indices
from tubelet.video.scaling import scale

SUFFIXES = (".jpg", ".jpeg", ".png")
NUMBER = re.compile(r"^(.*?)(\d+)(\.[^.]+)$")  # the last number of a name, with what stands before and after it
FIELD = re.compile(r"\{:(?:0(\d+))?d\}")


def check_names(names: str | None) -> None:
    """Raises ValueError for a pattern that does not hold one number."""
    if names is not None and len(FIELD.findall(names)) != 1:
        right = "'data.frame_names=\"img_{:05d}.jpg\"'"
        raise ValueError(f"data.frame_names={names} needs one place for a number, as in {right}")


def is_picture(name: str) -> bool:
    match = NUMBER.match(name)
    return match is not None and match[3].lower() in SUFFIXES and not name.startswith(".")


class FramesReader(Reader):
    """Frames in the order of their numbers, so 10 follows 9 however they are written; a gap is an error.

    names: such as img_{:05d}.jpg; None takes every picture of the folder, which then must all be named alike
    first: number of the first frame; None takes 0 or 1, whichever there is
    """

    name = "frames"
    fps = 0.0  # a folder does not say

    def __init__(self, path: str, names: str | None = None, first: int | None = None, short_side: int | None = None):
        self._path, self._short_side = path, short_side
        try:
            files = [file for file in os.listdir(path) if not file.startswith(".")]
        except OSError as error:
            raise DecodeError(path, "open", error.strerror or str(error)) from error
        numbered = _named(files, names) if names else _alike(path, files)
        if not numbered:
            raise DecodeError(path, "open", f"the folder holds no {names or 'picture (jpg, png) with a number'}")
        self.files = [os.path.join(path, file) for file in _without_gaps(path, numbered, first)]
        self.num_before = len(numbered) - len(self.files)  # of the first frame
        self.num_frames = len(self.files)

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers, from 0 whatever the number of the first file -> uint8 RGB (T, C, H, W)."""
        check_indices(self._path, indices, self.num_frames)
        images = {i: self._image(self.files[i]) for i in {int(i) for i in indices}}
        if len({image.shape for image in images.values()}) > 1:
            raise DecodeError(self._path, "decode", "the frame size changes within the folder")
        return torch.stack([images[int(i)] for i in indices])

    def _image(self, file: str) -> Tensor:
        try:
            image = decode_image(file, mode=ImageReadMode.RGB)  # (C, H, W)
        except (RuntimeError, OSError, ValueError) as error:
            raise DecodeError(self._path, "decode", f"{os.path.basename(file)}: {_first_line(error)}") from error
        return scale(image, self._short_side)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _named(files: list[str], names: str) -> dict[int, str]:
    """Number -> file, of those that the pattern names."""
    before, after = (re.escape(part) for part in (names[: names.index("{")], names[names.index("}") + 1 :]))
    pattern = re.compile(f"{before}(\\d+){after}")
    found = {int(match[1]): file for file in files if (match := pattern.fullmatch(file))}
    return {number: file for number, file in found.items() if names.format(number) == file}


def _alike(path: str, files: list[str]) -> dict[int, str]:
    """Number -> file, of all pictures. Raises DecodeError where they are named in several ways."""
    numbered: dict[int, str] = {}
    kinds: dict[tuple[str, str], str] = {}
    for file in sorted(files):
        match = NUMBER.match(file)
        if match and match[3].lower() in SUFFIXES:
            kinds.setdefault((match[1], match[3]), file)
            twin = numbered.setdefault(int(match[2]), file)
            if len(kinds) > 1 or twin != file:
                other = twin if twin != file else next(iter(kinds.values()))
                why = f"{other} and {file} may be of two videos; name one with data.frame_names"
                raise DecodeError(path, "open", why)
    return numbered


def _without_gaps(path: str, numbered: dict[int, str], first: int | None) -> list[str]:
    """Files in the order of their numbers. Raises DecodeError with the first number that is lacking."""
    numbers = sorted(numbered)
    if first is None and numbers[0] > 1:
        raise DecodeError(
            path, "open", f"frames 0 and 1 are lacking; if {numbers[0]} is the first, data.first_frame={numbers[0]}"
        )
    start = numbers[0] if first is None else first
    numbers = [number for number in numbers if number >= start]
    for expected, number in enumerate(numbers or [-1], start=start):
        if number != expected:
            raise DecodeError(path, "open", f"frame {expected} is lacking, of {len(numbered)} frames")
    return [numbered[number] for number in numbers]
