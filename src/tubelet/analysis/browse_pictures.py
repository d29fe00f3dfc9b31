"""Views of videos as a picture of their frames, one row each, and as a film of all of them, side by side.

Lengths are pixels. Letters are of one width, so that a line that fits is known by their number.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import imsave
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from tubelet.analysis.browse import Line, View, caption, elided, told_time, told_weights
from tubelet.video.pyav import write_video

FONT = "DejaVu Sans Mono"  # comes with matplotlib
TEXT, SMALL = 17, 13  # heights of letters
LETTER = 0.6021  # width of a letter over its height
GAP, MARGIN = 6, 12
CAPTION = 58  # letters
SMALLEST_TILE, LARGEST_TILE = 160, 256  # frames of fewer are enlarged in whole numbers, so that pixels can be seen
TALLEST, WIDEST = 8000, 1920  # of a picture and of a film, as far as tiles of SMALLEST_TILE allow it
FILM_FPS = 8  # frames a second
FILM_SECONDS = 6.0  # at least; a clip is shown again until then
DARK, LIGHT = "#16181c", "#f2f2f2"


class Text(NamedTuple):
    """x, y: of its upper left corner"""

    x: float
    y: float
    line: Line
    height: int


def lettered(height: int, width: int, texts: Sequence[Text], ground: str = "white") -> np.ndarray:
    """uint8 (height, width, 3): texts on a plain ground."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor=ground)  # so that a point is a pixel
    canvas = FigureCanvasAgg(figure)
    for text in texts:
        figure.text(
            text.x / width,
            1 - text.y / height,
            spelled(text.line.text),
            fontfamily=FONT,
            fontsize=text.height,
            fontweight="bold" if text.line.bold else "normal",
            color=text.line.colour,
            va="top",
            parse_math=False,
        )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def spelled(text: str) -> str:
    """Letters that the font lacks as their numbers: matplotlib would draw the same box for all of them."""
    return "".join(one if ord(one) in _letters() else one.encode("unicode_escape").decode() for one in text)


@cache
def _letters() -> set[int]:
    return set(get_font(findfont(FONT)).get_charmap())


