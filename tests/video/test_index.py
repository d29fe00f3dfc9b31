"""The index: what is written is read again, also after a kill, and an entry holds only for the file it was made of."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision.io import write_png

from tubelet.video.annotations import Video
from tubelet.video.dataset import VideoDataset
from tubelet.video.index import INDEX_NAME, Entry, Known, append_entries, find_index, read_index, state_of
from tubelet.video.known import KnownVideos
from tubelet.video.open import open_video
from tubelet.video.order import Draw
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import Dense, FirstToLast, forward
from tubelet.video.scan import update_index
from tubelet.video.views import TestViews


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    path = tmp_path / "clips" / "a é.mp4"
    path.parent.mkdir()
    path.write_bytes(b"seven b")
    return Entry(
        str(path),
        *state_of(str(path)),
        digest="d1",
        damaged="cut",
        num_frames=90,
        fps=29.97,
        height=64,
        width=80,
        rotation=270,
        container="mp4",
        codec="h264",
        key_frames=(0, 24, 48),
        exact={"decord": True},
        versions={"decord": "decord 0.5.2"},
    )


def test_entries_are_read_as_they_were_written_and_the_later_of_two_counts(entry: Entry, tmp_path: Path):
    file = tmp_path / INDEX_NAME
    other = Entry(str(tmp_path / "b.avi"), 0, 5, stage="open", reason="empty")
    append_entries(file, [entry, other])
    append_entries(file, [replace(entry, num_frames=89)])
    assert read_index(file) == {entry.path: replace(entry, num_frames=89), other.path: other}


def test_the_line_that_a_kill_has_cut_is_left_out_and_the_next_entries_are_whole(entry: Entry, tmp_path: Path):
    file = tmp_path / INDEX_NAME
    append_entries(file, [entry])
    with open(file, "a") as opened:
        opened.write('{"path": "c.mp4", "num_by')
    assert read_index(file) == {entry.path: entry}
    other = Entry(str(tmp_path / "b.avi"), 0, 5)
    append_entries(file, [other])
    assert read_index(file) == {entry.path: entry, other.path: other}


def test_a_line_that_is_no_entry_is_an_error_with_its_number(entry: Entry, tmp_path: Path):
    file = tmp_path / INDEX_NAME
    append_entries(file, [entry])
    with open(file, "a") as opened:
        opened.write('{"path": "c.mp4", "colour": 3}\n')
    with pytest.raises(ValueError, match=rf"{INDEX_NAME}:2 is no entry of this version; delete the file and scan anew"):
        read_index(file)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"num_frames": 90', '"num_frames": "many"'),
        ('"key_frames": [0, 24, 48]', '"key_frames": 0'),
        ('{"decord": true}', '{"decord": "maybe"}'),
        ('{"decord": true}', "[]"),
        ('{"decord": "decord 0.5.2"}', '{"decord": 5}'),
        ('"frame_names": null', '"frame_names": 7'),
        ('"damaged"', '"dammaged"'),
    ],
)
def test_a_value_of_another_kind_is_an_error_when_it_is_read(right: str, wrong: str, entry: Entry, tmp_path: Path):
    file = tmp_path / INDEX_NAME
    append_entries(file, [entry])
    line = file.read_text()
    assert right in line
    file.write_text(line + line.replace(right, wrong))
    with pytest.raises(ValueError, match=rf"{INDEX_NAME}:2 is no entry of this version"):
        read_index(file)


@pytest.mark.parametrize("text", ["a.mp4 0\nb.mp4 1\n", "a.mp4 0", '{"colour": 3}\n'])
def test_a_file_that_is_no_index_is_neither_to_be_deleted_nor_changed(text: str, tmp_path: Path):
    file = tmp_path / "train.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"train\.txt is no index: .*; name another with data\.index"):
        update_index(file, [], num_workers=1, seconds=60, again=True)
    with pytest.raises(FileNotFoundError, match=rf"data\.index=\S+ is a folder; give the file in it, .*{INDEX_NAME}"):
        find_index(".", str(tmp_path))
    assert file.read_text() == text


def test_an_index_of_which_a_kill_has_cut_the_first_line_is_empty(tmp_path: Path):
    for cut in ("{", '{"path": "c.mp4", "num_by'):
        (tmp_path / INDEX_NAME).write_text(cut)
        assert read_index(tmp_path / INDEX_NAME) == {}


def test_an_index_that_moves_with_its_videos_stays_right(entry: Entry, tmp_path: Path):
    append_entries(tmp_path / "clips" / INDEX_NAME, [entry])
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "clips", moved)  # keeps the times of the files, as rsync -a and cp -a do
    path = str(moved / "a é.mp4")
    found = read_index(moved / INDEX_NAME)
    assert found == {path: replace(entry, path=path)}
    assert found[path].is_current()


def test_an_entry_holds_until_its_file_changes(entry: Entry):
    assert entry.is_current()
    written = os.stat(entry.path).st_mtime_ns
    Path(entry.path).write_bytes(b"seven c")
    os.utime(entry.path, ns=(written, written + 1_000))  # as long as before, a microsecond later
    assert not entry.is_current()
    Path(entry.path).write_bytes(b"eight by")
    os.utime(entry.path, ns=(written, written))  # another length at the same time
    assert not entry.is_current()
    os.remove(entry.path)
    assert not entry.is_current()


def test_the_index_in_root_is_used_where_none_is_named_and_a_named_one_must_be_there(tmp_path: Path):
    assert find_index(str(tmp_path), None) is None
    default, other = tmp_path / INDEX_NAME, tmp_path / "other.jsonl"
    default.touch()
    assert find_index(str(tmp_path), None) == default
    with pytest.raises(FileNotFoundError, match=r"data\.index=.*other\.jsonl: there is no such file"):
        find_index(str(tmp_path), str(other))
    other.touch()
    assert find_index(str(tmp_path), str(other)) == other


def dataset(videos: list[Video], index: KnownVideos | None, skip_errors: bool = False) -> VideoDataset:
    views = TestViews(Dense(4, 3, None), 32, 24, 2, 1, FirstToLast())
    return VideoDataset(videos, views.sample, forward, views.transform, 0, "auto", skip_errors, index=index)


def test_what_is_broken_by_the_index_is_read_all_the_same_where_it_can_be(videos: list[Video]):
    """What went wrong in a scan may have been the machine's fault: a time limit, memory, too many open files."""
    path = videos[0].path
    index = KnownVideos([Entry(path, *state_of(path), stage="decode", reason="as the index says")])
    known, plain = (dataset(videos[:1], one)[Draw(0, 0)] for one in (index, None))
    assert torch.equal(known["video"], plain["video"])
    assert known["failure"] == plain["failure"] == ""


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory, closed_groups: str, files: SimpleNamespace) -> list[Video]:
    """A file of every kind that is not read as a plain mp4 is."""
    folder = tmp_path_factory.mktemp("troubled")

    def write(name: str, codec: str, **options: str) -> Path:
        return Path(files.write(str(folder / name), range(90), codec, **options))

    write("sound.avi", "mpeg4", g="12")
    write("b_frames.avi", "mpeg4", g="24", bf="2")
    files.pack(str(write("single.avi", "mpeg4", g="24", bf="1", b_strategy="0")), str(folder / "packed.avi"))
    write("open.mp4", "libx264", **{"x264-params": "keyint=24:open-gop=1:bframes=3:scenecut=0"})
    write("stream.mpg", "mpeg2video", g="12", bf="2")
    for name in ("cut.avi", "cut.webm"):
        whole = write(name, "mpeg4" if name == "cut.avi" else "libvpx-vp9", g="12")
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    flipped = bytearray(Path(closed_groups).read_bytes())
    for at in range(flipped.index(b"mdat") + 2000, len(flipped) - 6000, 1500):
        flipped[at] ^= 0x55
    (folder / "flipped.mp4").write_bytes(flipped)
    (folder / "page.mp4").write_text("<html>404</html>")
    for name in ("frames", "frames_broken"):
        (folder / name).mkdir()
        for number in range(1, 21):
            image = torch.from_numpy(files.frame(number)).permute(2, 0, 1)
            write_png(image, str(folder / name / f"{number}.png"))
    for number in range(7, 15):
        (folder / "frames_broken" / f"{number}.png").write_bytes(b"")
    return [Video(str(path), 0) for path in sorted(folder.iterdir())]


