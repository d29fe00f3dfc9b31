"""predictions.csv read back, and what two of them must share."""

import json

import pytest
import torch

from tubelet.analysis.evaluated import below_roots, check_comparable, read_evaluation
from tubelet.evaluation.results import Results
from tubelet.video.annotations import Video

PROTOCOL = "4 test videos of data/x, 1 x 1 views (clips x crops), 8 frames, stride 2, crop 48"
VIDEOS = [("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 2), ("d.mp4", 1)]


def make(folder, answers=(0, 1, 2, 1), videos=VIDEOS, protocol=PROTOCOL, status="finished", failed=()):
    """What an evaluation leaves, written by the code that writes it."""
    folder.mkdir(parents=True)
    listed = [Video(path, label) for path, label in videos]
    probabilities = torch.eye(3)[list(answers)]
    bad = torch.tensor([path in failed for path, _ in videos])
    labels = torch.tensor([label for _, label in videos])
    results = Results(listed, ["red", "green", "blue"], labels, bad, probabilities)
    results.write_predictions(str(folder / "predictions.csv"))
    record = {"status": status, "test": {"protocol": protocol, "top1": results.top(1)}}
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder


def refused(*folders, **options):
    with pytest.raises(ValueError, match=r".") as error:
        check_comparable(*map(read_evaluation, folders), options.get("protocols_may_differ", False))
    return str(error.value)


def test_answers_are_read_as_they_were_counted(tmp_path):
    read = read_evaluation(make(tmp_path / "a", answers=(0, 2, 2, 1), failed=("c.mp4",)))
    assert read.right == {
        **{("a.mp4", "red"): True, ("b.mp4", "green"): False},
        **{("c.mp4", "blue"): False, ("d.mp4", "green"): True},
    }
    assert read.unreadable == {("c.mp4", "blue")}
    assert read.protocol == PROTOCOL
    assert read_evaluation(tmp_path / "a/predictions.csv").right == read.right


def test_the_same_videos_in_another_order_can_be_compared(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", videos=VIDEOS[::-1])
    check_comparable(read_evaluation(a), read_evaluation(b), False)


def test_other_protocols_are_refused_by_the_part_that_differs_unless_that_is_meant(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", protocol=PROTOCOL.replace("8 frames", "16 frames"))
    assert refused(a, b).startswith("the protocols differ: 8 frames against 16 frames; evaluate both")
    check_comparable(read_evaluation(a), read_evaluation(b), True)


def on_disk(folder, root, videos=VIDEOS, protocol=PROTOCOL):
    """The evaluation of a machine whose videos lie in `root`."""
    there = [(f"{root}/{path}", label) for path, label in videos]
    make(folder, videos=there, protocol=protocol.replace("of data/x,", f"of split 1 of {root},"))
    (folder / "config.yaml").write_text(f"data: {{root: '{root}'}}")
    return folder


def test_the_same_videos_in_the_roots_of_two_machines_can_be_compared(tmp_path):
    folders = on_disk(tmp_path / "a", "/disk, old/x"), on_disk(tmp_path / "b", "/new/x")
    read = [read_evaluation(folder) for folder in folders]
    a, b = below_roots(*read)
    check_comparable(a, b, False)
    assert a.right == b.right
    assert list(a.right) == [("a.mp4", "red"), ("b.mp4", "green"), ("c.mp4", "blue"), ("d.mp4", "green")]
    with pytest.raises(ValueError, match="the videos differ: 4 only in "):
        check_comparable(*read, True)


def test_the_splits_of_two_roots_are_compared_without_the_roots(tmp_path):
    a, b = on_disk(tmp_path / "a", "/disk/x"), on_disk(tmp_path / "b", "/new/x")
    record = json.loads((b / "metrics.json").read_text())
    record["test"]["protocol"] = record["test"]["protocol"].replace("split 1", "split 2")
    (b / "metrics.json").write_text(json.dumps(record))
    assert refused(a, b).startswith("the protocols differ: 4 test videos of split 1 against 4 test videos of split 2;")


def test_a_copied_file_that_tells_no_root_has_that_of_the_other(tmp_path):
    folder = on_disk(tmp_path / "a", "/disk/x")
    copied = tmp_path / "copied.csv"
    copied.write_text((folder / "predictions.csv").read_text())
    a, b = below_roots(read_evaluation(folder), read_evaluation(copied))
    assert a.right == b.right


def test_a_file_without_its_record_has_no_protocol(tmp_path):
    (make(tmp_path / "a") / "metrics.json").unlink()
    assert read_evaluation(tmp_path / "a").protocol is None


def test_other_videos_are_refused_with_an_example_of_each_side(tmp_path):
    a = make(tmp_path / "a")
    b = make(tmp_path / "b", answers=(0, 1, 2), videos=[*VIDEOS[:2], ("e.mp4", 1)])
    told = f"the videos differ: 2 only in {a}, such as c.mp4; 1 only in {b}, such as e.mp4"
    assert refused(a, b, protocols_may_differ=True) == told


def test_other_labels_of_the_same_videos_are_refused(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", videos=[("a.mp4", 2), *VIDEOS[1:]])
    assert refused(a, b) == "the labels differ: a.mp4 is red and blue"


def test_a_run_that_did_not_finish_is_refused(tmp_path):
    folder = make(tmp_path / "a", status="interrupted")
    told = f"{folder / 'metrics.json'}: status=interrupted is not finished, so there is no test to compare"
    assert refused(folder, folder) == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("video,label\na,b\n", "is no predictions.csv: it has no column correct, predicted"),
        ("video,label,predicted,correct\n", "holds no videos"),
        ("video,label,predicted,correct\na,b,b,yes\n", ", line 2: correct=yes is neither 0 nor 1"),
        ("video,label,predicted,correct\na,b,b,1\na,b,b,1\n", ", line 3: a stands there twice"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, told):
    file = tmp_path / "x.csv"
    file.write_text(content)
    said = refused(file, file)
    assert said.startswith(str(file))
    assert said.removeprefix(str(file)).strip() == told.strip()


def test_a_damaged_config_is_named(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "config.yaml").write_text("data: [")
    assert refused(folder, folder).startswith(f"{folder / 'config.yaml'}: while parsing a flow")


def test_a_folder_without_predictions_is_named(tmp_path):
    file = tmp_path / "predictions.csv"
    assert refused(tmp_path, tmp_path).startswith(f"{file}: there is no such file; give a run that has been tested")
