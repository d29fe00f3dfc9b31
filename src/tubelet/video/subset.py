"""A part of a data set: some of its classes, and a share of its training videos. The same for every data set."""

import difflib
import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from tubelet.video.annotations import Catalogue, Video

log = logging.getLogger(__name__)


def class_list(classes: object) -> list[str] | None:
    """What data.classes says, as names: those of lists may be numbers. Raises ValueError where it is no list of any."""
    if classes is None:
        return None
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not classes:
        raise ValueError(
            f"data.classes={classes} is not a list of class names, such as data.classes=[run,jump]; "
            "a file of names for data=list is data.names=..."
        )
    names = [str(name) for name in classes]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"data.classes names {repeated!r} twice")
    return names


def take_classes(catalogue: Catalogue, classes: Sequence[str]) -> Catalogue:
    """Only the videos of these classes, numbered in this order; those of no class stay, to be told as wrong.

    Raises ValueError for a class that is not there.
    """
    numbers = {name: i for i, name in enumerate(catalogue.classes)}
    for name in classes:
        if name not in numbers:
            close = difflib.get_close_matches(name, catalogue.classes, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(catalogue.classes[:10])}, ..."
            raise ValueError(f"data.classes: {name!r} is not one of the {len(numbers)} classes; {meant}")
    new = {numbers[name]: i for i, name in enumerate(classes)}  # label -> label among these

    def kept(videos: list[Video]) -> list[Video]:
        all_labels = range(len(numbers))
        return [Video(path, new.get(label, label)) for path, label in videos if label in new or label not in all_labels]

    twins = {new[label]: new[twin] for label, twin in catalogue.twins.items() if label in new and twin in new}
    train, val, test = (kept(videos) for videos in (catalogue.train, catalogue.val, catalogue.test))
    return replace(catalogue, classes=list(classes), train=train, val=val, test=test, twins=twins)


def take_fraction(catalogue: Catalogue, fraction: float, seed: int) -> Catalogue:
    """A share of the training videos of each class, at least one: those whose names come first by a hash with the seed.

    So a larger share holds the smaller ones of the same seed, and the choice depends on neither folder nor machine.
    fraction: above 0, up to 1. Raises ValueError.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise ValueError(f"data.fraction={fraction} is not a share above 0 and up to 1")
    if fraction == 1:
        return catalogue
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"data.fraction_seed={seed} is not a whole number")
    places: list[list[int]] = [[] for _ in catalogue.classes]
    for place, video in enumerate(catalogue.train):
        places[video.label].append(place)
    chosen: list[int] = []
    for own in places:
        own.sort(key=lambda place: _hash(seed, catalogue.train[place].path))
        chosen += own[: max(round(fraction * len(own)), 1)]
    log.info("data.fraction=%s: %d of %d training videos", fraction, len(chosen), len(catalogue.train))
    return replace(catalogue, train=[catalogue.train[place] for place in sorted(chosen)])


def _hash(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}/{os.path.basename(path)}".encode()).digest()