def test_samples_of_every_kind_of_file_are_the_same_with_and_without_an_index(troubled: list[Video], tmp_path: Path):
    found = update_index(tmp_path / INDEX_NAME, [path for path, _ in troubled], num_workers=2, seconds=60)
    told = {Path(path).name: (bool(entry.stage), bool(entry.damaged)) for path, entry in found.items()}
    assert {name for name, (broken, _) in told.items() if broken} == {"page.mp4", "frames_broken"}
    assert {"cut.avi", "cut.webm", "flipped.mp4"} <= {name for name, (_, damaged) in told.items() if damaged}

    def choose(num_frames: int, fps: float, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(num_frames, (2, 4), generator=generator)

    transform = TestViews(Dense(4, 3, None), 32, 24, 2, 1, FirstToLast()).transform
    known, plain = (
        VideoDataset(troubled, choose, forward, transform, 5, "auto", True, index=index)
        for index in (KnownVideos(found.values()), None)
    )
    failed = set()
    for epoch in range(4):
        for place, video in enumerate(troubled):
            expected, given = (one[Draw(epoch, place)] for one in (plain, known))
            assert torch.equal(given["video"], expected["video"]), video.path
            assert given["failure"] == expected["failure"]
            failed |= {Path(video.path).name} if given["failure"] else set()
    assert failed == {"page.mp4", "frames_broken"}  # of the latter the clips that hold one of frames 6 to 13


def test_an_entry_can_forbid_decord_to_seek_and_cannot_allow_it(closed_groups: str, files: SimpleNamespace, tmp_path):
    """A few frames were looked at, and in open groups others are wrong."""
    opened = {"x264-params": "keyint=24:open-gop=1:bframes=3:scenecut=0"}
    unproven = files.write(str(tmp_path / "open.mp4"), range(90), **opened)
    for path, says in ((closed_groups, False), (unproven, True)):
        known = Known(*state_of(path), 90, 25.0, True, {"decord": says})
        with pytest.raises(DecodeError, match="decord's seeking is not proven exact"):
            open_video(path, "decord", known)


def test_names_that_are_not_utf8_are_kept(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"a video")
    append_entries(tmp_path / INDEX_NAME, [Entry(str(path), *state_of(str(path)))])
    assert read_index(tmp_path / INDEX_NAME)[str(path)].is_current()


def test_a_scan_tries_readers_of_another_version_again_and_nothing_else(closed_groups: str, tmp_path: Path):
    file, path = tmp_path / INDEX_NAME, str(shutil.copy(closed_groups, tmp_path / "a.mp4"))
    whole = update_index(file, [path], num_workers=1, seconds=60)[path]
    old = replace(whole, digest="kept", exact={"pyav_seek": False}, versions={"pyav_seek": "PyAV 9.0.0"})
    append_entries(file, [old])
    assert update_index(file, [path], 1, 60)[path] == replace(whole, digest="kept")
    before = file.read_bytes()
    assert update_index(file, [path], 1, 60)[path] == replace(whole, digest="kept")
    assert file.read_bytes() == before


def test_an_entry_of_which_no_reader_was_tried_is_made_anew(closed_groups: str, tmp_path: Path):
    file, path = tmp_path / INDEX_NAME, str(shutil.copy(closed_groups, tmp_path / "a.mp4"))
    append_entries(file, [Entry(path, *state_of(path), num_frames=3, key_frames=(0,), exact={"pyav_seek": True})])
    found = update_index(file, [path], num_workers=1, seconds=60)[path]
    assert (found.num_frames, found.key_frames) == (90, (0, 24, 48, 72))


def test_what_could_not_be_read_is_looked_at_again(videos: list[Video], tmp_path: Path):
    path = str(shutil.copy(videos[0].path, tmp_path / "sound.mp4"))
    append_entries(tmp_path / INDEX_NAME, [Entry(path, *state_of(path), stage="decode", reason="no answer")])
    found = update_index(tmp_path / INDEX_NAME, [path], num_workers=1, seconds=60)
    assert (found[path].stage, found[path].num_frames) == ("", 20)
