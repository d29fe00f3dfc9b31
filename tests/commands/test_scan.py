"""tubelet scan, on generated files of every trouble."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import write_png

from tubelet.commands.scan import run
from tubelet.training.build_data import build_catalogue
from tubelet.training.launch import compose_config
from tubelet.video.index import INDEX_NAME, read_index
from tubelet.video.open import ReadOptions
from tubelet.video.pyav import write_video
from tubelet.video.scan import files_below, update_index

SCAN = [sys.executable, "-c", "from tubelet.commands.main import main; main()", "scan"]
LISTS = ["data=list", "data.train=train.txt", "data.val=val.txt", "clip.num_frames=4", "clip.stride=3"]  # spans 10


def scan(*arguments, cwd):
    command = [*SCAN, *arguments, "--num-workers", "2"]
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)


def write(path: Path, seed: int, num_frames: int = 12) -> None:
    frames = np.random.default_rng(seed).integers(0, 255, (num_frames, 32, 40, 3)).astype(np.uint8)
    write_video(str(path), frames, fps=8, qp="30")


def refused(arguments, monkeypatch):
    """What a scan in this process ends with."""
    monkeypatch.setattr(sys, "argv", ["tubelet scan", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(folder of four videos of two classes in two lists, what a scan of it printed)."""
    folder = tmp_path_factory.mktemp("sound")
    for i in range(4):
        write(folder / f"{i}.mp4", i)
    (folder / "train.txt").write_text("0.mp4 jump\n1.mp4 run\n")
    (folder / "val.txt").write_text("2.mp4 jump\n3.mp4 run\n")
    return folder, scan(*LISTS, cwd=folder)


def test_a_sound_data_set_ends_with_code_0_an_index_a_report_and_pictures(sound):
    folder, printed = sound
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.splitlines()[-2:] == [
        f"index: {INDEX_NAME}",
        f"written: runs/scan/{folder.name}/{{scan.json,videos.png,contact_sheet.png,classes.png}}",
    ]
    report = json.loads((folder / "runs/scan" / folder.name / "scan.json").read_text())
    assert report["wrong"] is False
    assert (report["num_videos"], report["num_readable"], report["clip_frames"]) == (4, 4, 10)
    assert report["counts"] == {"train": {"jump": 1, "run": 1}, "val and test": {"jump": 1, "run": 1}}
    for name in ("videos.png", "contact_sheet.png", "classes.png"):
        assert (folder / "runs/scan" / folder.name / name).read_bytes().startswith(b"\x89PNG")
    assert set(read_index(folder / INDEX_NAME)) == {str(folder / f"{i}.mp4") for i in range(4)}


