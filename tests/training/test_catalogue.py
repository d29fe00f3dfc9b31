"""From the `data` node of a config to the videos: what stands beside the arguments of a data set works for all."""

import pytest

from tubelet.training.build_data import build_catalogue
from tubelet.training.launch import compose_config


@pytest.fixture
def listed(tmp_path):
    """A list of 8 videos of label 0, 4 of label 1, 2 of label 2, and one of each for validation; all on disk."""
    lines = [(f"{label}_{i}.mp4", label) for label, number in enumerate((8, 4, 2)) for i in range(number)]
    held_out = [(f"val_{label}.mp4", label) for label in range(3)]
    for file, rows in (("train.txt", lines), ("val.txt", held_out)):
        (tmp_path / file).write_text("".join(f"{name} {label}\n" for name, label in rows))
        for name, _ in rows:
            (tmp_path / name).touch()
    return tmp_path


def built(root, *overrides, data="list", needed=("train", "val", "test"), trained_on=("train",)):
    own = [f"data.train={root}/train.txt", f"data.val={root}/val.txt"] if data == "list" else []
    cfg = compose_config("train", ["run_dir=x", "name=x", f"data={data}", f"data.root={root}", *own, *overrides])
    return build_catalogue(cfg.data, needed, trained_on)


def labels(videos):
    return [video.label for video in videos]


def test_classes_of_a_list_are_taken_in_the_order_asked_for(listed):
    catalogue = built(listed, "data.classes=[2,0]")
    assert catalogue.classes == ["2", "0"]
    assert labels(catalogue.train) == [1] * 8 + [0] * 2
    assert labels(catalogue.val) == [1, 0]


def test_the_seed_of_the_run_chooses_the_share_unless_it_is_given(listed):
    first = built(listed, "data.fraction=0.5").train
    assert labels(first) == [0] * 4 + [1] * 2 + [2]
    assert built(listed, "data.fraction=0.5", "seed=1").train != first
    assert built(listed, "data.fraction=0.5", "seed=1", "data.fraction_seed=0").train == first


def test_missing_videos_of_classes_that_are_not_taken_do_not_matter(listed):
    (listed / "1_3.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 14 listed train videos .*1_3.mp4; .*skip goes on without"):
        built(listed)
    assert len(built(listed, "data.classes=['0','2']").train) == 10
    assert labels(built(listed, "data.on_error=skip").train) == [0] * 8 + [1] * 3 + [2] * 2


def test_missing_training_videos_do_not_stop_an_evaluation(listed):
    for path in listed.glob("?_?.mp4"):
        path.unlink()
    assert labels(built(listed, needed=("test",)).test) == [0, 1, 2]


def test_missing_training_videos_stay_in_the_count_where_training_videos_are_evaluated(listed, caplog):
    (listed / "1_3.mp4").unlink()
    shown = built(listed, "data.on_error=skip", needed=("train",), trained_on=())
    assert labels(shown.train) == [0] * 8 + [1] * 4 + [2] * 2
    assert "1_3.mp4; they stay in the count, as answered wrongly" in caplog.text


def test_training_videos_with_several_labels_are_told_with_the_names_of_their_classes(listed, caplog):
    built(listed)
    assert "several labels" not in caplog.text
    with open(listed / "train.txt", "a") as file:
        file.write("0_1.mp4 2\n1_0.mp4 1\n2_1.mp4 0\n")  # the second says what was said before
    built(listed)
    told = f"2 train videos are listed with several labels, such as {listed}/0_1.mp4 (0, 2)"
    assert [record.getMessage() for record in caplog.records if "several" in record.getMessage()] == [told]


@pytest.mark.parametrize("spelling", ["{}", "./{}", "{root}/{}", "linked/{}", "deep/../{}"])
def test_test_videos_that_are_trained_on_are_told_once_however_they_are_spelt(spelling, listed, caplog):
    built(listed)
    assert "training videos too" not in caplog.text
    (listed / "linked").symlink_to(listed)
    (listed / "deep").mkdir()
    with open(listed / "train.txt", "a") as file:
        file.writelines(f"{spelling.format(name, root=listed)} {name[4]}\n" for name in ("val_1.mp4", "val_2.mp4"))
    built(listed)
    told = f"2 val videos are training videos too, such as {listed}/val_1.mp4: figures on them say nothing"
    assert [record.getMessage() for record in caplog.records] == [told]
    caplog.clear()
    built(listed, needed=("train",), trained_on=())  # an evaluation of the training videos
    assert not caplog.records


def test_an_official_split_whose_lists_share_a_video_is_told(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    marks = {"a.avi": 1, "b.avi": 2, "c.avi": 1}
    for name in marks:
        (tmp_path / "run" / name).touch()
    lines = [f"{name} {mark}" for name, mark in marks.items()]
    (tmp_path / "run_test_split1.txt").write_text("\n".join([*lines, "c.avi 2", ""]))
    built(tmp_path, data="hmdb51")
    assert f"1 val videos are training videos too, such as {tmp_path}/run/c.avi" in caplog.text


def test_labels_without_a_training_video_are_told_as_where_they_count_from_1(listed, caplog):
    text = (listed / "train.txt").read_text()
    (listed / "train.txt").write_text(text.replace(" 0\n", " 3\n"))
    (listed / "val.txt").write_text("val_1.mp4 1\n")
    built(listed)
    told = "no training video has label 0 (0); the labels go from 0 to 3"
    assert [record.getMessage() for record in caplog.records] == [told]
    caplog.clear()
    built(listed, needed=("test",))
    assert not caplog.records


def test_a_path_may_begin_with_the_home_folder(listed, monkeypatch):
    monkeypatch.setenv("HOME", str(listed.parent))
    lists = [f"data.{split}='~/{listed.name}/{split}.txt'" for split in ("train", "val")]
    cfg = compose_config("train", ["data=list", f"data.root='~/{listed.name}'", *lists])
    assert build_catalogue(cfg.data).train == built(listed).train
    assert cfg.data.root == str(listed)


def test_classes_of_a_folder_are_listed_alone(tmp_path):
    for name in ("walk", "jump"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.mp4").touch()
    (tmp_path / "single").mkdir()
    (tmp_path / "single/0.mp4").touch()  # could not be split
    catalogue = built(tmp_path, "data.classes=[walk,jump]", "data.fraction=0.3", data="folder")
    assert catalogue.classes == ["walk", "jump"]
    assert labels(catalogue.train) == [1, 0]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.fraction=half", "data.fraction=half is not a number"),
        ("data.fraction=0", "data.fraction=0 is not a share above 0 and up to 1"),
        ("data.classes=names.txt", "data.classes=names.txt is not a list of class names"),
        ("data.classes=[0,7]", "data.classes: '7' is not one of the 3 classes"),
        ("+data.fracton=0.5", "data.fracton: there is no such key; did you mean data.fraction?"),
    ],
)
def test_a_wrong_value_is_named(override, told, listed):
    with pytest.raises(ValueError, match=r"data\.") as caught:
        built(listed, override)
    assert told in str(caught.value)
