"""Class folders on disk: which videos there are, with which labels, and on which side of a split."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tubelet.video.annotations import Video, list_class_folders, read_folder


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative(root: Path, videos: Iterable[Video]) -> list[tuple[str, int]]:
    return [(os.path.relpath(video.path, root).replace(os.sep, "/"), video.label) for video in videos]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Three classes of 10 videos, without splits."""
    root = tmp_path / "flat"
    touch(root, *(f"{name}/{i:02d}.mp4" for name in ("walk", "jump", "run") for i in range(10)))
    return root


def test_classes_are_sorted_by_name_and_labels_are_their_places(flat: Path):
    catalogue = read_folder(str(flat))
    assert catalogue.classes == ["jump", "run", "walk"]
    for path, label in relative(flat, catalogue.train + catalogue.val):
        assert path.split("/")[0] == catalogue.classes[label]
    assert catalogue.twins == {}


def test_without_splits_each_class_gives_its_share_to_validation_which_is_the_test_too(flat: Path):
    catalogue = read_folder(str(flat), val=0.3)
    assert [sum(video.label == label for video in catalogue.val) for label in range(3)] == [3, 3, 3]
    assert [sum(video.label == label for video in catalogue.train) for label in range(3)] == [7, 7, 7]
    assert not set(catalogue.train) & set(catalogue.val)
    assert len(set(catalogue.train + catalogue.val)) == 30
    assert catalogue.test == catalogue.val


def test_the_split_depends_on_the_file_names_alone(flat: Path, tmp_path: Path):
    first = read_folder(str(flat))
    moved = tmp_path / "elsewhere"
    touch(moved, *(f"{name}/{i:02d}.mp4" for i in reversed(range(10)) for name in ("run", "walk", "jump")))
    second = read_folder(str(moved))
    assert relative(flat, first.train) == relative(moved, second.train)
    assert relative(flat, first.val) == relative(moved, second.val)
    # In every process and on every machine: `sha256sum` of the ten names sorts 07.mp4 and 03.mp4 first.
    assert [path for path, _ in relative(flat, first.val)] == [
        f"{name}/{i}.mp4" for name in ("jump", "run", "walk") for i in ("03", "07")
    ]


def test_a_video_more_moves_at_most_one_video_of_its_class_across_the_split(flat: Path):
    before = read_folder(str(flat))
    touch(flat, "run/10.mp4")
    after = read_folder(str(flat))
    run = before.classes.index("run")
    kept = [{video.path for video in split if video.label == run} for split in (before.val, after.val)]
    assert len(kept[0] - kept[1]) <= 1
    others = [[video for video in split if video.label != run] for split in (before.val, after.val)]
    assert others[0] == others[1]


