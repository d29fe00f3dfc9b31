"""Something-Something v2 and Jester as they are distributed, in their old releases and the newer ones."""

import json
from pathlib import Path

import pytest

from tubelet.video.annotations import Video
from tubelet.video.something import read_jester, read_ssv2

TEMPLATES = [
    "Moving [something] up",
    "Pretending to put [something similar] on [part]",
    "Tipping [something], so it falls",
]
BARE = ["Moving something up", "Pretending to put something similar on part", "Tipping something, so it falls"]
OLD = "something-something-v2-"


def rows(*numbered: tuple[str, int]) -> str:
    return json.dumps([{"id": i, "label": "x", "template": TEMPLATES[k], "placeholders": []} for i, k in numbered])


@pytest.fixture(params=["", OLD])
def ssv2(request, tmp_path: Path) -> Path:
    folder, before = tmp_path / "labels", request.param
    folder.mkdir()
    numbers = {BARE[k]: str(k) for k in (2, 0, 1)}  # values are text, in any order
    (folder / f"{before}labels.json").write_text(json.dumps(numbers), encoding="utf-8-sig")
    (folder / f"{before}train.json").write_text(rows(("10", 2), ("9", 0), ("11", 1)))
    (folder / f"{before}validation.json").write_text(rows(("12", 1), ("13", 0)))
    (folder / f"{before}test.json").write_text('[{"id":"15"},{"id":"14"}]')
    (folder / f"{before}test-answers.csv").write_text(f"14;{BARE[2]}\r\n15;{TEMPLATES[0]}\r\n", newline="")
    (tmp_path / "20bn-something-something-v2").mkdir()
    for i in range(9, 16):
        (tmp_path / f"20bn-something-something-v2/{i}.{'mp4' if i == 9 else 'webm'}").touch()
    return tmp_path


def test_ssv2_finds_labels_by_templates_without_brackets(ssv2):
    catalogue = read_ssv2(str(ssv2), "val")
    videos = ssv2 / "20bn-something-something-v2"
    assert catalogue.classes == BARE
    assert catalogue.train == [
        Video(str(videos / "10.webm"), 2),
        Video(str(videos / "9.mp4"), 0),
        Video(str(videos / "11.webm"), 1),
    ]
    assert [video.label for video in catalogue.val] == [1, 0]
    assert catalogue.test == catalogue.val
    assert not catalogue.missing


def test_ssv2_has_answers_to_its_test(ssv2):
    catalogue = read_ssv2(str(ssv2), "test")
    assert [(Path(video.path).name, video.label) for video in catalogue.test] == [("14.webm", 2), ("15.webm", 0)]
    next(ssv2.rglob("*answers.csv")).unlink()
    with pytest.raises(FileNotFoundError, match=r"no test-answers.csv or \S+ in it.*www.qualcomm.com"):
        read_ssv2(str(ssv2), "test")


def test_videos_are_taken_before_folders_of_frames_unless_those_are_asked_for(ssv2):
    for i in (*range(9, 12), 12, 13):
        (ssv2 / f"frames/{i}").mkdir(parents=True)
    assert read_ssv2(str(ssv2), "val").train[0].path.endswith("10.webm")
    assert read_ssv2(str(ssv2), "val", videos="frames").train[0] == Video(str(ssv2 / "frames/10"), 2)


def test_a_missing_video_is_known_by_where_it_would_lie(ssv2):
    (ssv2 / "20bn-something-something-v2/12.webm").unlink()
    assert read_ssv2(str(ssv2), "val").missing == {str(ssv2 / "12.webm")}


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("labels.json", json.dumps({BARE[0]: "0", BARE[1]: "2"}), r"not one for each class, from 0 to 1"),
        ("labels.json", "{", r"labels.json is not JSON"),
        ("validation.json", rows(("7", 0)).replace("Moving", "Moving all"), r"validation.json: video 7: 'Moving all"),
        ("validation.json", '[{"id":"7"}]', r"validation.json: video 7: it has no label"),
    ],
)
def test_wrong_files_are_named(file, text, told, ssv2):
    next(ssv2.rglob(f"*{file}")).write_text(text)
    with pytest.raises(ValueError, match=told):
        read_ssv2(str(ssv2), "val")


