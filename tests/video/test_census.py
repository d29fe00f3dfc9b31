"""What is said of a whole data set, from entries made by hand."""

from dataclasses import replace

from tubelet.analysis.census_report import lines
from tubelet.video.annotations import Video
from tubelet.video.census import Broken, Copies, take_census
from tubelet.video.index import Entry

CLASSES = ["jump", "run", "sit"]


def entry(path: str, digest: str, num_frames: int = 50, fps: float = 25.0, **known) -> Entry:
    size = {"height": 240, "width": 320, "container": "avi", "codec": "mpeg4"}
    return Entry(path, 9, 1, digest=digest, num_frames=num_frames, fps=fps, **{**size, **known})


SPLITS = {
    "train": [Video("/a", 0), Video("/b", 0), Video("/c", 1), Video("/d", 0), Video("/gone", 1)],
    "val": [Video("/e", 1), Video("/f", 0)],
    "test": [Video("/e", 1), Video("/f", 0)],
}
ENTRIES = {
    "/a": entry("/a", "1"),
    "/b": entry("/b", "2", num_frames=20, fps=10.0, rotation=90),
    "/c": entry("/c", "3", damaged="cut", exact={"decord": True}),
    "/d": Entry("/d", 0, 1, stage="open", reason="empty"),
    "/e": entry("/e", "4", codec="h264", container="mp4", exact={"decord": False}),
    "/f": entry("/f", "5", num_frames=30),
}
CENSUS = take_census(SPLITS, CLASSES, ENTRIES, 31, {})
SOUND = take_census({"train": SPLITS["train"][:3], "test": SPLITS["val"]}, CLASSES[:2], ENTRIES, None, {})


def test_missing_broken_damaged_and_short_videos_are_named():
    assert (CENSUS.num_videos, CENSUS.num_readable) == (7, 5)
    assert CENSUS.missing == ["/gone"]
    assert CENSUS.broken == [Broken("/d", "open", "empty")]
    assert CENSUS.damaged == {"/c": "cut"}
    assert CENSUS.too_short == {"/b": 20, "/f": 30}


def test_kinds_are_counted_over_the_videos_that_can_be_read():
    assert CENSUS.codecs == {"avi/mpeg4": 4, "mp4/h264": 1}
    assert CENSUS.sizes == {"320x240": 5}
    assert CENSUS.fps == {"25": 4, "10": 1}
    assert CENSUS.frames == (20, 50, 50)
    assert CENSUS.seconds == (1.2, 2.0, 2.0)
    assert CENSUS.hours * 3600 == 2 + 2 + 2 + 2 + 1.2
    assert CENSUS.rotated == 1
    assert CENSUS.exact == {"decord": (1, 2)}


def test_splits_of_the_same_videos_are_one_and_classes_are_counted_in_each():
    assert CENSUS.num_listed == {"train": 5, "val and test": 2}
    assert CENSUS.counts == {
        "train": {"jump": 3, "run": 2, "sit": 0},
        "val and test": {"jump": 1, "run": 1, "sit": 0},
    }
    assert CENSUS.empty_classes() == {"train": ["sit"], "val and test": ["sit"]}
    assert CENSUS.copies == []


def test_copies_within_a_split_are_told_and_across_splits_are_wrong():
    within = take_census({"train": SPLITS["train"][:3]}, CLASSES[:2], ENTRIES | {"/b": entry("/b", "1")}, None, {})
    assert within.copies == [Copies(["/a", "/b"], ["train"], ["jump"])]
    assert not within.copies_across()
    assert not within.is_wrong()

    splits = {"train": SPLITS["train"][:3], "test": SPLITS["test"]}
    across = take_census(splits, CLASSES[:2], ENTRIES | {"/f": entry("/f", "1")}, None, {})
    assert across.copies_across() == [Copies(["/a", "/f"], ["train", "test"], ["jump"])]
    assert across.is_wrong()


def test_one_path_in_two_splits_is_a_copy_across_also_where_it_cannot_be_read():
    splits = {"train": [Video("/a", 0), Video("/d", 0)], "test": [Video("/d", 0)]}
    found = take_census(splits, CLASSES[:1], ENTRIES, None, {})
    assert found.copies_across() == [Copies(["/d"], ["train", "test"], ["jump"])]


def test_broken_files_are_no_copies_of_one_another():
    broken = {path: Entry(path, 0, 1, stage="open", reason="empty") for path in ("/a", "/b")}
    assert take_census({"train": SPLITS["train"][:2]}, CLASSES[:1], broken, None, {}).copies == []


def test_copies_with_different_labels_are_wrong():
    found = take_census({"train": SPLITS["train"][:3]}, CLASSES[:2], ENTRIES | {"/c": entry("/c", "1")}, None, {})
    assert found.contradictions() == [Copies(["/a", "/c"], ["train"], ["jump", "run"])]
    assert found.is_wrong()


def test_wrong_labels_are_wrong_and_named():
    found = take_census({"train": [Video("/a", 0), Video("/b", 1)]}, CLASSES[:1], ENTRIES, None, {"/b": "label 1"})
    assert found.is_wrong()
    told = list(lines(found))
    assert told[told.index("wrong labels: 1") + 1] == "    /b: label 1"


def test_each_of_missing_broken_and_empty_classes_alone_is_wrong_and_damaged_or_short_are_not():
    assert not SOUND.is_wrong()
    assert SOUND.damaged
    assert replace(SOUND, clip_frames=31, too_short={"/b": 20}).is_wrong() is False
    assert replace(SOUND, missing=["/x"]).is_wrong()
    assert replace(SOUND, broken=[Broken("/x", "open", "empty")]).is_wrong()
    assert replace(SOUND, counts={"train": {"jump": 1, "run": 0}}).is_wrong()


def test_videos_without_classes_have_no_wrong_labels():
    found = take_census({"videos": [Video("/a", 0)]}, [], ENTRIES, None, {})
    assert (found.counts, found.wrong_labels, found.is_wrong()) == ({}, {}, False)


def test_the_report_counts_everything_and_names_what_is_wrong():
    told = list(lines(CENSUS))
    for line in (
        "7 videos, 5 can be read: 0.00 hours",
        "codecs       avi/mpeg4 (4), mp4/h264 (1)",
        "decord       random access exact in 1 of 2; data.reader=decord refuses 4, of kinds in which it is not proven",
        "train        5 videos of 2 of 3 classes, largest : smallest 3 : 2 (jump, run)",
        "missing: 1",
        "    /gone",
        "broken: 1",
        "    /d: cannot open: empty",
        "damaged: 1",
        "    /c: cut",
        "shorter than the 31 frames of a clip: 2",
        "    /b: 20",
        "copies across splits: 0",
        "classes without a video in train: 1",
        "    sit",
    ):
        assert line in told
