"""What is found out about a file, and that a reader counts as exact only where it gives the right frames."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torchvision.io import write_png

from tubelet.video.index import Entry
from tubelet.video.open import ReadOptions
from tubelet.video.probe import is_exact, probe, sample_frames, seeking_readers

NUM_FRAMES = 9


def last_entry(path: str) -> Entry:
    return list(probe(path))[-1]


def test_an_entry_tells_what_linear_reading_gives(closed_groups: str):
    found = last_entry(closed_groups)
    assert (found.num_frames, found.fps, found.height, found.width, found.rotation) == (90, 25.0, 64, 80, 0)
    assert (found.container, found.codec, found.key_frames) == ("mp4", "h264", (0, 24, 48, 72))
    assert (found.stage, found.reason, found.damaged) == ("", "", "")
    assert found.exact["decord"]
    assert found.exact["pyav_seek"]
    assert len(found.digest) == 32
    assert found.is_current()


def test_copies_have_one_digest_and_other_files_another(closed_groups: str, files: SimpleNamespace, tmp_path: Path):
    copy = shutil.copy(closed_groups, tmp_path / "copy.mp4")
    other = files.copy(closed_groups, str(tmp_path / "other.mp4"), movflags="faststart")
    assert last_entry(str(copy)).digest == last_entry(closed_groups).digest != last_entry(other).digest


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("open.mp4", "libx264", {"x264-params": "keyint=24:open-gop=1:bframes=3:scenecut=0"}),
        ("stream.mpg", "mpeg2video", {"g": 12, "bf": 2}),
        ("frames_reordered.avi", "mpeg4", {"g": 12, "bf": 2}),
    ],
)
def test_a_reader_is_not_exact_where_its_seeks_go_wrong(
    name: str, codec: str, options: dict, files: SimpleNamespace, tmp_path: Path
):
    found = last_entry(files.write(str(tmp_path / name), range(90), codec, **options))
    assert found.num_frames == 90
    assert not found.exact["decord"]
    assert found.exact["pyav_seek"] == (name == "open.mp4")  # it knows frames by their times


def test_a_file_that_is_cut_but_gives_frames_is_damaged(files: SimpleNamespace, tmp_path: Path):
    path = tmp_path / "cut.avi"
    files.write(str(path), range(60), "mjpeg", pix_fmt="yuvj420p")  # frames of one size, so half of the file is half
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = last_entry(str(path))
    assert found.stage == ""
    assert 20 < found.num_frames < 40
    assert "of 60 promised frames" in found.damaged


def test_a_change_of_the_frame_size_is_damage_that_says_where(files: SimpleNamespace, tmp_path: Path):
    small = files.write(str(tmp_path / "small.ts"), range(30), "mpeg2video", "mpegts", size=(64, 80))
    large = files.write(str(tmp_path / "large.ts"), range(30), "mpeg2video", "mpegts", size=(96, 128))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(Path(small).read_bytes() + Path(large).read_bytes())
    found = last_entry(str(joined))
    assert re.search(r"the frame size changes at frame (29|30) from 80x64 to 128x96", found.damaged)
    assert (found.height, found.width) == (64, 80)
    assert not any(found.exact.values())


def test_a_file_without_frames_has_the_stage_and_the_reason_of_reading_it(tmp_path: Path):
    page = tmp_path / "page.mp4"
    page.write_text("<html>404</html>")
    found = last_entry(str(page))
    assert (found.stage, found.num_frames, found.exact) == ("open", 0, {})
    assert "Invalid data" in found.reason


def test_the_second_file_with_the_same_complaint_is_damaged_too(files: SimpleNamespace, tmp_path: Path):
    whole = Path(files.write(str(tmp_path / "whole.webm"), range(60), "libvpx-vp9", g=12, deadline="realtime"))
    for name in ("one.webm", "two.webm"):  # libav leaves out a line of its log that repeats the one before it
        (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        found = last_entry(str(tmp_path / name))
        assert 0 < found.num_frames < 60
        assert "File ended prematurely" in found.damaged


def test_only_readers_in_another_version_are_tried_again(closed_groups: str):
    known = last_entry(closed_groups)
    assert known.versions == seeking_readers()
    old = replace(
        known,
        digest="kept",
        exact={"decord": False, "pyav_seek": False},
        versions=known.versions | {"decord": "decord 0.5.2"},
    )
    found = list(probe(closed_groups, known=old))
    assert [entry.exact.get("decord") for entry in found] == [None, False, True]  # not exact while it is tried
    assert found[-1] == replace(old, exact={"pyav_seek": False, "decord": True}, versions=known.versions)


@pytest.fixture
def write_frames(files: SimpleNamespace, tmp_path: Path):
    """Pictures of these numbers, under these names, in a folder of this name -> its path."""

    def write(folder: str, numbers: Sequence[int], names: Sequence[str]) -> str:
        (tmp_path / folder).mkdir()
        for number, name in zip(numbers, names, strict=True):
            write_png(torch.from_numpy(files.frame(number)).permute(2, 0, 1), str(tmp_path / folder / name))
        return str(tmp_path / folder)

    return write


def test_an_entry_of_a_folder_of_frames_tells_what_its_pictures_are(write_frames):
    found = last_entry(write_frames("a", [4, 5, 6], ["1.png", "2.png", "3.png"]))
    assert (found.num_frames, found.fps, found.height, found.width) == (3, 0.0, 64, 80)
    assert (found.container, found.codec, found.stage, found.damaged, found.exact) == ("frames", "png", "", "", {})
    assert (found.frame_names, found.first_frame) == (None, None)
    assert found.is_current()


def test_folders_of_the_same_pictures_are_copies_and_in_another_order_they_are_not(write_frames):
    found = last_entry(write_frames("a", [4, 5, 6], ["1.png", "2.png", "3.png"]))
    copy = last_entry(write_frames("b", [4, 5, 6], ["img_00.png", "img_01.png", "img_02.png"]))
    backwards = last_entry(write_frames("c", [6, 5, 4], ["1.png", "2.png", "3.png"]))
    assert len(found.digest) == 32
    assert found.digest == copy.digest != backwards.digest


def test_a_folder_is_looked_at_by_the_names_and_the_first_number_of_its_data_set(write_frames):
    path = write_frames("a", [3, 4, 5, 6], ["img_7.png", "flow_7.png", "img_8.png", "img_9.png"])
    assert last_entry(path).stage == "open"
    found = list(probe(path, ReadOptions(frame_names="img_{:d}.png", first_frame=8)))[-1]
    assert (found.num_frames, found.stage, found.frame_names, found.first_frame) == (2, "", "img_{:d}.png", 8)


def test_pictures_that_cannot_be_decoded_are_told_by_number_and_name(write_frames):
    path = write_frames("a", [3, 4, 5, 6], ["0.png", "1.png", "2.png", "3.png"])
    for name in ("2.png", "3.png"):
        Path(path, name).write_bytes(Path(path, name).read_bytes()[:-500])
    found = last_entry(path)
    assert (found.stage, found.num_frames, found.digest) == ("decode", 0, "")
    assert re.fullmatch(r"frame 2: 2\.png: .+; 2 of 4 frames cannot be read", found.reason)


def test_a_gap_and_a_picture_of_another_size_are_told(write_frames):
    gap = last_entry(write_frames("a", [3, 4, 5], ["1.png", "2.png", "5.png"]))
    assert (gap.stage, gap.reason) == ("open", "frame 3 is lacking, of 3 frames")
    path = write_frames("b", [3, 4, 5], ["1.png", "2.png", "3.png"])
    write_png(torch.zeros(3, 30, 50, dtype=torch.uint8), str(Path(path, "3.png")))
    sizes = last_entry(path)
    assert (sizes.stage, sizes.damaged) == ("", "the frame size changes at frame 2 from 80x64 to 50x30")


def test_a_picture_that_is_written_anew_makes_the_entry_of_its_folder_old(write_frames):
    path = write_frames("a", [3, 4, 5], ["1.png", "2.png", "3.png"])
    found = last_entry(path)
    folder = os.stat(path).st_mtime_ns
    Path(path, "2.png").write_bytes(Path(path, "1.png").read_bytes())
    assert os.stat(path).st_mtime_ns == folder  # which does not tell
    assert not found.is_current()


# Whether a reader is exact, with readers whose faults are known.


def frame(i: int) -> Tensor:
    """uint8 (C, H, W) that differs by 10 from the next frame."""
    return torch.full((3, 2, 5), 10 * i, dtype=torch.uint8)


class Faulty:
    """A reader that shows frame `wrong(i)` for frame i, brighter by `brighter`."""

    name, fps, size = "faulty", 25.0, (2, 5)

    def __init__(self, wrong=lambda i: i, brighter: int = 0, num_frames: int = NUM_FRAMES, show=frame):
        self.num_frames, self.wrong, self.brighter, self.show = num_frames, wrong, brighter, show

    def read(self, indices: Sequence[int]) -> Tensor:
        return torch.stack([self.show(self.wrong(i)) for i in indices]) + self.brighter

    def __enter__(self) -> "Faulty":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def judged(reader: Faulty, show=frame) -> bool:
    reference = {i: show(i) for i in range(NUM_FRAMES)}
    return is_exact(lambda: reader, [0, 3, 4, 8], reference, NUM_FRAMES)


def test_a_reader_is_exact_if_each_frame_is_the_right_one_up_to_rounding():
    assert judged(Faulty())
    assert judged(Faulty(brighter=1))
    assert not judged(Faulty(brighter=2))


@pytest.mark.parametrize("shift", [-1, 1])
def test_one_frame_that_is_its_neighbour_makes_a_reader_inexact(shift: int):
    assert not judged(Faulty(wrong=lambda i: i + shift if i == 4 else i))


def test_a_shift_between_frames_that_hardly_differ_is_seen():
    def slow(i: int) -> Tensor:
        image = frame(0).clone()
        image.flatten()[:i] = 5  # a thirtieth of the pixels changes: a mean difference of 0.17, below 1
        return image

    assert judged(Faulty(show=slow), slow)
    assert not judged(Faulty(wrong=lambda i: min(i + 1, 8), show=slow), slow)


def test_another_number_of_frames_makes_a_reader_inexact():
    assert not judged(Faulty(num_frames=NUM_FRAMES + 1))


def test_frames_that_are_all_identical_prove_nothing():
    still = Faulty(show=lambda i: frame(1))
    assert not judged(still, lambda i: frame(1))


def test_a_single_frame_needs_no_neighbour():
    assert is_exact(lambda: Faulty(num_frames=1), [0], {0: frame(0)}, 1)


def test_the_frames_looked_at_are_the_first_the_last_those_around_key_frames_and_some_between():
    assert sample_frames(90, (0, 24, 48, 72), 12) == [0, 3, 11, 46, 47, 48, 49, 70, 71, 72, 73, 89]
    assert sample_frames(90, (0, 24, 48, 72), 4) == [0, 71, 72, 89]
    assert sample_frames(3, (0,), 12) == [0, 1, 2]
    assert sample_frames(1, (0,), 12) == [0]
    assert sample_frames(96, (0,), 12) == [0, 4, 12, 20, 28, 36, 44, 52, 60, 68, 76, 95]
