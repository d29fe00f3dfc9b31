"""What training holds of the index: numbers in arrays, which worker processes share with the process that forked them.

Objects of Python count who refers to them, and counting writes: a worker that looks at one gets a copy of its page.
"""

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from tubelet.video.index import Entry, Known
from tubelet.video.open import EXACT_SEEK
from tubelet.video.versions import reader_versions

READERS = tuple(EXACT_SEEK)
ASKED = 50  # files: to ask for all of 240,000 on a file server would take minutes
UNTRIED = -1
ROW = np.dtype(
    [
        ("path", "u8"),  # a hash of it
        ("num_bytes", "i8"),
        ("changed", "i8"),
        ("num_frames", "i4"),
        ("fps", "f8"),
        ("has_keys", "?"),
        ("exact", "i1", (len(READERS),)),
    ]
)


def known_of(entry: Entry) -> Known:
    """What was found out about a reader in another version than the one that is installed is left aside."""
    versions = reader_versions()
    now = {name: exact for name, exact in entry.exact.items() if entry.versions.get(name) == versions.get(name, "")}
    return Known(entry.num_bytes, entry.changed, entry.num_frames, entry.fps, len(entry.key_frames) > 1, now)


class KnownVideos:
    """By the path of a video. Of several entries of one path the last counts."""

    def __init__(self, entries: Iterable[Entry] = ()):
        rows = np.fromiter((_row(entry) for entry in entries), dtype=ROW)
        self._rows = rows[np.argsort(rows["path"], kind="stable")]

    def __len__(self) -> int:
        return len(np.unique(self._rows["path"]))

    def get(self, path: str) -> Known | None:
        """None for a video that is not in the index."""
        key = _hash(path)
        place = int(np.searchsorted(self._rows["path"], np.uint64(key), side="right")) - 1
        if place < 0 or self._rows["path"][place] != key:
            return None
        _, num_bytes, changed, num_frames, fps, has_keys, exact = self._rows[place].tolist()
        known = {name: bool(value) for name, value in zip(READERS, exact, strict=True) if value != UNTRIED}
        return Known(num_bytes, changed, num_frames, fps, has_keys, known)


def count_changed(known: KnownVideos, paths: Sequence[str]) -> tuple[int, int]:
    """(files that have changed since they were looked at, files asked for): up to ASKED, spread over all paths.

    Videos that are not in the index and folders of frames, about which training does not ask it, are left aside.
    """
    asked = paths[:: max(len(paths) // ASKED, 1)][:ASKED]
    entries = [(path, found) for path in asked if (found := known.get(path)) is not None and os.path.isfile(path)]
    return sum(not found.is_current(path) for path, found in entries), len(entries)


def _row(entry: Entry) -> tuple:
    *numbers, exact = known_of(entry)
    return _hash(entry.path), *numbers, tuple(exact.get(name, UNTRIED) for name in READERS)


def _hash(path: str) -> int:
    """64 bits: two of a million paths are alike with a chance of 3 in 10^8, and then differ in length or time."""
    data = os.fsencode(os.path.abspath(path))
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