@pytest.fixture
def jester(tmp_path: Path) -> Path:
    """The old release: lists without header, and one folder of samples."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "jester-v1-labels.csv").write_bytes(b"Swiping Left\r\nNo gesture\r\nStop Sign\r\n")
    (folder / "jester-v1-train.csv").write_bytes(b"34870;Stop Sign\r\n56557;Swiping Left\r\n")
    (folder / "jester-v1-validation.csv").write_text("9223;No gesture\n")
    (folder / "jester-v1-test.csv").write_text("1\n2\n")
    for name in ("34870", "56557", "9223"):
        (tmp_path / "20bn-jester-v1" / name).mkdir(parents=True)
        (tmp_path / "20bn-jester-v1" / name / "00001.jpg").touch()
    return tmp_path


def test_samples_of_the_old_jester_are_folders_of_frames(jester):
    catalogue = read_jester(str(jester), "val")
    assert catalogue.classes == ["Swiping Left", "No gesture", "Stop Sign"]
    samples = jester / "20bn-jester-v1"
    assert catalogue.train == [Video(str(samples / "34870"), 2), Video(str(samples / "56557"), 0)]
    assert catalogue.val == catalogue.test == [Video(str(samples / "9223"), 1)]
    with pytest.raises(ValueError, match=r"jester-v1-test.csv: video 1: it has no label"):
        read_jester(str(jester), "test")


def test_samples_may_lie_in_root_or_be_videos(jester):
    (jester / "20bn-jester-v1/34870/00001.jpg").unlink()
    (jester / "20bn-jester-v1/34870").rmdir()
    (jester / "34870.webm").touch()
    (jester / "20bn-jester-v1/56557").rename(jester / "56557")
    assert read_jester(str(jester), "val").train == [
        Video(str(jester / "34870.webm"), 2),
        Video(str(jester / "56557"), 0),
    ]


def test_old_lists_without_their_list_of_labels_say_that_it_is_lacking(jester):
    next(jester.rglob("jester-v1-labels.csv")).unlink()
    told = r"jester-v1-train.csv does not number its classes; jester-v1-labels.csv, which does, is lacking beside it"
    with pytest.raises(FileNotFoundError, match=told):
        read_jester(str(jester), "val")


HEADER = "video_id,label,frames,label_id,shape,format\r\n"


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The newer release: a header, the classes' numbers in a column, and a folder of samples for each split."""
    lists = {
        "Train": f'{HEADER}8,Stop Sign,37,2,"(9, 8)",jpg\r\n3,Swiping Left,37,1,,jpg\r\n5,Drumming,9,0,,jpg\r\n',
        "Validation": f'{HEADER}4,Swiping Left,37,1,"(100, 176)",jpg\r\n',
        "Test": f'{HEADER.replace("video_id", "id")}6,,35,,"(100, 176)",jpg\r\n',
    }
    for name, text in lists.items():
        (tmp_path / f"{name}.csv").write_bytes(text.encode())
        for line in text.split("\r\n")[1:-1]:
            (tmp_path / name / line.split(",")[0]).mkdir(parents=True)
    return tmp_path


def test_the_newer_jester_numbers_its_classes_itself(newer):
    catalogue = read_jester(str(newer), "val")
    assert catalogue.classes == ["Drumming", "Swiping Left", "Stop Sign"]
    assert catalogue.train == [
        Video(str(newer / "Train/8"), 2),
        Video(str(newer / "Train/3"), 1),
        Video(str(newer / "Train/5"), 0),
    ]
    assert catalogue.val == [Video(str(newer / "Validation/4"), 1)]
    with pytest.raises(ValueError, match=r"Test.csv: video 6: it has no label"):
        read_jester(str(newer), "test")


def test_a_newer_test_list_with_labels_can_be_tested_on(newer):
    (newer / "Test.csv").write_text(f"{HEADER}6,Drumming,35,0,,jpg\n")
    assert read_jester(str(newer), "test").test == [Video(str(newer / "Test/6"), 0)]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("37,1,", "37,2,", "Train.csv: its class numbers are not one for each class, from 0 to 1"),
        ("37,1,", "37,3,", "Train.csv: its class numbers are not one for each class, from 0 to 2"),
        ("video_id,", "name,", "Train.csv: its header 'name,label,.*' does not name the columns video_id and label"),
    ],
)
def test_a_header_that_does_not_number_classes_is_an_error(old, new, told, newer):
    file = newer / "Train.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=told):
        read_jester(str(newer), "val")
