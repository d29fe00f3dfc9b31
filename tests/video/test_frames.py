"""Folders of extracted frames as videos, and SlowFast's lists of them."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.io import write_jpeg, write_png

from tubelet.video.annotations import NO_LABEL, Catalogue, Video
from tubelet.video.doubts import tell_frames_before
from tubelet.video.frame_lists import read_frame_list
from tubelet.video.open import ReadOptions, check_reader, open_video
from tubelet.video.reader import DecodeError


@pytest.fixture
def write(tmp_path: Path, files: SimpleNamespace):
    """Pictures that show 0, 1, 2, ... under the names given -> their folder."""

    def write(names: Sequence[str], folder: str = "video") -> str:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            image = torch.from_numpy(np.ascontiguousarray(files.frame(number).transpose(2, 0, 1)))
            (write_png if name.endswith("png") else write_jpeg)(image, str(tmp_path / folder / name))
        return str(tmp_path / folder)

    return write


@pytest.mark.parametrize("reader", ["auto", "frames"])
@pytest.mark.parametrize("name", ["{}.png", "img_{:05d}.jpg", "v2_frame{:03d}.jpeg", "{:02d}.JPG"])
def test_frames_come_in_the_order_of_their_numbers(name: str, reader: str, write, files: SimpleNamespace):
    path = write([name.format(number) for number in range(1, 13)])  # as text, 10 comes before 2
    with open_video(path, reader) as opened:
        assert (opened.name, opened.num_frames, opened.size, opened.fps) == ("frames", 12, (64, 80), 0.0)
        frames = opened.read([11, 0, 5, 5, 9])
        assert (frames.dtype, frames.shape) == (torch.uint8, (5, 3, 64, 80))
        assert files.numbers(frames) == [11, 0, 5, 5, 9]
        with pytest.raises(IndexError, match="12"):
            opened.read([12])


def test_a_picture_without_loss_is_given_as_it_is(write, files: SimpleNamespace):
    with open_video(write(["0.png", "1.png"])) as opened:
        assert torch.equal(opened.read([1])[0], torch.from_numpy(files.frame(1)).permute(2, 0, 1))


def test_a_pattern_picks_one_of_two_videos_in_a_folder(write, files: SimpleNamespace):
    path = write(["img_001.png", "flow_001.png", "img_002.png", "flow_002.png", "img_3.png"])
    with pytest.raises(DecodeError, match=r"flow_001\.png and img_001\.png may be of two videos; .*data\.frame_names"):
        open_video(path)
    with open_video(path, options=ReadOptions(frame_names="img_{:03d}.png")) as opened:
        assert files.numbers(opened.read(range(opened.num_frames))) == [0, 2]


def test_two_names_of_one_number_are_a_decode_error(write):
    with pytest.raises(DecodeError, match=r"1\.png and 1\.jpg may|1\.jpg and 1\.png may|01\.png and 1\.png may"):
        open_video(write(["01.png", "1.png"]))


def test_the_first_frame_is_0_or_1_or_the_one_named(write, files: SimpleNamespace):
    path = write(["100.png", "101.png", "102.png"])
    with pytest.raises(DecodeError, match=r"if 100 is the first, data\.first_frame=100"):
        open_video(path)
    with open_video(path, options=ReadOptions(first_frame=100)) as opened:
        assert files.numbers(opened.read([0, 2])) == [0, 2]
    with open_video(path, options=ReadOptions(first_frame=101)) as opened:
        assert files.numbers(opened.read([0, 1])) == [1, 2]
    with pytest.raises(DecodeError, match="cannot open: frame 99 is lacking"):
        open_video(path, options=ReadOptions(first_frame=99))


def test_pictures_before_the_first_frame_are_told_once(write, tmp_path: Path, caplog):
    folders = [Video(write([f"{i:02d}.png" for i in range(1, 12)], name), 0) for name in ("a", "b")]
    files = [Video(str(tmp_path / "c.mp4"), 0)]
    catalogue = Catalogue(["0"], files, folders, folders)
    tell_frames_before(catalogue, None, 1)
    assert not caplog.messages
    tell_frames_before(catalogue, None, 5)
    told = f"data.first_frame=5 leaves out 4 pictures before it, in {folders[0].path} and maybe others"
    assert caplog.messages == [told]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["1.png", "2.png", "4.png"], "frame 3 is lacking, of 3 frames"),
        ([], "the folder holds no picture"),
        (["readme.txt.png"], "the folder holds no picture"),
    ],
)
def test_a_folder_with_a_gap_or_without_frames_is_a_decode_error(names: list[str], reason: str, write):
    path = write(names)
    with pytest.raises(DecodeError, match=reason) as caught:
        open_video(path)
    assert (caught.value.path, caught.value.stage) == (path, "open")


def test_other_files_in_the_folder_do_not_matter(write, files: SimpleNamespace):
    path = write(["1.png", "2.png"])
    for name in ("notes.txt", "frames.csv", ".hidden3.png"):
        Path(path, name).write_text("")
    with open_video(path) as opened:
        assert opened.num_frames == 2


def test_a_broken_picture_is_a_decode_error_that_names_it(write):
    path = write(["1.png", "2.png", "3.png"])
    Path(path, "2.png").write_bytes(b"")
    with open_video(path) as opened:
        opened.read([0, 2])
        with pytest.raises(DecodeError, match=r"cannot decode: 2\.png: "):
            opened.read([1])


def test_a_size_that_changes_is_a_decode_error(write, tmp_path: Path):
    path = write(["1.png", "2.png"])
    write_png(torch.zeros(3, 30, 50, dtype=torch.uint8), str(Path(path, "3.png")))
    with open_video(path) as opened, pytest.raises(DecodeError, match="the frame size changes within the folder"):
        opened.read([0, 2])


@pytest.mark.parametrize("first", [-1, 1.5, True, "x"])
def test_a_first_frame_that_is_no_number_from_0_is_an_error_for_videos_too(first: object):
    with pytest.raises(ValueError, match=rf"data\.first_frame={first} is not a whole number of at least 0"):
        check_reader("auto", ReadOptions(first_frame=first))


@pytest.mark.parametrize("names", ["img.jpg", "{:05d}_{:02d}.jpg", "img_{}.jpg"])
def test_a_pattern_without_one_number_is_a_value_error(names: str):
    with pytest.raises(ValueError, match=r"data\.frame_names=.* needs one place for a number"):
        check_reader("frames", ReadOptions(frame_names=names))


HEADER = "original_vido_id video_id frame_id path labels\n"


def rows(video: str, label: str, numbers: Sequence[int]) -> str:
    return "".join(f'{video} 0 {i} {video}/{number:06d}.png "{label}"\n' for i, number in enumerate(numbers))


@pytest.fixture
def lists(write, tmp_path: Path):
    """Two videos of 3 and 2 frames on disk; text of a list -> its path."""
    write([f"{i:06d}.png" for i in (1, 2, 3)], "78687")
    write([f"{i:06d}.png" for i in (1, 2)], "b c")

    def write_list(text: str) -> str:
        file = tmp_path / "list.csv"
        file.write_text(HEADER + text)
        return str(file)

    return write_list


def test_a_list_of_frames_gives_the_folders_with_their_labels(lists, tmp_path: Path, files: SimpleNamespace):
    quoted = "".join(f'"b c" 0 {i} "b c/{number:06d}.png" "0"\n' for i, number in enumerate((1, 2)))
    file = lists(rows("78687", "2", (1, 2, 3)) + quoted)
    catalogue = read_frame_list(file, file, None, str(tmp_path), None)
    assert catalogue.classes == ["0", "1", "2"]
    assert [tuple(video) for video in catalogue.train] == [(str(tmp_path / "78687"), 2), (str(tmp_path / "b c"), 0)]
    assert catalogue.test == catalogue.val == catalogue.train
    with open_video(catalogue.train[0].path) as opened:
        assert files.numbers(opened.read(range(opened.num_frames))) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rows("78687", "2", (1, 2)), "2 frames are listed, and .*78687 holds 3"),
        (rows("78687", "2", (1, 3)), r"list\.csv:3: frame 3 of 78687 follows 1"),
        ("78687 0 0 78687/000001.png\n", r"list\.csv:2: expected 5 words"),
        ("78687 0 0 78687/first.png 1\n", "no number in the file name"),
        ("a 0 0 a/1.png 1\na 0 1 b/2.png 1\n", r"list\.csv:3: frames of a are in two folders or have two labels"),
        ("", "holds no frame"),
    ],
)
def test_a_list_that_does_not_say_what_the_folders_hold_is_an_error_with_its_line(
    text: str, said: str, lists, tmp_path: Path
):
    file = lists(text)
    with pytest.raises(ValueError, match=said):
        read_frame_list(file, file, None, str(tmp_path), None)


def test_a_list_with_another_header_is_an_error(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("a.mp4 3\n")
    with pytest.raises(ValueError, match=r"a\.csv:1: expected the header 'original_vido_id video_id"):
        read_frame_list(str(file), str(file), None, str(tmp_path), None)


def test_listed_videos_that_are_not_on_disk_are_remembered(lists, tmp_path: Path):
    file = lists(rows("78687", "1", (1, 2, 3)) + rows("gone", "0", (1, 2)))
    catalogue = read_frame_list(file, file, None, str(tmp_path), None)
    assert (len(catalogue.train), len(catalogue.val)) == (2, 2)
    assert catalogue.missing == {str(tmp_path / "gone")}


def test_class_names_come_from_their_file(lists, tmp_path: Path):
    file, names = lists(rows("78687", "1", (1, 2, 3))), tmp_path / "names.txt"
    names.write_text("push\npull\n")
    assert read_frame_list(file, file, None, str(tmp_path), str(names)).classes == ["push", "pull"]
    names.write_text("push\n")
    wrong = read_frame_list(file, file, None, str(tmp_path), str(names)).wrong_labels()
    rule = "a video has one label here, a number from 0 to 0"
    assert wrong == {str(tmp_path / "78687"): f"{file}:2: label '1': {rule}"}


@pytest.mark.parametrize("label", ["1,2", ""])
def test_labels_that_are_not_one_number_are_kept_as_wrong_with_their_line(label: str, lists, tmp_path: Path):
    file = lists(rows("78687", label, (1, 2, 3)) + rows("gone", "1", (1, 2)))
    catalogue = read_frame_list(file, file, None, str(tmp_path), None)
    assert catalogue.classes == ["0", "1"]
    assert [video.label for video in catalogue.train] == [NO_LABEL, 1]
    assert list(catalogue.wrong_labels().values()) == [
        f"{file}:2: label {label!r}: a video has one label here, a number from 0 to 1"
    ]