def test_splits_of_the_folder_are_taken_as_they_are(tmp_path: Path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.avi", "val/a/3.mp4", "val/b/4.mp4", "test/a/5.mkv", "test/b/6.webm")
    catalogue = read_folder(str(tmp_path))
    assert relative(tmp_path, catalogue.train) == [("train/a/1.mp4", 0), ("train/b/2.avi", 1)]
    assert relative(tmp_path, catalogue.val) == [("val/a/3.mp4", 0), ("val/b/4.mp4", 1)]
    assert relative(tmp_path, catalogue.test) == [("test/a/5.mkv", 0), ("test/b/6.webm", 1)]


def test_without_a_test_split_the_validation_videos_are_the_test(tmp_path: Path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "validation/a/3.mp4", "validation/b/4.mp4")
    catalogue = read_folder(str(tmp_path))
    assert relative(tmp_path, catalogue.val) == [("validation/a/3.mp4", 0), ("validation/b/4.mp4", 1)]
    assert catalogue.test == catalogue.val


def test_without_a_validation_split_the_test_videos_are_the_validation(tmp_path: Path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "test/b/4.mp4")
    catalogue = read_folder(str(tmp_path))
    assert relative(tmp_path, catalogue.val) == [("test/a/3.mp4", 0), ("test/b/4.mp4", 1)]
    assert catalogue.test == catalogue.val


def test_only_files_with_the_ending_of_a_video_count_in_any_case(tmp_path: Path):
    touch(tmp_path, "a/2.MP4", "a/1.mp4", "a/.hidden.mp4", "a/notes.txt", "a/3.mp4.partial", "a/Thumbs.db")
    assert relative(tmp_path, list_class_folders(tmp_path, ["a"])) == [("a/1.mp4", 0), ("a/2.MP4", 0)]


def test_links_that_lead_nowhere_are_left_out_and_told(flat: Path, caplog):
    (flat / "run/link.mp4").symlink_to(flat / "run/00.mp4")
    (flat / "run/gone.mp4").symlink_to(flat / "nowhere.mp4")
    found = relative(flat, list_class_folders(flat, ["run"]))
    assert len(found) == 11
    assert ("run/link.mp4", 0) in found
    assert caplog.messages == [f"1 links lead nowhere, and are left out, such as {flat}/run/gone.mp4"]


def test_folders_without_videos_are_no_classes(flat: Path):
    touch(flat, "annotations/list.txt", ".cache/1.mp4", "notes.mp4.txt")
    (flat / "empty").mkdir()
    assert read_folder(str(flat)).classes == ["jump", "run", "walk"]


def test_videos_that_lie_too_deep_or_in_no_class_folder_are_told(flat: Path, caplog):
    touch(flat, "run/more/1.mp4", "swim/a/b/2.mp4", "annotations/list.txt", "loose.mp4", "lost.avi", ".cache/1.mp4")
    assert read_folder(str(flat)).classes == ["jump", "run", "walk"]
    assert caplog.messages == [
        f"{flat}: 2 videos are left out, since they lie in no class folder: loose.mp4",
        "videos of 2 classes are left out, since they lie in a folder of their class folder, such as "
        f"{flat}/run/more/1.mp4",
        f"left out, since they hold no video file: {flat}/annotations",
    ]


def test_classes_are_taken_alone_and_in_the_order_asked_for(flat: Path):
    catalogue = read_folder(str(flat), classes=["walk", "jump"])
    assert catalogue.classes == ["walk", "jump"]
    assert {(path.split("/")[0], label) for path, label in relative(flat, catalogue.train)} == {
        ("walk", 0),
        ("jump", 1),
    }


def test_classes_are_taken_from_every_split(tmp_path: Path):
    touch(tmp_path, *(f"{split}/{name}/1.mp4" for split in ("train", "val") for name in "abc"))
    catalogue = read_folder(str(tmp_path), classes=["c", "a"])
    assert relative(tmp_path, catalogue.val) == [("val/c/1.mp4", 0), ("val/a/1.mp4", 1)]


def test_videos_of_one_group_stay_on_one_side_of_the_split(tmp_path: Path):
    touch(
        tmp_path,
        *(f"{c}/v_{c}_g{g:02d}_c{i:02d}.avi" for c in ("Archery", "Bowling") for g in range(8) for i in range(5)),
    )
    catalogue = read_folder(str(tmp_path), val=0.25, group=r"_(g\d+)_")
    groups = [{Path(video.path).name.split("_c")[0] for video in split} for split in (catalogue.train, catalogue.val)]
    assert not groups[0] & groups[1]
    assert [len(side) for side in groups] == [12, 4]  # of 8 groups a class, a quarter
    assert len(catalogue.val) == 20  # whole groups of 5 videos


def test_a_group_can_be_the_whole_match_and_a_name_without_one_stands_alone(tmp_path: Path):
    touch(
        tmp_path, *(f"{name}/{day}-{i}.mp4" for name in "ab" for day in ("mon", "tue") for i in range(3)), "a/other.mp4"
    )
    catalogue = read_folder(str(tmp_path), val=0.5, group="mon|tue")
    for name in "ab":
        for day in ("mon", "tue"):
            sides = [
                any(path.startswith(f"{name}/{day}") for path, _ in relative(tmp_path, split))
                for split in (catalogue.train, catalogue.val)
            ]
            assert sum(sides) == 1
    assert len(catalogue.train) + len(catalogue.val) == 13


def test_a_class_of_two_videos_keeps_one_on_each_side_at_any_share(tmp_path: Path):
    touch(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4")
    for share in (0.01, 0.99):
        catalogue = read_folder(str(tmp_path), val=share)
        assert (len(catalogue.train), len(catalogue.val)) == (2, 2)


@pytest.mark.parametrize("share", [0, 1, -0.1, 20])
def test_a_share_that_is_not_between_0_and_1_is_an_error(flat: Path, share: float):
    with pytest.raises(ValueError, match=rf"data\.val={share} is not a share"):
        read_folder(str(flat), val=share)


def test_a_group_that_is_no_regular_expression_is_named(flat: Path):
    with pytest.raises(ValueError, match=r"data\.group=_\(g is not a regular expression: missing \)"):
        read_folder(str(flat), group="_(g")


def test_a_missing_root_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere is not a folder"):
        read_folder(str(tmp_path / "nowhere"))


def test_fewer_than_two_classes_are_an_error_that_lists_what_was_found(tmp_path: Path):
    touch(tmp_path, "only/1.mp4", "only/2.mp4")
    with pytest.raises(ValueError, match=r"needs at least two folders of videos.*found \['only'\]"):
        read_folder(str(tmp_path))
    shutil.rmtree(tmp_path / "only")
    with pytest.raises(ValueError, match="found none"):
        read_folder(str(tmp_path))


def test_a_class_asked_for_but_not_there_is_an_error_that_names_it(flat: Path):
    with pytest.raises(FileNotFoundError, match="no folder for class 'swim'"):
        read_folder(str(flat), classes=["run", "swim"])


def test_a_class_that_a_split_lacks_is_an_error(tmp_path: Path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4")
    with pytest.raises(FileNotFoundError, match="no folder for class 'b'"):
        read_folder(str(tmp_path))


def test_a_class_folder_without_videos_is_an_error_that_lists_the_endings(flat: Path):
    touch(flat, "swim/readme.txt")
    with pytest.raises(ValueError, match=r"swim: no video file; .*\.mp4"):
        read_folder(str(flat), classes=["run", "swim"])


def test_a_class_of_one_video_or_one_group_cannot_be_split(flat: Path, tmp_path: Path):
    touch(flat, "swim/1.mp4")
    with pytest.raises(ValueError, match="class 'swim' has one video or one group"):
        read_folder(str(flat))
    touch(tmp_path, "grouped/a/g1_1.mp4", "grouped/a/g1_2.mp4", "grouped/b/g1_1.mp4", "grouped/b/g2_1.mp4")
    with pytest.raises(ValueError, match="class 'a' has one video or one group"):
        read_folder(str(tmp_path / "grouped"), group=r"(g\d)_")
