"""HMDB51 as it is distributed: a list for each class and split, and names that no pattern may be made of."""

from pathlib import Path

import pytest

from tubelet.video.annotations import Video
from tubelet.video.hmdb51 import read_hmdb51

ODD = "#1_[NEW]_&_(a)!_x*?_wave_u_nm_np1_ba_goo_0"
LISTS = {  # split 1: class -> lines, with the space that the official ones end with
    "wave": [f"{ODD}.avi 1 ", "two words_wave_1.avi 2 ", "unused_wave_2.avi 0 "],
    "brush_hair": ["a_brush_hair_0.avi 2 ", "b_brush_hair_1.avi 1 ", "c_brush_hair_2.avi 1 "],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name, lines in LISTS.items():
        (lists / f"{name}_test_split1.txt").write_bytes("\r\n".join([*lines, ""]).encode())
        (lists / f"{name}_test_split2.txt").write_text(f"{lines[0].rsplit(maxsplit=1)[0]} 2 \n")
        (tmp_path / "hmdb51_org" / name).mkdir(parents=True)
        for line in lines:
            (tmp_path / "hmdb51_org" / name / line.rsplit(maxsplit=1)[0]).touch()
    return tmp_path


def test_the_marks_tell_training_from_test_and_unused_videos(root):
    catalogue = read_hmdb51(str(root), split=1)
    videos = root / "hmdb51_org"
    assert catalogue.classes == ["brush_hair", "wave"]
    assert catalogue.train == [
        Video(str(videos / "brush_hair/b_brush_hair_1.avi"), 0),
        Video(str(videos / "brush_hair/c_brush_hair_2.avi"), 0),
        Video(str(videos / f"wave/{ODD}.avi"), 1),
    ]
    assert catalogue.test == [
        Video(str(videos / "brush_hair/a_brush_hair_0.avi"), 0),
        Video(str(videos / "wave/two words_wave_1.avi"), 1),
    ]
    assert catalogue.val == catalogue.test
    assert not catalogue.missing


def test_lists_of_fewer_than_51_classes_are_told(root, caplog):
    read_hmdb51(str(root), split=1)
    told = f"{root}/testTrainMulti_7030_splits holds the lists of 2 classes, not of the 51 of HMDB51"
    assert caplog.messages == [told]


def test_another_split_has_lists_of_its_own(root):
    catalogue = read_hmdb51(str(root), split=2)
    assert [Path(video.path).name for video in catalogue.test] == ["a_brush_hair_0.avi", f"{ODD}.avi"]
    assert catalogue.train == []
    with pytest.raises(FileNotFoundError, match=r"data.split=4: there is no \S*brush_hair_test_split4.txt"):
        read_hmdb51(str(root), split=4)


@pytest.mark.parametrize("place", ["{}", "brush_hair/{}", "videos/{}", "hmdb51_org/brush hair"])
def test_class_folders_may_lie_in_root_or_in_a_folder_of_it(place, root):
    target = root / place.format("brush_hair")
    (root / "hmdb51_org/brush_hair").rename(root / "moved")
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / "moved").rename(target)
    assert not read_hmdb51(str(root), split=1).missing


def test_a_missing_video_is_known_by_where_it_would_lie(root):
    (root / "hmdb51_org/wave" / f"{ODD}.avi").unlink()
    missing = read_hmdb51(str(root), split=1, videos="hmdb51_org").missing
    assert missing == {str(root / f"hmdb51_org/wave/{ODD}.avi")}


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "1"])
def test_a_line_without_a_right_mark_is_an_error(line, root):
    (root / "testTrainMulti_7030_splits/wave_test_split1.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=rf"wave_test_split1.txt: expected a video and 0 .* found '{line}'"):
        read_hmdb51(str(root), split=1)


def test_without_the_data_the_error_says_where_to_get_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"data.root=\S+: no <class>_test_split1.txt in it.*test_train_splits.rar"
    ):
        read_hmdb51(str(tmp_path), split=1)
