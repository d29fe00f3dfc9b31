"""Kinetics as it is distributed: csv files of several releases, flat videos or class folders in several spellings."""

from pathlib import Path

import pytest

from tubelet.video.annotations import Video
from tubelet.video.disk import leave_out_missing
from tubelet.video.kinetics import read_kinetics

TRAIN = (
    "\ufefflabel,youtube_id,time_start,time_end,split,is_cc\r\n"
    '"shooting goal (soccer)",-3B32lodo2M,59,69,train,0\r\n'
    "abseiling,_4YTwq0-73Y,44,54,train,0\r\n"
    '"massaging person\'s head",--uWuXty1jw,1027,1037,train,1\r\n'
)
VAL = (
    "youtube_id,label,time_start,time_end,split\n"  # another order
    "abcdefghijk,massaging person's head,84.0,94.0,validate\n"
    'lmnopqrstuv,"shooting goal (soccer)",0,10,validate\n'
)
CLASSES = ["abseiling", "massaging person's head", "shooting goal (soccer)"]
NAMES = {  # csv row -> name of the file, by hand
    "train": ["-3B32lodo2M_000059_000069", "_4YTwq0-73Y_000044_000054", "--uWuXty1jw_001027_001037"],
    "val": ["abcdefghijk_000084_000094", "lmnopqrstuv_000000_000010"],
}
LABELS = {"train": [2, 0, 1], "val": [1, 2]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.csv").write_bytes(TRAIN.encode())
    (tmp_path / "annotations/val.csv").write_text(VAL)
    return tmp_path


def touch(root: Path, name: str) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def fill(root: Path, folder, ending=".mp4"):
    """folder: (split, class name) -> folder of root for its videos; gives the videos expected of each split."""
    return {
        part: [
            Video(touch(root, f"{folder(part, CLASSES[label])}/{name}{ending}"), label)
            for name, label in zip(NAMES[part], LABELS[part], strict=True)
        ]
        for part in NAMES
    }


def test_videos_in_flat_folders_have_the_labels_of_the_csv_and_classes_are_sorted(root):
    expected = fill(root, lambda part, _: part)
    catalogue = read_kinetics(str(root), 400, "val")
    assert catalogue.classes == CLASSES
    assert catalogue.train == expected["train"]
    assert catalogue.val == catalogue.test == expected["val"]
    assert not catalogue.missing


@pytest.mark.parametrize(
    "folder",
    [
        lambda part, name: f"{part}/{name}",
        lambda part, name: f"{part}/{name.replace(' ', '_')}",
        lambda part, name: f"{part}/{name.translate(str.maketrans(' ', '_', chr(39) + '()'))}",  # as torchvision
        lambda part, name: f"videos/{part}/{name}",  # as CVDF's arrange_by_classes.py
        lambda part, name: f"videos_{part}/{name.replace(' ', '_')}",  # as mmaction2
        lambda part, name: name,
        lambda part, name: ".",
        lambda part, name: "validate" if part == "val" else part,
        lambda part, name: "validation" if part == "val" else part,
        lambda part, name: f"{part}_256/{name}",
    ],
)
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_videos_are_found_in_every_layout(folder, ending, root):
    expected = fill(root, folder, ending)
    catalogue = read_kinetics(str(root), 400, "val")
    assert not catalogue.missing
    assert [Path(v.path) for v in catalogue.train] == [Path(v.path) for v in expected["train"]]
    assert [v.label for v in catalogue.val] == LABELS["val"]


def test_files_of_another_edition_are_told(root, caplog):
    fill(root, lambda part, _: part)
    read_kinetics(str(root), 600, "val")
    assert "train.csv names 3 classes, not the 600 of Kinetics-600" in caplog.text


def test_a_replacement_is_taken_for_the_corrupted_file_by_the_first_11_letters(root):
    expected = fill(root, lambda part, _: part)
    better = touch(root, "replacement/replacement_for_corrupted_k400/-3B32lodo2M_000060_000070.mp4")
    catalogue = read_kinetics(str(root), 400, "val")
    assert catalogue.train == [Video(better, 2), *expected["train"][1:]]


@pytest.mark.parametrize(
    "names",
    [("train.csv", "validate.csv"), ("kinetics_train.csv", "kinetics_val.csv"), ("k400_train.csv", "validation.csv")],
)
def test_the_csv_files_have_several_names(names, root):
    (root / "annotations/train.csv").rename(root / names[0])
    (root / "annotations/val.csv").rename(root / names[1])
    fill(root, lambda part, _: part)
    assert [v.label for v in read_kinetics(str(root), 400, "val").val] == LABELS["val"]


def test_folders_of_frames_and_another_folder_of_videos_are_taken(root):
    fill(root, lambda part, _: part)
    for part in NAMES:
        for name in NAMES[part]:
            touch(root, f"frames/{part}/{name}/img_00001.jpg")
    catalogue = read_kinetics(str(root), 400, "val", videos="frames")
    assert catalogue.val[0] == Video(str(root / "frames/val/abcdefghijk_000084_000094"), 1)
    with pytest.raises(FileNotFoundError, match=r"data.videos=gone: there is no folder \S*gone"):
        read_kinetics(str(root), 400, "val", videos="gone")


def test_a_missing_video_is_named_where_it_would_lie(root):
    fill(root, lambda part, _: part)
    (root / "train/_4YTwq0-73Y_000044_000054.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 listed train .*train/_4YTwq0-73Y_000044_000054.mp4"):
        leave_out_missing(read_kinetics(str(root), 400, "val"), ("train",), "raise", "x")


def test_a_download_that_was_cut_off_is_missing(root):
    fill(root, lambda part, _: part)
    path = root / "val/lmnopqrstuv_000000_000010.mp4"
    path.rename(f"{path}.part")
    assert read_kinetics(str(root), 400, "val").missing == {str(path)}


def test_a_test_csv_without_labels_cannot_be_tested_on(root):
    fill(root, lambda part, _: part)
    (root / "annotations/test.csv").write_text("youtube_id,time_start,time_end,split\n-1234567890,5,15,test\n")
    with pytest.raises(ValueError, match=r"test.csv: no column label in its header .*data.test=val can"):
        read_kinetics(str(root), 400, "test")


def test_a_test_csv_with_labels_is_the_test_where_that_is_asked_for(root):
    fill(root, lambda part, _: part)
    test = touch(root, "test/-1234567890_000005_000015.mp4")
    (root / "annotations/test.csv").write_text("label,youtube_id,time_start,time_end\nabseiling,-1234567890,5,15\n")
    catalogue = read_kinetics(str(root), 400, "test")
    assert catalogue.test == [Video(test, 0)]
    assert [v.label for v in catalogue.val] == LABELS["val"]


def test_a_class_in_another_spelling_in_one_of_the_files_is_the_same_class(root):
    fill(root, lambda part, _: part)
    (root / "annotations/val.csv").write_text(VAL.replace('"shooting goal (soccer)"', "shooting_goal_(soccer)"))
    assert [v.label for v in read_kinetics(str(root), 400, "val").val] == LABELS["val"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("84.0", "", r"val.csv:2: expected youtube_id,label.*found .abcdefghijk"),
        (",0,10,validate", "", r"val.csv:3: expected"),
        ('"shooting goal (soccer)"', "diving", r"val.csv:3: class 'diving' is not one of the 3 of \S*train.csv"),
        ("time_start", "start", r"val.csv: no column time_start in its header"),
    ],
)
def test_a_wrong_row_is_an_error_with_its_line(old, new, told, root):
    (root / "annotations/val.csv").write_text(VAL.replace(old, new))
    with pytest.raises(ValueError, match=told):
        read_kinetics(str(root), 400, "val")


def test_without_the_data_the_error_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train.csv in it.*Kinetics-700 .*k700_2020_downloader.sh"):
        read_kinetics(str(tmp_path / "gone"), 700, "val")


@pytest.mark.parametrize(("edition", "test", "told"), [(500, "val", "data.edition=500"), (600, "dev", "data.test=dev")])
def test_another_edition_or_split_is_an_error(edition, test, told, root):
    with pytest.raises(ValueError, match=told):
        read_kinetics(str(root), edition, test)