def test_files_that_have_not_changed_are_not_looked_at_again(sound, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(sound[0], folder)  # with the times of the files
    index, paths = folder / INDEX_NAME, [str(folder / f"{i}.mp4") for i in range(4)]
    before = index.read_text()
    found = update_index(index, paths, num_workers=2, seconds=60)
    assert set(found) == set(paths)
    assert index.read_text() == before
    write(folder / "2.mp4", seed=9, num_frames=15)
    assert update_index(index, paths, num_workers=2, seconds=60)[paths[2]].num_frames == 15
    assert [json.loads(line)["path"] for line in index.read_text().removeprefix(before).splitlines()] == ["2.mp4"]
    os.remove(folder / "3.mp4")
    assert set(update_index(index, paths, num_workers=2, seconds=60, again=True)) == set(paths[:3])
    assert len(index.read_text().splitlines()) == 4 + 1 + 3


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """(folder of lists that name a file of every trouble, what a scan of it printed)."""
    folder = tmp_path_factory.mktemp("troubled")
    write(folder / "good.mp4", seed=1)
    write(folder / "short.mp4", seed=2, num_frames=5)
    shutil.copy(folder / "good.mp4", folder / "copy.mp4")
    (folder / "empty.mp4").touch()
    (folder / "page.mp4").write_text("<html>404</html>")
    (folder / "cut.mp4").write_bytes((folder / "good.mp4").read_bytes()[:-700])
    (folder / "train.txt").write_text("good.mp4 0\nempty.mp4 0\npage.mp4 1\nabsent.mp4 0\nshort.mp4 1\n")
    (folder / "val.txt").write_text("copy.mp4 0\ncut.mp4 0\nlost.mp4 0\n")
    printed = scan(*LISTS, "--out", "told", cwd=folder)
    return printed, json.loads((folder / "told/scan.json").read_text())


def test_every_trouble_is_named_and_the_exit_code_is_1(troubled):
    printed, report = troubled
    assert printed.returncode == 1, printed.stderr
    assert report["wrong"] is True
    assert report["missing"] == ["absent.mp4", "lost.mp4"]
    assert {one["path"]: one["stage"] for one in report["broken"]} == {
        "empty.mp4": "open",
        "page.mp4": "open",
        "cut.mp4": "open",
    }
    assert report["too_short"] == {"short.mp4": 5}
    copies = [{"paths": ["copy.mp4", "good.mp4"], "splits": ["train", "val and test"], "classes": ["0"]}]
    assert report["copies"] == copies
    assert "copies across splits: 1\n    copy.mp4 = good.mp4 (train, val and test)\n" in printed.stdout
    assert "classes without a video in val and test: 1\n    1\n" in printed.stdout
    assert all(line.startswith("looking at videos") for line in printed.stderr.splitlines() if line), printed.stderr


def test_all_wrong_labels_are_told_where_training_stops_at_the_first(sound, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(sound[0], folder)
    (folder / "train.txt").write_text("0.mp4 jump\n1.mp4 rum\n")
    (folder / "val.txt").write_text("2.mp4 run\n3.mp4 7\n")
    (folder / "names.txt").write_text("jump\nrun\n")
    lists = [*LISTS, f"data.root={folder}", "data.names=names.txt"]
    printed = scan(*lists, "--out", "told", cwd=folder)
    assert printed.returncode == 1, printed.stderr
    wrong = {
        str(folder / "1.mp4"): "train.txt:2: label 'rum': it is not one of the class names in names.txt",
        str(folder / "3.mp4"): "val.txt:2: label '7': the labels are 0 to 1; labels count from 0",
    }
    assert json.loads((folder / "told/scan.json").read_text())["wrong_labels"] == wrong
    named = [f"    {path}: {what}" for path, what in wrong.items()]
    assert "\n".join(["wrong labels: 2", *named]) in printed.stdout
    first, what = next(iter(wrong.items()))
    told = re.escape(f"{what} ({first}); 1 more: tubelet scan names all wrong labels")
    with contextlib.chdir(folder), pytest.raises(ValueError, match=f"^{told}$"):
        build_catalogue(compose_config("train", [*lists, "data.classes=[run]"]).data)


def test_a_scan_that_was_killed_goes_on_where_it_stopped(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i:02d}.mp4", i, num_frames=60)
    process = subprocess.Popen([*SCAN, ".", "--num-workers", "1"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    index = tmp_path / INDEX_NAME
    while len(read_index(index)) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = index.read_bytes()
    known = len(read_index(index))
    assert 3 <= known < 30
    printed = scan(".", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    lines = index.read_text().splitlines()
    assert index.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert sorted(json.loads(line)["path"] for line in lines) == [f"{i:02d}.mp4" for i in range(30)]


def test_ctrl_c_leaves_a_usable_index_and_says_so(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i:02d}.mp4", i, num_frames=60)
    process = subprocess.Popen([*SCAN, ".", "--num-workers", "1"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not read_index(tmp_path / INDEX_NAME):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-2:] == [f"what was looked at is in {INDEX_NAME}; the same command goes on", "interrupted"]
    assert 0 < len(read_index(tmp_path / INDEX_NAME)) < 30


def test_a_folder_in_which_nothing_can_be_written_needs_the_index_elsewhere(sound, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "index.jsonl"  # below a file, where not even an administrator can write
    told = f"error: cannot write the index {place}: Not a directory; put it elsewhere: data.index=path/to/index.jsonl"
    assert refused([str(sound[0]), f"data.index={place}"], monkeypatch) == told
    elsewhere, path = tmp_path / "index.jsonl", str(sound[0] / "0.mp4")
    update_index(elsewhere, [path], num_workers=1, seconds=60)
    assert set(read_index(elsewhere)) == {path}


HOLD = "import sys, time; from tubelet.video.alone import alone; from pathlib import Path\n"
HOLD += "with alone(Path(sys.argv[1]), 'busy'): print('held', flush=True); time.sleep(600)"


def test_a_second_scan_of_one_index_stops_until_the_first_ends_even_by_a_kill(sound, tmp_path, monkeypatch):
    index = tmp_path / "index.jsonl"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(index)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        told = f"error: another scan is writing the index {index}; wait for it, or set data.index=FILE"
        assert refused([str(sound[0]), f"data.index={index}"], monkeypatch) == told
        assert index.read_bytes() == b""
        first.kill()
    path = str(sound[0] / "1.mp4")
    assert set(update_index(index, [path], num_workers=1, seconds=60)) == {path}


def test_what_scan_does_not_understand_is_an_error_in_one_line(tmp_path, monkeypatch):
    for arguments, told in (
        (["data=list", "data.trian=x"], "data.trian"),
        ([str(tmp_path)], "no video file in it or below; folders of frames are looked for with data.reader=frames"),
        (["no/such/folder"], "error: no/such/folder: there is no such folder; data=NAME names a data set"),
        ([__file__], f"{__file__}: it is a file; its folder is scanned by: tubelet scan {Path(__file__).parent}"),
        ([str(tmp_path), "data.reader=frames"], "no folder of frames in it or below"),
        ([str(tmp_path), "data.reader=pyav"], "data.reader=pyav: beside a folder, it can only be frames"),
        ([str(tmp_path), "data.first_frame=3"], "they are looked for with data.reader=frames"),
        ([str(tmp_path), "data.reader=frames", "data.first_frame=a"], "data.first_frame=a is not a number from 0"),
        ([str(tmp_path), "data.reader=frames", "data.frame_names=img"], "data.frame_names=img needs one place"),
        (
            [str(tmp_path), "clip.stride=2"],
            "clip.stride=2: beside a folder, only data.index=FILE and data.reader=frames can be",
        ),
        (["data=motion", "--seconds", "0"], "--seconds 0.0 is not a positive number"),
    ):
        assert told in refused(arguments, monkeypatch)


def write_frames(folder: Path, seed: int, names: list[str]) -> None:
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 255, (len(names), 3, 32, 40)).astype(np.uint8)
    for name, image in zip(names, images, strict=True):
        write_png(torch.from_numpy(image), str(folder / name))


def test_folders_of_frames_are_read_whole_by_the_names_of_their_data_set_and_copies_are_found(tmp_path):
    names = [f"img_{number}.png" for number in (5, 6, 7)]
    write_frames(tmp_path / "a", 1, names)
    write_frames(tmp_path / "b", 1, [f"img_{number}.png" for number in (8, 9, 10)])
    write_frames(tmp_path / "c", 2, [*names, "flow_5.png"])
    (tmp_path / "c/img_6.png").write_bytes((tmp_path / "c/img_6.png").read_bytes()[:-300])
    (tmp_path / "train.txt").write_text("a 0\nc 0\n")
    (tmp_path / "val.txt").write_text("a 0\nb 0\n")
    first = ["data.frame_names='img_{:d}.png'", "data.first_frame=5"]
    printed = scan(*LISTS, *first, "--out", "told", cwd=tmp_path)
    assert printed.returncode == 1, printed.stderr
    report = json.loads((tmp_path / "told/scan.json").read_text())
    assert report["codecs"] == {"frames/png": 1}
    broken = {one["path"]: (one["stage"], one["reason"]) for one in report["broken"]}
    assert broken["b"] == ("open", "frame 5 is lacking, of 3 frames")
    assert broken["c"][0] == "decode"
    assert re.fullmatch(r"frame 1: img_6\.png: .+; 1 of 3 frames cannot be read", broken["c"][1])

    folder = tmp_path.rename(tmp_path.with_name("below"))
    index = folder / INDEX_NAME
    before = read_index(index)[str(folder / "a")]
    printed = scan(".", "data.reader=frames", "data.first_frame=5", cwd=folder)  # c holds two kinds of pictures
    assert "c: cannot open: flow_5.png and img_5.png may be of two videos" in printed.stdout
    assert read_index(index)[str(folder / "a")] == replace(before, frame_names=None)
    found = update_index(index, [str(folder / name) for name in "ab"], 2, 60, options=ReadOptions(first_frame=8))
    assert found[str(folder / "b")].digest == before.digest
    assert found[str(folder / "a")].stage == "open"


@pytest.mark.skipif("TUBELET_ASSETS" not in os.environ, reason="TUBELET_ASSETS names no folder of real files")
def test_of_real_troubled_files_the_broken_and_the_damaged_ones_are_named(tmp_path):
    found = update_index(tmp_path / "index", files_below(f"{os.environ['TUBELET_ASSETS']}/nasty"), 2, seconds=60)
    entries = {Path(path).name: entry for path, entry in found.items()}
    broken = {"audio_only.mp4", "copy_cut.mkv", "editlist_copy_cut.mp4", "garbage.mp4", "html_404.mp4"}
    broken |= {"real_decord_corrupted.mp4", "truncated_faststart.mp4", "truncated_no_moov.mp4", "zero_length.mp4"}
    assert {name for name, entry in entries.items() if entry.stage} == broken
    assert {name for name, entry in entries.items() if entry.damaged} == {
        "bitflip_h264.mp4",
        "missing_first_keyframe.ts",
        "resolution_change.ts",
        "truncated_vp9.webm",
        "truncated_xvid.avi",
    }
    wrong = {"open_gop.mp4", "xvid_bf2.avi", "mpeg2.mpg", "hevc_default_open_gop24.mp4", "editlist_gop12.mp4"}
    assert not any(entries[name].exact["decord"] for name in wrong)
