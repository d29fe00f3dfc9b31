"""tubelet transcode, as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tubelet.commands.transcode import _data_set, run
from tubelet.video.encode import Encoding, encode
from tubelet.video.index import append_entries
from tubelet.video.probe import probe
from tubelet.video.pyav import LinearReader, write_video
from tubelet.video.scan import files_below
from tubelet.video.transcode import RECORD, read_record

TRANSCODE = [sys.executable, "-c", "from tubelet.commands.main import main; main()", "transcode"]


def transcode(*arguments, cwd):
    command = [*TRANSCODE, *arguments, "--num-workers", "2"]
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)


def write(path: Path, seed: int, num_frames: int = 12, size: tuple[int, int] = (32, 40), **options: str) -> None:
    """Noise that moves, so that frames refer to one another."""
    path.parent.mkdir(exist_ok=True)
    ground = np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)
    write_video(str(path), (np.roll(ground, 3 * i, axis=1) for i in range(num_frames)), fps=8, **options)


def refused(arguments, monkeypatch):
    """What the command in this process ends with."""
    monkeypatch.setattr(sys, "argv", ["tubelet transcode", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def factor(printed):
    """The measured one, and the last line but one, which is the verdict."""
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()
    (told,) = [line for line in lines if "times as fast (" in line]
    return float(told.split()[0]), lines[-2]


def test_large_frames_in_long_groups_would_pay_and_nothing_is_written(tmp_path):
    write(tmp_path / "old/a.mp4", seed=0, num_frames=70, size=(480, 640), g="250")
    printed = transcode("old", "--short-side", "64", "--out", "new", cwd=tmp_path)
    measured, verdict = factor(printed)
    assert measured > 2
    assert verdict == "it would pay (worth it from 1.3 times as fast on)"
    assert printed.stdout.splitlines()[-1] == "nothing has been written; with --yes all videos are re-encoded"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_files_of_key_frames_would_not_gain_by_long_groups(tmp_path):
    write(tmp_path / "a.mp4", seed=0, num_frames=90, size=(240, 320))
    (tmp_path / "old").mkdir()
    list(encode(str(tmp_path / "a.mp4"), str(tmp_path / "old/a.mp4"), Encoding(short_side=240, gop=1, crf=20)))
    measured, verdict = factor(transcode("old", "--gop", "90", cwd=tmp_path))
    assert measured < 1.3
    assert verdict == "it would not pay: leave the files as they are (worth it from 1.3 times as fast on)"


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """(folder, what --yes printed) of lists in which a file is broken and another is not on disk."""
    folder = tmp_path_factory.mktemp("listed")
    for i in range(4):
        write(folder / f"old/{i}.mp4", i)
    (folder / "old/3.mp4").write_text("<html>404</html>")
    (folder / "old/train.txt").write_text("0.mp4 jump\n1.mp4 run\n")
    (folder / "old/val.txt").write_text("2.mp4 jump\n3.mp4 run\nlost.mp4 run\n")
    lists = ["data=list", "data.train=old/train.txt", "data.val=old/val.txt", "data.root=old"]
    return folder, transcode(*lists, "--out", "new", "--yes", cwd=folder)


def test_what_could_not_be_re_encoded_is_named_and_the_exit_code_is_1(listed):
    folder, printed = listed
    assert printed.returncode == 1, printed.stderr
    reason = f"{folder}/old/3.mp4: cannot open: Invalid data found when processing input"
    told = printed.stdout.splitlines()
    assert told[-6:] == [
        "3 of 4 videos are in new, and 2 annotation files",
        "listed, and not on disk: 1",
        "    old/lost.mp4",
        "failed, and left out: 1",
        f"    {reason}",
        "written: new/transcode.json; train with data.root=new",
    ]
    report = json.loads((folder / "new/transcode.json").read_text())
    assert report["failed"] == {f"{folder}/old/3.mp4": reason}
    assert (report["num_videos"], report["num_done"], report["damaged"]) == (4, 3, {})
    assert report["missing"] == ["old/lost.mp4"]
    assert report["encoding"] == {"short_side": 320, "gop": 12, "crf": 20}
    assert [Path(one["path"]).name for one in report["measured"]["videos"]] == ["0.mp4", "1.mp4", "2.mp4"]
    assert sorted(path.name for path in (folder / "new").iterdir()) == sorted(
        [RECORD, "0.mp4", "1.mp4", "2.mp4", "train.txt", "val.txt", "transcode.json"]
    )


def test_the_measured_files_are_read_as_the_config_and_the_index_say(listed, monkeypatch):
    folder, _ = listed
    monkeypatch.chdir(folder)
    lists = ["data=list", "data.train=old/train.txt", "data.val=old/val.txt", "data.root=old"]
    path = str(folder / "old/0.mp4")
    append_entries(folder / "index.jsonl", probe(path))
    data = _data_set([*lists, "data.reader=pyav", "data.index=index.jsonl"], 320)
    assert (data.reader, data.known.get("old/0.mp4").num_frames, data.known.get("old/1.mp4")) == ("pyav", 12, None)
    assert "data.reader=av is unknown; the readers are auto, pyav" in refused([*lists, "data.reader=av"], monkeypatch)


def killed_after(number, process, folder):
    """Sends nothing before `number` files are finished; gives how many lines the record has."""
    while len(read_record(str(folder))) < number:
        assert process.poll() is None
        time.sleep(0.01)


def check_whole(old: Path, new: Path) -> None:
    assert [os.path.relpath(path, new) for path in files_below(str(new))] == [
        os.path.relpath(path, old) for path in files_below(str(old))
    ]
    for path in files_below(str(new)):
        with LinearReader(path) as opened:
            assert opened.num_frames == 40
    assert not list(new.rglob("*.partial"))


def test_what_was_killed_is_finished_by_the_same_command_with_no_broken_file(tmp_path):
    for i in range(16):
        write(tmp_path / f"old/{i:02d}.mp4", i, num_frames=40, size=(128, 160))
    arguments = ["old", "--out", "new", "--yes", "--num-workers", "2"]
    process = subprocess.Popen(
        [*TRANSCODE, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    killed_after(5, process, tmp_path / "new")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_record(str(tmp_path / "new"))
    assert 5 <= len(before) < 16
    for path in files_below(str(tmp_path / "new")):
        with LinearReader(path) as opened:
            assert opened.num_frames == 40
    changed = {path: (tmp_path / "new" / path).stat().st_mtime_ns for path in before}
    printed = transcode(*arguments, cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert f"{len(before)} of 16 videos are in new already, so nothing is measured" in printed.stdout
    assert {path: (tmp_path / "new" / path).stat().st_mtime_ns for path in before} == changed
    check_whole(tmp_path / "old", tmp_path / "new")


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(tmp_path):
    for i in range(16):
        write(tmp_path / f"old/{i:02d}.mp4", i, num_frames=40, size=(128, 160))
    command = [*TRANSCODE, "old", "--out", "new", "--yes", "--num-workers", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    killed_after(3, process, tmp_path / "new")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-2:] == ["what is finished is in new; the same command goes on", "interrupted"]
    assert 3 <= len(read_record(str(tmp_path / "new"))) < 16
    assert not list((tmp_path / "new").rglob("*.partial"))
    assert not (tmp_path / "new/transcode.json").exists()


def test_what_makes_no_sense_is_an_error_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    lists = ["data=list", f"data.train={tmp_path}/a.txt", f"data.val={tmp_path}/a.txt", f"data.root={tmp_path}"]
    (tmp_path / "a.txt").write_text("frames 0\n")
    for arguments, told in (
        (["data=list", "data.trian=x"], "data.trian"),
        ([str(tmp_path)], "no video file in it or below"),
        ([str(tmp_path), "clip.stride=2"], "clip.stride=2: beside a folder, only options can be given"),
        (["data=motion", "--gop", "0"], "--gop 0 is not a positive number"),
        (["data=motion", "--crf", "52"], "--crf 52 is not a number from 1 to 51"),
        (["data=motion", "--yes"], "--yes needs --out FOLDER"),
        (["data=motion", "--short-side", "200"], "--short-side 200 is less than clip.resize=256"),
        (lists, "frames is a folder of frames; only video files can be re-encoded"),
    ):
        assert told in refused(arguments, monkeypatch)


@pytest.mark.skipif("TUBELET_ASSETS" not in os.environ, reason="TUBELET_ASSETS names no folder of real files")
def test_ucf101_should_be_left_as_it_is(tmp_path):
    root = f"{os.environ['TUBELET_ASSETS']}/ucf101"
    measured, verdict = factor(transcode("data=ucf101", f"data.root={root}", "data.split=4", cwd=tmp_path))
    assert measured < 1
    assert verdict.startswith("it would not pay")
