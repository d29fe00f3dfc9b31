"""What makes the figures of a run doubtful, and can be seen from its lists: told before it begins, in one line each.

No errors, since each has its uses: data sets of several labels a video are lists as well, and a model may be tried on
the videos that it was trained on.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

from tubelet.video.annotations import Catalogue, Video
from tubelet.video.frames import FramesReader
from tubelet.video.reader import DecodeError

log = logging.getLogger(__name__)


def tell_doubts(catalogue: Catalogue, needed: Sequence[str]) -> None:
    """needed: the splits that will be read"""
    place_of = resolver()
    train = [place_of(video.path) for video in catalogue.train]
    told: list[list[Video]] = []
    for split in needed:
        videos = getattr(catalogue, split)
        if videos in told:  # test videos that are those of validation
            continue
        told.append(videos)
        places = train if split == "train" else [place_of(video.path) for video in videos]
        _tell_contradictions(catalogue.classes, split, videos, places)
        if split != "train":
            _tell_overlap(split, videos, places, set(train))
    if "train" in needed:
        _tell_empty_classes(catalogue)


def resolver() -> Callable[[str], str]:
    """Path -> the one path of its file, through links in the folders before it, each of which is asked for once.

    Links to single files stay as they are: to ask for every file takes minutes where 240,000 are on a file server.
    """
    real = cache(os.path.realpath)

    def place_of(path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(real(folder), name)

    return place_of


def _tell_contradictions(classes: Sequence[str], split: str, videos: Sequence[Video], places: Sequence[str]) -> None:
    """Videos that a split lists with several labels: no answer is right to all of them."""
    labels: dict[str, set[int]] = {}
    for place, video in zip(places, videos, strict=True):
        labels.setdefault(place, set()).add(video.label)
    several = {place: found for place, found in labels.items() if len(found) > 1}
    if several:
        place, found = next(iter(several.items()))
        path = videos[places.index(place)].path
        names = ", ".join(classes[label] for label in sorted(found))
        log.warning("%d %s videos are listed with several labels, such as %s (%s)", len(several), split, path, names)


def _tell_overlap(split: str, videos: Sequence[Video], places: Sequence[str], train: set[str]) -> None:
    """Videos of an evaluated split that are trained on too."""
    both = train.intersection(places)
    if both:
        first = next(video.path for place, video in zip(places, videos, strict=True) if place in both)
        told = "%d %s videos are training videos too, such as %s: figures on them say nothing"
        log.warning(told, len(both), split, first)


def _tell_empty_classes(catalogue: Catalogue) -> None:
    """Classes without a training video, as where the labels of a list count from 1."""
    filled = {video.label for video in catalogue.train}
    empty = [f"{label} ({name})" for label, name in enumerate(catalogue.classes) if label not in filled]
    if empty:
        named = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        log.warning("no training video has label %s; the labels go from 0 to %d", named, len(catalogue.classes) - 1)


def tell_frames_before(catalogue: Catalogue, names: str | None, first: int) -> None:
    """Pictures before `data.first_frame`, which nobody sees: looked for in the first folder of frames of a split."""
    for path, _ in (*catalogue.train[:1], *catalogue.test[:1]):
        with suppress(DecodeError):  # no folder of frames; one that cannot be read is told when it is
            number = FramesReader(path, names, first).num_before
            if number:
                log.warning(
                    "data.first_frame=%d leaves out %d pictures before it, in %s and maybe others", first, number, path
                )
                return
