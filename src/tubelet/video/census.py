"""What the index says of a whole data set: which videos are missing, broken, short or copies, and of which kinds."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tubelet.video.annotations import Video
from tubelet.video.index import Entry

Spread = tuple[float, float, float]  # smallest, median, largest


@dataclass(frozen=True)
class Broken:
    path: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Copies:
    """Videos of the same content, or one video listed several times."""

    paths: list[str]
    splits: list[str]
    classes: list[str]  # of the labels that they have, more than one where labels contradict each other


@dataclass(frozen=True)
class Census:
    """counts: split -> class -> videos listed, in the order of the labels; empty where there are no classes
    wrong_labels: video -> what is wrong with its label
    too_short: video -> its frames, fewer than the `clip_frames` that a clip spans
    codecs, sizes, fps: kind -> videos that can be read; a size is width x height
    exact: reader -> (files in which its random access is exact, files in which it was tried)
    """

    num_videos: int
    num_readable: int
    num_listed: dict[str, int]
    missing: list[str]
    broken: list[Broken]
    damaged: dict[str, str]
    clip_frames: int | None
    too_short: dict[str, int]
    copies: list[Copies]
    wrong_labels: dict[str, str]
    counts: dict[str, dict[str, int]]
    hours: float
    frames: Spread
    seconds: Spread
    codecs: dict[str, int]
    sizes: dict[str, int]
    fps: dict[str, int]
    rotated: int
    exact: dict[str, tuple[int, int]]

    def copies_across(self) -> list[Copies]:
        """Of the training videos in the test, say: figures on them say nothing."""
        return [one for one in self.copies if len(one.splits) > 1]

    def contradictions(self) -> list[Copies]:
        return [one for one in self.copies if len(one.classes) > 1]

    def empty_classes(self) -> dict[str, list[str]]:
        """Split -> classes of which it lists no video."""
        empty = {split: [name for name, count in counts.items() if not count] for split, counts in self.counts.items()}
        return {split: names for split, names in empty.items() if names}

    def is_wrong(self) -> bool:
        """Whether figures on these data would not be what they seem. Damaged and short videos are only told."""
        labels = self.wrong_labels or self.empty_classes() or self.contradictions()
        return bool(self.missing or self.broken or self.copies_across() or labels)


def take_census(
    splits: Mapping[str, Sequence[Video]],
    classes: Sequence[str],
    entries: Mapping[str, Entry],
    clip_frames: int | None,
    wrong_labels: Mapping[str, str],
) -> Census:
    """splits: name -> its videos; splits that list the same videos count as one
    classes: names of the labels; empty for videos without labels
    entries: by path as listed; a video without one is missing
    clip_frames: that a clip spans; None where there is no clip
    wrong_labels: see `Catalogue.wrong_labels`
    """
    splits = _joined(splits)
    paths = list(dict.fromkeys(video.path for videos in splits.values() for video in videos))
    found = {path: entries[path] for path in paths if path in entries}
    readable = {path: entry for path, entry in found.items() if not entry.stage}
    good = readable.values()
    readers = sorted({name for entry in good for name in entry.exact})
    return Census(
        num_videos=len(paths),
        num_readable=len(good),
        num_listed={split: len(videos) for split, videos in splits.items()},
        missing=[path for path in paths if path not in found],
        broken=[Broken(path, entry.stage, entry.reason) for path, entry in found.items() if entry.stage],
        damaged={path: entry.damaged for path, entry in readable.items() if entry.damaged},
        clip_frames=clip_frames,
        too_short={path: one.num_frames for path, one in readable.items() if one.num_frames < (clip_frames or 0)},
        copies=_copies(splits, classes, entries),
        wrong_labels=dict(wrong_labels),
        counts=_counts(splits, classes),
        hours=sum(map(seconds_of, good)) / 3600,
        frames=_spread(entry.num_frames for entry in good),
        seconds=_spread(map(seconds_of, good)),
        codecs=_tally(f"{entry.container}/{entry.codec}" for entry in good),
        sizes=_tally(f"{entry.width}x{entry.height}" for entry in good),
        fps=_tally(f"{entry.fps:.4g}" for entry in good),
        rotated=sum(entry.rotation != 0 for entry in good),
        exact={
            name: (sum(entry.exact.get(name, False) for entry in good), sum(name in entry.exact for entry in good))
            for name in readers
        },
    )


def seconds_of(entry: Entry) -> float:
    """How long a video is shown; 0 where it does not say how fast."""
    return entry.num_frames / entry.fps if entry.fps else 0.0


def _joined(splits: Mapping[str, Sequence[Video]]) -> dict[str, Sequence[Video]]:
    """Where validation and test are the same videos by design, they are one split, of both names."""
    joined: dict[str, Sequence[Video]] = {}
    for name, videos in splits.items():
        same = next((other for other, listed in joined.items() if list(listed) == list(videos)), None)
        joined[f"{same} and {name}" if same else name] = joined.pop(same) if same else videos
    return joined


def _copies(
    splits: Mapping[str, Sequence[Video]], classes: Sequence[str], entries: Mapping[str, Entry]
) -> list[Copies]:
    """By digest; a file that cannot be read is a copy of itself only."""
    listed: dict[str, list[tuple[str, Video]]] = {}
    for split, videos in splits.items():
        for video in videos:
            entry = entries.get(video.path)
            key = entry.digest if entry and entry.digest else os.path.abspath(video.path)
            listed.setdefault(key, []).append((split, video))
    return [
        Copies(
            sorted({video.path for _, video in group}),
            list(dict.fromkeys(split for split, _ in group)),
            [_name(label, classes) for label in sorted({video.label for _, video in group})],
        )
        for group in listed.values()
        if len(group) > 1
    ]


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _counts(splits: Mapping[str, Sequence[Video]], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    if not classes:
        return {}
    labels = {split: Counter(video.label for video in videos) for split, videos in splits.items()}
    return {split: {name: count[label] for label, name in enumerate(classes)} for split, count in labels.items()}


def _spread(values: Iterable[float]) -> Spread:
    found = sorted(values) or [0]
    return found[0], median(found), found[-1]


def _tally(kinds: Iterable[str]) -> dict[str, int]:
    return dict(Counter(kinds).most_common())
