"""What a batch shows, view by view: pixels, the shares of its labels, and where they come from, in pixels and words.

Letters: B videos of V views each, K clips that they are cut from, N = V * B, C channels, T frames, H W pixels.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tubelet.video.annotations import Catalogue, Video

MOST_NUMBERS = 8  # of frames that are listed in a line
SMALLEST = 0.005  # share that two digits can tell

CROPS = {1: ("",), 3: ("left/top", "centre", "right/bottom")}  # along the long side, by their number


class Source(NamedTuple):
    """A clip of a video, as one view of it was cut and augmented.

    share: of the pixels or of their brightness, where it is mixed with another
    label, listed: the classes that it shows and that its video has, which a flip sets apart
    view: which of several of one decode, or empty
    frames: numbers of the T frames, in the order shown
    fps: of the file, 0 where it does not say
    failure: why another video than this one was to be read, and could not be; empty if none
    """

    share: float
    label: str
    listed: str
    path: str
    view: str
    frames: list[int]
    fps: float
    reader: str
    failure: str


class View(NamedTuple):
    """pixels: uint8 (T, H, W, C); name, crop: which clip of its video and where in the frame, in a test; else empty"""

    pixels: Tensor
    name: str
    crop: str
    sources: list[Source]  # the one with the largest share first


class Line(NamedTuple):
    text: str
    colour: str = "black"
    bold: bool = False


def views_of_training(
    batch: Mapping[str, Any], pixels: Tensor, shares: Tensor, videos: Sequence[Video], catalogue: Catalogue, root: str
) -> list[View]:
    """The views of a video one after the other, video by video.

    batch: of a training loader
    pixels: uint8 (N, C, T, H, W), first views first
    shares: (N, N), of each clip of the batch in each
    """
    num_videos, num_views = batch["shown"].shape
    made = []
    for n in [view * num_videos + video for video in range(num_videos) for view in range(num_views)]:
        parts = shares[n].nonzero().flatten().tolist()
        parts.sort(key=lambda part: -shares[n, part])
        sources = [
            _source(batch, part % num_videos, part // num_videos, 0, videos, catalogue, root)._replace(
                share=float(shares[n, part]),
                view=f", view {part // num_videos + 1}/{num_views}" if num_views > 1 else "",
            )
            for part in parts
        ]
        made.append(View(pixels[n].permute(1, 2, 3, 0), "", "", sources))
    return made


def views_of_test(
    sample: Mapping[str, Any], videos: Sequence[Video], catalogue: Catalogue, root: str
) -> list[list[View]]:
    """A list for each clip of the video, with its crops. sample: of a VideoDataset with TestViews"""
    batch = torch.utils.data.default_collate([sample])
    num_clips = len(sample["frames"])
    crops = CROPS[len(sample["video"]) // num_clips]
    return [
        [
            View(
                sample["video"][k * len(crops) + c].permute(1, 2, 3, 0),
                f"clip {k + 1}/{num_clips}" if num_clips > 1 else "",
                crop,
                [_source(batch, 0, k * len(crops) + c, k, videos, catalogue, root)],
            )
            for c, crop in enumerate(crops)
        ]
        for k in range(num_clips)
    ]


def _source(
    batch: Mapping[str, Any], b: int, view: int, k: int, videos: Sequence[Video], catalogue: Catalogue, root: str
) -> Source:
    video = videos[int(batch["index"][b])]
    return Source(
        share=1.0,
        label=catalogue.classes[int(batch["shown"][b, view])],
        listed=catalogue.classes[video.label],
        path=below(video.path, root),
        view="",
        frames=batch["frames"][b, k].tolist(),
        fps=float(batch["fps"][b]),
        reader=batch["reader"][b],
        failure=batch["failure"][b],
    )


def below(path: str, root: str) -> str:
    """The path from `root` on, or, outside of it, from here on."""
    inside = os.path.relpath(path, root)
    return os.path.relpath(path) if inside.startswith(os.pardir) else inside


def weights(sources: Sequence[Source]) -> dict[str, float]:
    """Class -> its share of what is shown."""
    shown: dict[str, float] = {}
    for source in sources:
        shown[source.label] = shown.get(source.label, 0.0) + source.share
    return shown


def told_share(share: float) -> str:
    return f"{share:.2f}" if share >= SMALLEST else f"<{SMALLEST}"


def told_weights(sources: Sequence[Source], width: int) -> list[str]:
    """`0.70 Punch + 0.30 YoYo`, in a line for each class where one of `width` letters is too short for all.

    The name alone of a clip that is not mixed.
    """
    if len(sources) == 1:
        return [elided(sources[0].label, width)]
    parts = [f"{told_share(share)} {name}" for name, share in weights(sources).items()]
    line = " + ".join(parts)
    return [line] if len(line) <= width else [elided(part, width) for part in parts]


def told_frames(frames: Sequence[int]) -> str:
    numbers = [str(number) for number in frames]
    if len(numbers) > MOST_NUMBERS:
        numbers = [*numbers[: MOST_NUMBERS - 3], "…", *numbers[-2:]]
    return f"frames {' '.join(numbers)}"


def told_time(frame: int, fps: float) -> str:
    """When a frame is shown, or nothing, for a file that does not say its rate."""
    return f"{frame / fps:.2f} s" if fps > 0 else ""


def caption(view: View, width: int) -> list[Line]:
    """What stands beside a view, in lines of at most `width` letters."""
    lines = [Line(text, bold=True) for text in told_weights(view.sources, width)]
    if view.name:
        lines.append(Line(elided(view.name, width)))
    for source in view.sources:
        share = f"{told_share(source.share)} of " if len(view.sources) > 1 else ""
        lines.append(Line(share + elided(source.path + source.view, width - len(share)), "#1f4e8c"))
        if source.label != source.listed:
            lines.append(Line(elided(f"flipped: {source.listed} became {source.label}", width), "#8a5a00"))
        lines += [Line(elided(told_frames(source.frames), width)), Line(elided(_when(source), width))]
        lines += [Line(text, "#c00000") for text in _failed(source, width)]
    return lines


def _when(source: Source) -> str:
    first, last = (told_time(frame, source.fps) for frame in (source.frames[0], source.frames[-1]))
    when = f"{first} to {last} at {source.fps:.4g} frames/s" if source.fps > 0 else "the file does not say its rate"
    return f"{when}, read by {source.reader}" if source.reader else when


def _failed(source: Source, width: int) -> list[str]:
    """In up to three lines. A video that could be read although there is a failure stands in for that one."""
    if not source.failure:
        return []
    text = ("in the place of " if source.reader else "") + source.failure
    text = elided(text, 3 * width)
    return [text[start : start + width] for start in range(0, len(text), width)]


def elided(text: str, width: int) -> str:
    """Of at most `width` letters, with the middle left out where it is longer."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
