"""The files that are loaded: of your own, by kind, or generated where a kind is not given."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from tubelet.video.annotations import Video
from tubelet.video.pyav import write_video

SUFFIXES = {".avi", ".mp4", ".webm", ".mkv", ".mov", ".m4v"}
NUM_FILES = 4  # generated of each kind
MOST_FILES = 8  # of a folder
# kind -> height, width, frames, frames a second, suffix, encoder, its options; bit rates are those of real files
KINDS = {
    "ucf101": (240, 320, 180, 25, ".avi", "mpeg4", {"g": "12", "b": "360k"}),
    "kinetics": (256, 340, 300, 30, ".mp4", "libx264", {"g": "250", "b": "700k"}),
    "ssv2": (240, 427, 48, 12, ".webm", "libvpx-vp9", {"g": "128", "cpu-used": "4", "b": "420k"}),
    "1080p": (1080, 1920, 150, 30, ".mp4", "libx264", {"g": "250", "b": "5M", "preset": "veryfast"}),
}


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 (H, W, C): clouds of several sizes, as natural pictures have detail of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        interpolate(torch.randn(1, 3, height // step + 2, width // step + 2, generator=generator), (height, width))
        * step**0.5
        for step in (2, 8, 32, 128)
    ]
    clouds = torch.stack(layers).sum(0)[0]
    clouds = 128 + 45 * clouds / clouds.std()
    return clouds.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def moving(height: int, width: int, num_frames: int, seed: int) -> Iterator[np.ndarray]:
    """A view that pans over a picture, a smaller one that moves across it, and the noise of a sensor."""
    noise = np.random.default_rng(seed)
    spare = num_frames + 8
    behind, before = picture(height + spare, width + spare, seed), picture(height // 3, width // 4, seed + 1)
    for i in range(num_frames):
        frame = behind[i : i + height, i // 2 : i // 2 + width].astype(np.int16)
        left = (3 * i) % (width - before.shape[1])
        frame[height // 3 : height // 3 + before.shape[0], left : left + before.shape[1]] = before
        frame += noise.integers(-3, 4, frame.shape, dtype=np.int16)
        yield frame.clip(0, 255).astype(np.uint8)


def generated(kind: str, folder: Path) -> list[Video]:
    """Written once, and found there the next time."""
    height, width, num_frames, fps, suffix, codec, options = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{kind}_{seed}{suffix}" for seed in range(NUM_FILES)]
    for seed, path in enumerate(paths):
        if not path.exists():
            write_video(str(path), moving(height, width, num_frames, seed), fps, codec, **options)
    return [Video(str(path), 0) for path in paths]


def found(place: Path) -> list[Video]:
    """A file, or at most `MOST_FILES` of a folder, spread evenly over its sorted files. Raises FileNotFoundError."""
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{place} holds no video")
    step = max(len(files) // MOST_FILES, 1)
    return [Video(str(path), 0) for path in files[::step][:MOST_FILES]]
