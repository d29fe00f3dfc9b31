"""Lists as they lie on disk: UCF101's own, with CRLF and labels from 1, and people's."""

from pathlib import Path

import pytest

from tubelet.video.annotations import NO_LABEL, Catalogue, Video
from tubelet.video.disk import leave_out_missing
from tubelet.video.lists import read_list, read_ucf101

SPLITS = ("train", "val", "test")


@pytest.fixture
def ucf101(tmp_path):
    """Three classes, two videos each, in the official layout."""
    names = ["Archery", "Bowling", "YoYo"]
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_bytes(b"".join(b"%d %s\r\n" % (i + 1, n.encode()) for i, n in enumerate(names)))
    for part, clip in (("train", 1), ("test", 2)):
        lines = []
        for i, name in enumerate(names):
            path = f"{name}/v_{name}_g01_c0{clip}.avi"
            (tmp_path / "UCF-101" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "UCF-101" / path).touch()
            lines.append(f"{path} {i + 1}" if part == "train" else path)  # the test lists have no labels
        (lists / f"{part}list01.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return tmp_path


def test_ucf101_gives_labels_from_zero_in_the_order_of_class_ind(ucf101):
    catalogue = read_ucf101(str(ucf101), split=1)
    assert catalogue.classes == ["Archery", "Bowling", "YoYo"]
    assert [(Path(v.path).name, v.label) for v in catalogue.train] == [
        ("v_Archery_g01_c01.avi", 0),
        ("v_Bowling_g01_c01.avi", 1),
        ("v_YoYo_g01_c01.avi", 2),
    ]
    assert [v.label for v in catalogue.test] == [0, 1, 2]
    assert catalogue.val == catalogue.test


def test_ucf101_finds_videos_that_all_lie_in_one_folder(ucf101):
    for path in list((ucf101 / "UCF-101").glob("*/*.avi")):
        path.rename(ucf101 / "UCF-101" / path.name)
    catalogue = read_ucf101(str(ucf101), split=1)
    assert all(Path(video.path).exists() for video in [*catalogue.train, *catalogue.test])


def test_ucf101_finds_other_endings_and_class_folders_in_other_spelling(ucf101):
    (ucf101 / "UCF-101/Bowling").rename(ucf101 / "UCF-101/bowling")
    (ucf101 / "UCF-101/bowling/v_Bowling_g01_c02.avi").rename(ucf101 / "UCF-101/bowling/v_Bowling_g01_c02.mp4")
    catalogue = read_ucf101(str(ucf101), split=1)
    assert not catalogue.missing
    assert catalogue.test[1] == Video(str(ucf101 / "UCF-101/bowling/v_Bowling_g01_c02.mp4"), 1)


def test_missing_videos_are_counted_and_named_and_stop_the_run_unless_skipped(ucf101, caplog):
    (ucf101 / "UCF-101/Bowling/v_Bowling_g01_c01.avi").unlink()
    listed = read_ucf101(str(ucf101), split=1)
    with pytest.raises(
        FileNotFoundError, match=r"1 of 3 listed train videos are not on disk: \S*v_Bowling_g01_c01.avi"
    ):
        leave_out_missing(listed, SPLITS, "raise", "x")
    catalogue = leave_out_missing(listed, SPLITS, "skip", "x")
    assert [video.label for video in catalogue.train] == [0, 2]
    assert "1 of 3 listed train videos are not on disk" in caplog.text
    assert "they are left out" in caplog.text


def test_a_missing_test_video_stays_in_the_count_and_is_told_once(ucf101, caplog):
    (ucf101 / "UCF-101/Bowling/v_Bowling_g01_c02.avi").unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.on_error=skip goes on and counts them as answered wrongly"):
        leave_out_missing(read_ucf101(str(ucf101), split=1), SPLITS, "raise", "x")
    catalogue = leave_out_missing(read_ucf101(str(ucf101), split=1), SPLITS, "skip", "x")
    assert [video.label for video in catalogue.test] == [0, 1, 2]  # unread, so answered wrongly
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "1 of 3 listed val videos are not on disk"
    ]


