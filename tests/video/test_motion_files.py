"""The generated data on disk: whole or absent, and the same files for the same seed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tubelet.video import motion
from tubelet.video.motion import CLASSES, FPS, NUM_FRAMES, SIDE, read_motion, render
from tubelet.video.open import open_video

FEW = {"train": 16, "val": 8, "test": 8}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("motion") / "data"
    read_motion(str(root), **FEW, seed=0)
    return root


def test_every_split_holds_as_many_videos_of_each_class(generated: Path):
    catalogue = read_motion(str(generated), **FEW, seed=0)
    assert catalogue.classes == CLASSES
    for split, number in FEW.items():
        videos = getattr(catalogue, split)
        assert Counter(video.label for video in videos) == dict.fromkeys(range(8), number // 8)
        for video in videos:
            assert Path(video.path).parent == generated / split / CLASSES[video.label]


def test_twins_are_twins_of_each_other(generated: Path):
    catalogue = read_motion(str(generated), **FEW, seed=0)
    assert sorted(catalogue.twins) == list(range(8))
    for label, twin in catalogue.twins.items():
        assert twin != label
        assert catalogue.twins[twin] == label
    assert {CLASSES[a]: CLASSES[b] for a, b in catalogue.twins.items() if CLASSES[a] in dict(motion.TWINS)} == dict(
        motion.TWINS
    )


def test_a_file_shows_the_video_of_its_own_seed(generated: Path):
    # The second video of "moves_down" in the training split: number 8 + 2, of split 0, of seed 0.
    path = generated / "train" / "moves_down" / "00001.mp4"
    expected = np.stack(list(render(2, np.random.default_rng((0, 0, 10)))))  # (T, H, W, C)
    with open_video(str(path)) as opened:
        assert (opened.num_frames, opened.size, opened.fps) == (NUM_FRAMES, (SIDE, SIDE), FPS)
        shown = opened.read(range(NUM_FRAMES)).permute(0, 2, 3, 1).numpy()
    # H.264 keeps colours at half the resolution, so the shape's edge differs and little else: 2 grey levels were seen.
    assert np.abs(shown.astype(int) - expected).mean() < 5


def test_files_hold_key_frames_only(generated: Path):
    paths = list((generated / "val").rglob("*.mp4"))
    assert len(paths) == 8
    for path in paths:
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.is_keyframe for packet in packets] == [True] * NUM_FRAMES


def test_no_two_videos_are_the_same(generated: Path):
    videos = [data for name, data in contents(generated).items() if name.endswith(".mp4")]
    assert len(set(videos)) == len(videos) == sum(FEW.values())


def test_the_same_seed_gives_identical_files_at_any_number_of_processes(
    generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        read_motion(str(tmp_path / str(cores)), **FEW, seed=0)
        assert contents(tmp_path / str(cores)) == contents(generated)


def test_another_seed_gives_other_videos(generated: Path, tmp_path: Path):
    read_motion(str(tmp_path / "other"), **FEW, seed=1)
    first, second = contents(generated), contents(tmp_path / "other")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_more_videos_begin_with_the_same_ones(generated: Path, tmp_path: Path):
    read_motion(str(tmp_path / "more"), train=24, val=8, test=8, seed=0)
    first, more = contents(generated), contents(tmp_path / "more")
    assert {name: more[name] for name in first if name != motion.MANIFEST} == {
        name: data for name, data in first.items() if name != motion.MANIFEST
    }
    assert len(more) == len(first) + 8


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"train": 24}, {"val": 16}, {"test": 16}], ids=["seed", "train", "val", "test"]
)
def test_a_folder_generated_otherwise_is_an_error_that_names_both(change: dict[str, int], generated: Path):
    before = contents(generated)
    with pytest.raises(ValueError, match=r"was generated as .*'train': 16.*, not as "):
        read_motion(str(generated), **{**FEW, "seed": 0, **change})
    assert contents(generated) == before


def test_a_folder_of_another_version_of_the_generator_is_an_error(generated: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(motion, "VERSION", motion.VERSION + 1)
    with pytest.raises(ValueError, match="was generated as"):
        read_motion(str(generated), **FEW, seed=0)


def test_a_folder_that_is_not_motion_is_an_error_and_stays_as_it_is(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"no folder of generated motion videos: .*: data=folder data.root="):
        read_motion(str(tmp_path), **FEW, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_has_lost_a_video_is_an_error(tmp_path: Path):
    numbers = FEW | {"test": 16}
    read_motion(str(tmp_path / "data"), **numbers, seed=0)
    next((tmp_path / "data/test").rglob("*.mp4")).unlink()
    with pytest.raises(ValueError, match=r"holds 15 of its 16 test videos; delete this folder"):
        read_motion(str(tmp_path / "data"), **numbers, seed=0)


@pytest.mark.parametrize("number", [0, 7, 12, -8])
def test_a_number_that_is_no_multiple_of_the_classes_is_an_error_before_anything_is_written(
    number: int, tmp_path: Path
):
    with pytest.raises(ValueError, match=rf"data\.val={number} is not a multiple of the 8 classes"):
        read_motion(str(tmp_path / "data"), train=8, val=number, test=8, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_generation_leaves_nothing_behind(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(done: Iterator, *args: object, **options: object) -> Iterator:
        yield next(done)  # a video is written
        assert list(tmp_path.rglob("*.mp4"))
        raise error("stop")

    with monkeypatch.context() as patch:
        patch.setattr(motion, "tqdm", interrupted)
        with pytest.raises(error, match="stop"):
            read_motion(str(tmp_path / "data"), **FEW, seed=0)
    assert list(tmp_path.iterdir()) == []
    assert len(read_motion(str(tmp_path / "data"), **FEW, seed=0).train) == 16


def test_what_a_killed_generation_left_is_removed_after_an_hour(tmp_path: Path):
    for name, age in (("data.partial-old", 4000), ("data.partial-new", 60), ("other.partial-old", 4000)):
        (tmp_path / name / "train").mkdir(parents=True)
        changed = time.time() - age
        os.utime(tmp_path / name, (changed, changed))
    read_motion(str(tmp_path / "data"), **FEW, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.partial-new", "other.partial-old"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_a_generation_killed_in_the_middle_leaves_no_folder_of_that_name(tmp_path: Path):
    root = tmp_path / "data"
    code = f"from tubelet.video.motion import read_motion; read_motion({str(root)!r}, 80000, 8, 8, 0)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("data.partial-*/train/*/*.mp4")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the workers too, which are of its session
        process.wait()
    assert list(tmp_path.glob("data.partial-*/train/*/*.mp4"))
    assert not root.exists()
    read_motion(str(root), **FEW, seed=0)
    assert json.loads((root / motion.MANIFEST).read_text()) == {"version": motion.VERSION, **FEW, "seed": 0}
