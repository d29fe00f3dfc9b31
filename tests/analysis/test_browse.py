"""What is told beside a view, and that its pixels reach the picture as they are."""

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from tubelet.analysis import browse_pictures
from tubelet.analysis.browse import Source, View, below, caption, elided, told_frames, views_of_test, views_of_training
from tubelet.analysis.browse_pictures import draw_views, evenly, film_views, num_columns, scaled, spelled
from tubelet.video.annotations import Catalogue, Video
from tubelet.video.open import DEFAULTS, read_clips

VIDEOS = [Video("data/left/a.mp4", 0), Video("data/b.mp4", 2), Video("data/c.mp4", 2)]
CATALOGUE = Catalogue(["left", "right", "jump"], VIDEOS, VIDEOS, VIDEOS)


def source(**told) -> Source:
    given = {
        "share": 1.0,
        "label": "jump",
        "listed": "jump",
        "path": "b.mp4",
        "view": "",
        "frames": [4, 6, 8],
        "fps": 10.0,
    }
    return Source(**{**given, "reader": "pyav", "failure": "", **told})


def texts(*sources: Source, name: str = "", width: int = 60) -> list[str]:
    return [line.text for line in caption(View(torch.zeros(3, 2, 5, 3), name, "", list(sources)), width)]


def batch(num_videos: int = 3, num_views: int = 2) -> dict:
    """Its first video's second view is flipped, from left to right."""
    return {
        "shown": torch.tensor([[0, 1], [2, 2], [2, 2]])[:num_videos, :num_views],
        "frames": torch.tensor([[[0, 2, 4, 6]], [[1, 3, 5, 7]], [[9, 11, 13, 15]]]),
        "fps": torch.tensor([8.0, 10.0, 0.0]),
        "index": torch.tensor([0, 1, 2]),
        "reader": ["pyav", "decord", "pyav"],
        "failure": ["", "", "x.mp4: cannot open: it is empty"],
    }


def test_a_clip_that_is_not_mixed_is_told_by_its_class_file_frames_and_times():
    assert texts(source()) == ["jump", "b.mp4", "frames 4 6 8", "0.40 s to 0.80 s at 10 frames/s, read by pyav"]
    assert texts(source(fps=0.0))[-1] == "the file does not say its rate, read by pyav"


def test_a_mixed_clip_is_told_by_the_shares_of_its_classes_and_of_both_files():
    told = texts(source(share=0.7), source(share=0.3, label="run", listed="run", path="r.mp4", view=", view 2/2"))
    assert told[0] == "0.70 jump + 0.30 run"
    assert [told[1], told[4]] == ["0.70 of b.mp4", "0.30 of r.mp4, view 2/2"]
    assert texts(source(share=0.7), source(share=0.3))[0] == "1.00 jump"
    assert texts(source(share=0.998), source(share=0.002, label="run"))[0] == "1.00 jump + <0.005 run"
    assert texts(source(share=0.7), source(share=0.3, label="run"), width=12)[:2] == ["0.70 jump", "0.30 run"]


def test_a_flip_that_changed_the_label_is_told_and_a_failure_is_red():
    assert texts(source(label="right", listed="left"))[2] == "flipped: left became right"
    lines = caption(View(torch.zeros(3, 2, 5, 3), "", "", [source(failure="x.mp4: cannot open: it is empty")]), 60)
    assert (lines[-1].text, lines[-1].colour) == ("in the place of x.mp4: cannot open: it is empty", "#c00000")
    assert texts(source(reader="", failure="x.mp4: cannot open"))[-1] == "x.mp4: cannot open"


def test_no_line_of_a_caption_is_longer_than_its_place():
    long = source(share=0.6, path="p" * 99, label="l" * 99, frames=list(range(10**6, 10**6 + 9)), failure="f" * 999)
    lines = texts(long, long._replace(share=0.4, label="k" * 99), name="view 1/2", width=30)
    assert max(map(len, lines)) == 30
    assert elided("abcdefghij", 6) == "ab…hij"
    assert told_frames([0, 4, 8, 12, 16, 20, 24, 28, 32]) == "frames 0 4 8 12 16 … 28 32"


def test_paths_are_told_from_the_folder_of_the_data_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert below("data/left/a.mp4", "data") == "left/a.mp4"
    assert below(str(tmp_path / "other/a.mp4"), "data") == "other/a.mp4"