def test_a_link_that_leads_nowhere_is_missing(ucf101, tmp_path):
    video = ucf101 / "UCF-101/Bowling/v_Bowling_g01_c01.avi"
    video.rename(ucf101 / "moved.avi")
    video.symlink_to(ucf101 / "moved.avi")
    assert not read_ucf101(str(ucf101), split=1).missing
    (ucf101 / "moved.avi").unlink()
    assert read_ucf101(str(ucf101), split=1).missing == {str(video)}
    (tmp_path / "list.txt").write_text(f"{video} 0\nUCF-101/YoYo/v_YoYo_g01_c01.avi 0\n")
    file = str(tmp_path / "list.txt")
    assert read_list(file, file, None, str(tmp_path), None).missing == {str(video)}


def test_a_video_that_is_there_twice_by_name_is_told(ucf101, caplog):
    (ucf101 / "old").mkdir()
    for name in ("v_YoYo_g01_c01.avi", "v_YoYo_g01_c02.mp4"):
        (ucf101 / "old" / name).touch()
    (ucf101 / "old/v_Bowling_g01_c01").mkdir()  # frames of a video are no second file
    taken = ucf101 / "UCF-101/YoYo/v_YoYo_g01_c01.avi"
    assert read_ucf101(str(ucf101), split=1).train[2].path == str(taken)
    other = ucf101 / "old/v_YoYo_g01_c01.avi"
    assert caplog.messages == [f"2 videos are left aside for others of the same name, such as {other} for {taken}"]


def test_names_with_accents_are_found_as_macos_writes_them(ucf101):
    composed, apart = "v_Pok\u00e9_g01_c01", "v_Poke\u0301_g01_c01"
    for part in ("train", "test"):
        with open(ucf101 / f"ucfTrainTestlist/{part}list01.txt", "a", encoding="utf-8") as file:
            file.write(f"YoYo/{composed if part == 'train' else apart}.avi\n")
    (ucf101 / f"UCF-101/YoYo/{apart}.avi").touch()
    catalogue = read_ucf101(str(ucf101), split=1)
    assert catalogue.train[-1] == catalogue.test[-1] == Video(str(ucf101 / f"UCF-101/YoYo/{apart}.avi"), 2)
    assert not catalogue.missing


def test_a_split_that_is_not_read_may_be_missing_whole(ucf101):
    for path in ucf101.glob("UCF-101/*/*_c01.avi"):
        path.unlink()
    listed = read_ucf101(str(ucf101), split=1)
    assert leave_out_missing(listed, ("test",), "raise", "x").train == []
    for on_error in ("raise", "skip"):
        with pytest.raises(
            FileNotFoundError, match=r"data.root=x: none of 3 listed train videos is on disk.*UCF101.php"
        ):
            leave_out_missing(listed, SPLITS, on_error, "x")