def scaled(frames: Tensor, largest: int) -> np.ndarray:
    """uint8 (T, H, W, C) -> the same, small frames enlarged in whole numbers, those of above `largest` made smaller."""
    longest = max(frames.shape[1:3])
    if longest > largest:
        factor, how = largest / longest, InterpolationMode.BILINEAR
    else:
        factor, how = max(1, min(math.ceil(SMALLEST_TILE / longest), largest // longest)), InterpolationMode.NEAREST
    size = [max(1, round(factor * side)) for side in frames.shape[1:3]]
    return F.resize(frames.permute(0, 3, 1, 2), size, how, antialias=True).permute(0, 2, 3, 1).numpy()


def draw_views(rows: Sequence[Sequence[View]], title: Sequence[str], picture: Path) -> None:
    """A row for each list of views, the caption of its first one beside it, and some of the frames of each."""
    largest = min(max(TALLEST // len(rows), SMALLEST_TILE), LARGEST_TILE)
    drawn = [_row(views, largest) for views in rows]
    left = round(CAPTION * TEXT * LETTER) + 2 * MARGIN
    width = left + max(row.width for row in drawn) + MARGIN
    letters = math.floor((width - 2 * MARGIN) / (TEXT * LETTER))
    heads = [Line(elided(line, letters), bold=not i) for i, line in enumerate(title)]
    texts, places = _lines(heads, MARGIN, MARGIN), []
    y = 2 * MARGIN + _height(len(heads))
    for row in drawn:
        texts += _lines(row.caption, MARGIN, y)
        for tile, label, x in zip(row.tiles, row.labels, row.places, strict=True):
            texts.append(Text(left + x, y, Line(elided(label, int(tile.shape[1] / (SMALL * LETTER)))), SMALL))
            places.append((left + x, y + SMALL + GAP, tile))
        y += max(row.tiles[0].shape[0] + SMALL + GAP, _height(len(row.caption))) + MARGIN
    sheet = lettered(y, width, texts)
    for x, top, tile in places:
        sheet[top : top + tile.shape[0], x : x + tile.shape[1]] = tile
    imsave(picture, sheet)


class Row(NamedTuple):
    caption: list[Line]
    tiles: list[np.ndarray]  # uint8 (h, w, C)
    labels: list[str]  # above each
    places: list[int]  # from the left
    width: int


def _row(views: Sequence[View], largest: int) -> Row:
    tiles, labels, places, x = [], [], [], 0
    for view in views:
        chosen = evenly(len(view.pixels), most=8 if len(views) == 1 else 3)
        frames, fps = view.sources[0].frames, view.sources[0].fps
        for t, tile in zip(chosen, scaled(view.pixels[chosen], largest), strict=True):
            tiles.append(tile)
            labels.append(" · ".join(filter(None, (view.crop, str(frames[t]), told_time(frames[t], fps)))))
            places.append(x)
            x += tile.shape[1] + GAP
        x += 2 * GAP  # between two crops
    return Row(caption(views[0], CAPTION), tiles, labels, places, width=x - 3 * GAP)


def evenly(num_frames: int, most: int) -> list[int]:
    """Places of at most `most` frames of a clip, the first among them."""
    number = min(num_frames, most)
    return [i * num_frames // number for i in range(number)]


def _lines(lines: Sequence[Line], x: float, y: float) -> list[Text]:
    return [Text(x, y + _height(i), line, TEXT) for i, line in enumerate(lines)]


def _height(num_lines: int) -> int:
    return num_lines * (TEXT + 3)


def film_views(views: Sequence[View], film: Path, together: int = 1) -> None:
    """All views move side by side, each with its labels under it, from first to last frame again and again.

    together: views that belong into one row
    """
    columns = num_columns(len(views), together)
    largest = min(max((WIDEST - MARGIN) // columns - GAP, SMALLEST_TILE // 2), LARGEST_TILE)
    moving = [scaled(view.pixels, largest) for view in views]  # (T, h, w, C) each
    side_y, side_x = moving[0].shape[1:3]
    step_y, step_x = side_y + 2 * (SMALL + 3) + GAP + MARGIN, side_x + GAP
    height = math.ceil(len(views) / columns) * step_y + MARGIN
    width = columns * step_x + MARGIN
    places = [(MARGIN + i // columns * step_y, MARGIN + i % columns * step_x) for i in range(len(views))]
    texts = []
    for view, (y, x) in zip(views, places, strict=True):
        lines = _label(view, int(side_x / (SMALL * LETTER)))
        texts += [Text(x, y + side_y + 3 + i * (SMALL + 3), line, SMALL) for i, line in enumerate(lines)]
    ground = lettered(height + height % 2, width + width % 2, texts, DARK)  # H.264 wants even sides
    write_video(str(film), _film(ground, moving, places), FILM_FPS, crf="18")


def num_columns(num_tiles: int, together: int) -> int:
    """Of a grid that is about half as wide again as high, with few empty places; a multiple of `together`."""
    wished = math.sqrt(1.5 * num_tiles)
    near = [n for n in range(together, num_tiles + 1, together) if 0.75 * wished <= n <= 1.25 * wished]
    if not near:
        return max(1, round(wished / together)) * together
    return min(near, key=lambda n: (-num_tiles % n, abs(n - wished)))


def _label(view: View, width: int) -> list[Line]:
    """Two lines: the classes, or one and the name of the view."""
    name = f"{view.name} {view.crop}".strip()
    told = [*told_weights(view.sources, width), elided(name, width)][:2]
    colour = "#ff6b6b" if any(source.failure for source in view.sources) else LIGHT
    return [Line(text, colour) for text in told]


def _film(ground: np.ndarray, moving: Sequence[np.ndarray], places: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Its frames; a bar at the lower edge grows from the first frame of the clips to the last."""
    num_frames, width = len(moving[0]), ground.shape[1]
    for _ in range(math.ceil(FILM_SECONDS * FILM_FPS / num_frames)):
        for t in range(num_frames):
            frame = ground.copy()
            for (y, x), clip in zip(places, moving, strict=True):
                frame[y : y + clip.shape[1], x : x + clip.shape[2]] = clip[t]
            frame[-4:, : width * (t + 1) // num_frames] = 160
            yield frame