def test_views_of_a_video_follow_each_other_and_the_larger_share_comes_first():
    # As Mix makes it: clip n of 6 (first views first) holds 0.4 of itself and 0.6 of the one before it.
    shares = 0.4 * torch.eye(6) + 0.6 * torch.eye(6).roll(-1, 1)  # row n: clip n - 1
    pixels = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1, 1).expand(6, 3, 4, 2, 5)
    views = views_of_training(batch(), pixels, shares, VIDEOS, CATALOGUE, "data")
    assert [int(view.pixels[0, 0, 0, 0]) for view in views] == [0, 3, 1, 4, 2, 5]
    assert views[0].pixels.shape == (4, 2, 5, 3)
    second = views[1].sources  # clip 3, the flipped view of video 0, with clip 2, the first view of video 2
    assert [round(one.share, 6) for one in second] == [0.6, 0.4]
    assert [(one.label, one.listed, one.path) for one in second] == [
        ("jump", "jump", "c.mp4"),
        ("right", "left", "left/a.mp4"),
    ]
    assert [one.view for one in second] == [", view 1/2", ", view 2/2"]
    assert second[0].failure == "x.mp4: cannot open: it is empty"
    assert (second[1].frames, second[1].fps, second[1].reader) == ([0, 2, 4, 6], 8.0, "pyav")


def test_the_views_of_a_test_are_a_list_for_each_clip_with_its_crops():
    sample = {
        "video": torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1, 1).expand(6, 3, 4, 5, 5),
        "shown": torch.tensor([2] * 6),
        "frames": torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8]]),
        "fps": torch.tensor(10.0),
        **{"index": 1, "label": 2, "reader": "pyav", "failure": ""},
    }
    first, second = views_of_test(sample, VIDEOS, CATALOGUE, "data")
    assert [view.crop for view in first] == ["left/top", "centre", "right/bottom"]
    assert [int(view.pixels[0, 0, 0, 0]) for view in second] == [3, 4, 5]
    assert (second[0].name, second[0].sources[0].frames) == ("clip 2/2", [5, 6, 7, 8])


def clip(seed: int, height: int = 40, width: int = 50) -> torch.Tensor:
    """uint8 (3, height, width, 3)"""
    return torch.randint(256, (3, height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_the_pixels_of_a_view_are_in_the_picture_unchanged_but_for_whole_enlargement(tmp_path):
    pixels = [clip(1), clip(2)]
    draw_views([[View(one, "", "", [source()])] for one in pixels], ["title"], tmp_path / "a.png")
    sheet = np.round(imread(tmp_path / "a.png")[..., :3] * 255).astype(np.uint8)
    for row, one in enumerate(pixels):
        for t, frame in enumerate(one.numpy()):
            large = frame.repeat(4, 0).repeat(4, 1)  # 160 pixels are 3.2 times 50
            left = browse_pictures.MARGIN * 2 + round(58 * browse_pictures.TEXT * browse_pictures.LETTER)
            x = left + t * (200 + browse_pictures.GAP)
            columns = sheet[:, x : x + 200]
            at = [y for y in range(len(sheet) - 160) if np.array_equal(columns[y], large[0])]
            assert len(at) >= 1, (row, t)
            assert np.array_equal(columns[at[0] : at[0] + 160], large)


def test_large_frames_are_made_smaller_and_keep_their_shape():
    assert scaled(clip(1, 300, 600), 256).shape == (3, 128, 256, 3)
    assert scaled(clip(1, 112, 112), 256).shape == (3, 224, 224, 3)
    assert np.array_equal(scaled(clip(1, 224, 224), 256), clip(1, 224, 224).numpy())


def test_a_film_shows_the_frames_of_its_clips_in_their_order_again_and_again(tmp_path):
    grey = torch.tensor([40, 120, 200], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 48, 48, 3)
    film_views([View(grey, "", "", [source()])] * 2, tmp_path / "a.mp4")
    indices = torch.arange(48)[None]  # 6 seconds of 8 frames
    frames = read_clips(str(tmp_path / "a.mp4"), lambda n, fps: indices[:, :n], "pyav", None, DEFAULTS)[0][
        0
    ]  # (T, C, H, W)
    assert len(frames) == 48
    assert frames.shape[2] % 2 == frames.shape[3] % 2 == 0
    middles = frames[:, 0, 100, 100].float()
    assert middles.numpy() == pytest.approx(np.tile([40, 120, 200], 16), abs=6)


@pytest.mark.parametrize(("tiles", "together", "columns"), [(16, 1, 4), (8, 1, 4), (60, 3, 9), (30, 3, 6), (1, 1, 1)])
def test_a_film_is_about_half_as_wide_again_as_high_with_few_empty_places(tiles: int, together: int, columns: int):
    assert num_columns(tiles, together) == columns


def test_letters_without_a_shape_in_the_font_are_told_by_their_numbers():
    assert spelled("Ä $x$ 跳\udcff\n") == r"Ä $x$ \u8df3\udcff\n"
    sheet = browse_pictures.lettered(40, 300, [browse_pictures.Text(2, 2, browse_pictures.Line("跳 $a_$"), 17)])
    assert sheet.shape == (40, 300, 3)
    assert sheet.min() < 100


def test_frames_are_chosen_evenly_from_the_first_on():
    assert evenly(16, most=8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert evenly(5, most=8) == [0, 1, 2, 3, 4]
