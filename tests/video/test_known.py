"""What training holds of the index: as much as reading needs, and of the readers that are installed only."""

import os
from dataclasses import replace
from pathlib import Path

from tubelet.video.index import Entry, Known, state_of
from tubelet.video.known import ASKED, ROW, KnownVideos, count_changed, known_of
from tubelet.video.versions import reader_versions

VERSIONS = reader_versions()


def entry(path: str, num_frames: int, **known: object) -> Entry:
    return Entry(path, 7 * 2**33, 1_700_000_000_123_456_789, num_frames=num_frames, fps=29.97, **known)


def test_a_video_is_found_by_its_path_with_all_that_reading_needs(tmp_path, monkeypatch):
    exact = {"pyav_seek": True, "decord": False}
    first = entry(str(tmp_path / "a é.mp4"), 90, key_frames=(0, 24), exact=exact, versions=VERSIONS)
    others = [entry(str(tmp_path / f"{i}.mp4"), 100 + i, key_frames=(0,)) for i in range(50)]
    found = KnownVideos([first, *others])
    expected = Known(7 * 2**33, 1_700_000_000_123_456_789, 90, 29.97, True, exact)
    assert found.get(first.path) == known_of(first) == expected
    monkeypatch.chdir(tmp_path)
    assert found.get("a é.mp4") == expected
    assert [found.get(f"{i}.mp4") for i in range(50)] == [
        Known(7 * 2**33, 1_700_000_000_123_456_789, 100 + i, 29.97, False, {}) for i in range(50)
    ]
    assert found.get("b.mp4") is None
    assert len(found) == 51


def test_nothing_is_known_without_entries():
    assert len(KnownVideos()) == 0
    assert KnownVideos().get("a.mp4") is None


def test_of_two_entries_of_a_video_the_later_counts():
    found = KnownVideos([entry("/a", 3), entry("/b", 4), entry("/a", 5)])
    assert (len(found), found.get("/a").num_frames, found.get("/b").num_frames) == (2, 5, 4)


def test_what_was_found_with_another_version_of_a_reader_is_left_aside():
    of_old = replace(
        entry("/a", 90), exact={"pyav_seek": True, "decord": False}, versions=VERSIONS | {"decord": "decord 0.5.2"}
    )
    assert known_of(of_old).exact == {"pyav_seek": True}
    assert known_of(replace(of_old, versions={})).exact == {}
    assert known_of(replace(of_old, exact={"absent": True}, versions={"absent": "1"})).exact == {}


def test_a_video_takes_no_more_than_40_bytes():
    assert ROW.itemsize <= 40


def test_changed_files_are_counted_among_some_that_are_spread_over_all(tmp_path: Path):
    paths = [str(tmp_path / f"{i}.mp4") for i in range(3 * ASKED)]
    for path in paths:
        Path(path).touch()
    known = KnownVideos(Entry(path, *state_of(path), num_frames=5) for path in paths)
    assert count_changed(known, paths) == (0, ASKED)
    for path in paths[ASKED:]:
        os.utime(path, (1, 1))
    assert count_changed(known, paths) == (33, ASKED)  # every third is asked for, of which 17 are old
    for path in paths:
        Path(path).unlink()
    assert count_changed(known, paths) == (0, 0)  # told as missing
    assert count_changed(KnownVideos(), paths) == (0, 0)