def test_without_ucf101_the_error_says_where_it_looked_how_to_get_it_and_how_to_do_without(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no classInd.txt.*UCF101.php.*experiment=demo") as caught:
        read_ucf101(str(tmp_path), split=1)
    assert str(tmp_path) in str(caught.value)


def test_a_split_without_lists_is_named(ucf101):
    with pytest.raises(FileNotFoundError, match=r"data.split=4: there is no .*trainlist04.txt"):
        read_ucf101(str(ucf101), split=4)


def test_a_label_of_ucf101_that_is_not_that_of_the_class_folder_is_named(ucf101):
    file = ucf101 / "ucfTrainTestlist/trainlist01.txt"
    file.write_text(file.read_text().replace("c01.avi 2", "c01.avi 3"))
    told = "'Bowling/v_Bowling_g01_c01.avi 3': Bowling is number 2 in classInd.txt"
    with pytest.raises(ValueError, match=rf"trainlist01.txt: {told}"):
        read_ucf101(str(ucf101), split=1)


def listed(tmp_path, text, classes=None):
    for name in ("a.mp4", "with space.mp4", "b,c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "train.txt").write_text(text)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    names = str(tmp_path / "classes.txt") if classes else None
    file = str(tmp_path / "train.txt")
    return leave_out_missing(read_list(file, file, None, str(tmp_path), names), SPLITS, "raise", str(tmp_path))


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_the_separator_of_a_list_is_found(separator, tmp_path):
    catalogue = listed(tmp_path, f"a.mp4{separator}1\r\n\r\nwith space.mp4{separator}0\r\n")
    assert catalogue.train == [Video(str(tmp_path / "a.mp4"), 1), Video(str(tmp_path / "with space.mp4"), 0)]
    assert catalogue.classes == ["0", "1"]


def test_the_label_is_what_follows_the_last_separator(tmp_path):
    assert listed(tmp_path, "b,c.mp4,0\na.mp4,1\n").train[0] == Video(str(tmp_path / "b,c.mp4"), 0)


def test_labels_may_be_names(tmp_path):
    assert [v.label for v in listed(tmp_path, "a.mp4 run\nwith space.mp4 jump\n").train] == [1, 0]
    named = listed(tmp_path, "a.mp4 run\nwith space.mp4 jump\n", classes="run\njump\n")
    assert (named.classes, [v.label for v in named.train]) == (["run", "jump"], [0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 0\na.mp4\n", r"train.txt:2: expected a path, ' ' and a label, found 'a.mp4'"),
        ("a.mp4\n", r"train.txt:1: no tab, comma or space separates a path from a label in 'a.mp4'"),
        ("a.mp4 0\ngone.mp4 0\n", r"1 of 2 listed train videos are not on disk: \S*gone.mp4"),
    ],
)
def test_a_wrong_line_is_an_error_with_its_number(text, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        listed(tmp_path, text, classes="run\nwalk\n")


@pytest.mark.parametrize(
    ("label", "rule"),
    [
        ("2", "the labels are 0 to 1; labels count from 0"),
        ("-1", "the labels are 0 to 1; labels count from 0"),
        ("x", "it is not one of the class names in {}/classes.txt"),
    ],
)
def test_a_label_that_is_none_of_the_named_classes_is_kept_as_wrong_with_its_line(label, rule, tmp_path):
    catalogue = listed(tmp_path, f"a.mp4 walk\nb,c.mp4 {label}\n", classes="run\nwalk\n")
    assert [video.label for video in catalogue.train] == [1, NO_LABEL]
    file = tmp_path / "train.txt"
    assert catalogue.wrong_labels() == {
        str(tmp_path / "b,c.mp4"): f"{file}:2: label {label!r}: {rule.format(tmp_path)}"
    }


@pytest.mark.parametrize("odd", ["1O", "-1", "label"])
def test_one_label_that_is_no_number_among_numbers_is_wrong_and_no_class(odd, tmp_path):
    catalogue = listed(tmp_path, f"with space.mp4 {odd}\na.mp4 0\n")
    assert catalogue.classes == ["0"]
    rule = "it is not a number from 0, as the labels of other lines are"
    assert list(catalogue.wrong_labels().values()) == [f"{tmp_path}/train.txt:1: label {odd!r}: {rule}"]


def test_labels_that_are_all_below_0_are_no_classes(tmp_path):
    with pytest.raises(ValueError, match=r"train.txt:1: label '-1', and no line has a label from 0 on"):
        listed(tmp_path, "a.mp4 -1\nb,c.mp4 -1\n")


def test_a_label_out_of_range_is_wrong_whichever_reader_gives_it():
    videos = [[Video("a", 1)], [Video("b", 2)], [Video("c", -3)]]
    assert Catalogue(["run", "walk"], *videos).wrong_labels() == {
        "b": "label 2: the labels are 0 to 1",
        "c": "label -3: the labels are 0 to 1",
    }


def test_repeated_videos_are_told(tmp_path, caplog):
    listed(tmp_path, "a.mp4 0\na.mp4 0\nb,c.mp4 3\n")
    assert "train.txt: 1 of 3 lines repeat a video" in caplog.text


def test_a_list_that_is_no_text_or_empty_is_named(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"gr\xf6\xdfe.mp4 0\n")
    with pytest.raises(ValueError, match=r"bad.txt is not a text file in UTF-8"):
        read_list(str(tmp_path / "bad.txt"), "x", None, ".", None)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"the list \S*empty.txt is empty"):
        read_list(str(tmp_path / "empty.txt"), "x", None, ".", None)


@pytest.mark.parametrize("text", ["1 A\n3 B\n", "1 A\n2 B C\n"])
def test_a_malformed_class_list_of_ucf101_is_named_with_its_line(text, ucf101):
    next(ucf101.rglob("classInd.txt")).write_text(text)
    with pytest.raises(ValueError, match=r"classInd.txt: expected '2 <class>' as class 2, found"):
        read_ucf101(str(ucf101), split=1)
