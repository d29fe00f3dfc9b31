"""Re-encoding a folder: what is finished is kept, what fails is named, names and places stay."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tubelet.video import transcode as module
from tubelet.video import trial
from tubelet.video.alone import alone
from tubelet.video.annotations import Video, read_folder
from tubelet.video.encode import Encoding
from tubelet.video.guarded import Outcome
from tubelet.video.index import Known, state_of
from tubelet.video.lists import read_list
from tubelet.video.open import ReadOptions, open_video
from tubelet.video.sampling import Dense
from tubelet.video.scan import files_below
from tubelet.video.transcode import (
    RECORD,
    Reencode,
    Unwritable,
    copy_annotations,
    finished,
    paths_below,
    read_record,
    transcode,
)
from tubelet.video.trial import NUM_CLIPS, Measured, ReadBoth, Sampled, spread

ENCODING = Encoding(short_side=320, gop=5, crf=20)


@pytest.fixture(scope="module")
def root(videos: list[Video], files: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos in two class folders, one of them an AVI; a broken and a damaged one; lists, and a hidden index."""
    top = tmp_path_factory.mktemp("old")
    for folder in ("jump", "run"):
        (top / folder).mkdir()
    for video in videos:
        shutil.copy2(video.path, top / ("run" if video.label else "jump"))
    files.write(str(top / "run/cut.avi"), range(60), codec="mpeg4", g=12)
    data = (top / "run/cut.avi").read_bytes()
    (top / "run/cut.avi").write_bytes(data[: len(data) // 2])
    (top / "run/page.webm").write_text("<html>404</html>")
    (top / "train.txt").write_text("jump/0.mp4 jump\nrun/cut.avi run\nrun/1.mp4 run\n")
    (top / "run/names.csv").write_text("jump\nrun\n")
    (top / ".tubelet_index.jsonl").write_text("{}\n")
    return top


@pytest.fixture(scope="module")
def new(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all re-encoded videos of `root`, with the record of them."""
    work = Reencode(str(root), str(tmp_path_factory.mktemp("new")), ENCODING)
    sources = paths_below(str(root), work.out, files_below(str(root)))
    done, failed = transcode(sources, work, num_workers=2, seconds=60)
    assert set(done) == set(sources) - {str(root / "run/page.webm")}
    broken = str(root / "run/page.webm")
    assert failed == {broken: f"{broken}: cannot open: Invalid data found when processing input"}
    return Path(work.out)


def test_videos_keep_their_frames_their_places_and_their_names(root: Path, new: Path, files: SimpleNamespace):
    kept = ["jump/0.mp4", "jump/3.mp4", "run/1.mp4", "run/2.mp4", "run/4.mp4", "run/5.mp4", "run/cut.avi"]
    assert sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()) == [RECORD, *kept]
    for path in kept:
        with open_video(str(root / path)) as old, open_video(str(new / path)) as opened:
            assert opened.name == "pyav_seek"
            assert opened.num_frames == old.num_frames
            numbers = files.numbers(old.read(range(old.num_frames)))
            assert files.numbers(opened.read(range(old.num_frames))) == numbers


def test_the_record_tells_of_each_file_what_it_was_made_from(root: Path, new: Path):
    record = read_record(str(new))
    assert len(record) == 7
    line = record["run/cut.avi"]
    state = (root / "run/cut.avi").stat()
    assert (line.num_bytes, line.changed, line.encoding) == (state.st_size, state.st_mtime_ns, ENCODING)
    assert line.new_bytes == (new / "run/cut.avi").stat().st_size
    assert "of 60 promised frames" in line.damaged
    assert [path for path, other in record.items() if other.damaged] == ["run/cut.avi"]


def test_class_folders_lists_and_annotations_go_on_with_another_root(root: Path, new: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(new, copy)
    assert copy_annotations(str(root), str(copy)) == ["train.txt", "run/names.csv"]
    assert (copy / "train.txt").read_bytes() == (root / "train.txt").read_bytes()
    assert not (copy / ".tubelet_index.jsonl").exists()
    lists = [
        read_list(str(place / "train.txt"), str(place / "train.txt"), None, str(place), None) for place in (root, copy)
    ]
    whole = tmp_path / "whole"
    shutil.copytree(root, whole, ignore=shutil.ignore_patterns("page.webm"))  # which is left out
    folders = [read_folder(str(place), val=0.4) for place in (whole, copy)]
    for (old, again), top in ((lists, root), (folders, whole)):
        assert again.missing == frozenset()
        assert again.classes == old.classes == ["jump", "run"]
        for split in ("train", "val"):
            expected = [(os.path.relpath(path, top), label) for path, label in getattr(old, split)]
            assert [(os.path.relpath(path, copy), label) for path, label in getattr(again, split)] == expected


def test_what_has_not_changed_is_not_done_again_and_what_has_is(
    root: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: list[Video]
):
    old, again = tmp_path / "old", tmp_path / "again"
    shutil.copytree(root, old)  # with the times of the files
    shutil.copytree(new, again)
    work = Reencode(str(old), str(again), ENCODING)
    sources = files_below(str(old))
    shutil.copy2(videos[4].path, old / "jump/0.mp4")  # another source
    os.utime(old / "jump/3.mp4")  # perhaps another
    (again / "run/1.mp4").unlink()
    (again / "run/2.mp4").write_bytes(b"cut")
    assert set(finished(sources, work)) == {str(old / path) for path in ("run/4.mp4", "run/5.mp4", "run/cut.avi")}
    assert finished(sources, Reencode(str(old), str(again), Encoding(320, 5, 21))) == {}
    asked: list[str] = []

    def note(_: object, paths: list[str], *others: object) -> Iterator[Outcome]:
        asked.extend(os.path.relpath(path, old) for path in paths)
        yield from ()

    monkeypatch.setattr(module, "in_children", note)
    transcode(sources, work, num_workers=2, seconds=60)
    assert asked == ["jump/0.mp4", "jump/3.mp4", "run/1.mp4", "run/2.mp4", "run/page.webm"]


def test_what_killed_processes_left_is_removed_and_a_cut_line_of_the_record_too(root: Path, new: Path, tmp_path: Path):
    again = tmp_path / "again"
    shutil.copytree(new, again)
    record = (again / RECORD).read_bytes()
    (again / RECORD).write_bytes(record + b'{"path": "run/pa')
    (again / "run/.page.webm.123.partial").touch()
    assert len(read_record(str(again))) == 7
    transcode([str(root / "run/1.mp4")], Reencode(str(root), str(again), ENCODING), num_workers=1, seconds=60)
    assert (again / RECORD).read_bytes() == record
    assert not list(again.rglob("*.partial"))
    (again / RECORD).write_bytes(record + b'{"path": "run/pa\n')
    with pytest.raises(ValueError, match=rf"{RECORD}:8 is no line of this version; take a new folder for --out"):
        read_record(str(again))


def test_a_second_process_in_the_same_folder_stops_and_leaves_what_the_first_is_writing(root: Path, tmp_path: Path):
    work = Reencode(str(root), str(tmp_path), ENCODING)
    (tmp_path / ".1.mp4.123.partial").touch()  # of a process that is at work
    with (
        alone(tmp_path / RECORD, "busy"),
        pytest.raises(OSError, match=rf"another tubelet transcode is writing into {tmp_path}; wait for it, or name"),
    ):
        transcode([str(root / "run/1.mp4")], work, num_workers=1, seconds=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".1.mp4.123.partial", RECORD]
    done, _ = transcode([str(root / "run/1.mp4")], work, num_workers=1, seconds=60)
    assert list(done) == [str(root / "run/1.mp4")]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_that_cannot_be_written_ends_the_work_and_leaves_nothing_half_made(root: Path, tmp_path: Path):
    (tmp_path / "run").touch()  # in the place of a folder
    work = Reencode(str(root), str(tmp_path), ENCODING)
    with pytest.raises(OSError, match=r"cannot write .*run.*: File exists"):
        transcode([str(root / "run/1.mp4")], work, num_workers=1, seconds=60)
    (found,) = work(str(root / "run/1.mp4"))
    assert isinstance(found, Unwritable)
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "run"]


def test_a_source_that_has_gone_is_named(tmp_path: Path):
    gone = str(tmp_path / "a.mp4")
    assert list(Reencode(str(tmp_path), str(tmp_path / "new"), ENCODING)(gone)) == [
        f"{gone}: cannot open: No such file or directory"
    ]


def test_a_place_that_is_not_its_own_is_refused(root: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="side by side, not one in the other"):
        paths_below(str(root), str(root / "new"), [])
    with pytest.raises(ValueError, match="side by side, not one in the other"):
        paths_below(str(root / "run"), str(root), [])
    (tmp_path / "mine.mp4").touch()
    with pytest.raises(ValueError, match="holds files, and none of them is from tubelet transcode"):
        paths_below(str(root), str(tmp_path), [])
    with pytest.raises(ValueError, match=r"mine\.mp4 is not below .*data\.root="):
        paths_below(str(root), f"{tmp_path}/absent", [str(tmp_path / "mine.mp4")])


def test_a_sample_has_one_video_of_each_part_of_the_list_and_is_always_the_same():
    paths = [f"{i:03d}" for i in range(100)]
    chosen = spread(paths[::-1] + paths, most=4)
    assert [int(path) // 25 for path in chosen] == [0, 1, 2, 3]
    assert spread(paths, most=4) == chosen
    assert spread(paths, most=4, seed=1) != chosen
    assert spread(["b", "a"], most=4) == ["a", "b"]
    assert spread([], most=4) == []


def test_a_sample_is_read_with_the_reader_of_training_and_what_the_index_says_of_the_old_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, asked = str(root / "run/1.mp4"), []
    known = Known(*state_of(path), 20, 25.0, has_keys=False, exact={})
    monkeypatch.setattr(trial, "read_clips", lambda file, choose, *how: asked.append((file, *how)))
    options = ReadOptions(short_side=64)
    *_, found = ReadBoth(str(tmp_path), ENCODING, Dense(4, 1, None), "pyav", {path: known}, options)(path)
    assert isinstance(found, Sampled)
    assert asked[0] == (path, "pyav", known, options)
    assert asked[1] == (f"{tmp_path}/{os.getpid()}.mp4", "pyav", None, options)
    assert len(asked) == 2 * (1 + NUM_CLIPS)


def test_the_factor_is_of_the_mean_costs_and_1_3_pays():
    def sampled(before: float, after: float) -> Sampled:
        return Sampled("a", before, after, bytes_before=70, bytes_after=30, encoding_seconds=5.0)

    measured = Measured((sampled(0.5, 0.25), sampled(0.2, 0.25)), {})
    assert [one.factor for one in measured.videos] == [2.0, 0.8]
    assert (measured.seconds, measured.num_bytes, measured.encoding_seconds) == ((0.35, 0.25), (70, 30), 5.0)
    assert measured.factor == pytest.approx(1.4)  # 0.35 / 0.25
    assert measured.pays
    assert Measured((sampled(1.3, 1.0),), {}).pays
    assert not Measured((sampled(1.29, 1.0),), {}).pays


def test_lines_of_the_record_are_plain_json(new: Path):
    for line in (new / RECORD).read_text().splitlines():
        assert set(json.loads(line)) == {
            "path",
            "num_bytes",
            "changed",
            "encoding",
            "num_frames",
            "new_bytes",
            "damaged",
        }
