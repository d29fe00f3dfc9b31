"""From the config to data: which videos there are, what is done to them, and the loaders."""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence

from hydra.utils import get_method
from omegaconf import DictConfig
from torch import nn

from tubelet.training.build import build
from tubelet.training.data import VideoData
from tubelet.training.validate import BESIDE_TARGET, CHOOSING
from tubelet.video.annotations import Catalogue
from tubelet.video.disk import leave_out_missing
from tubelet.video.doubts import tell_doubts, tell_frames_before
from tubelet.video.flips import with_true_labels
from tubelet.video.index import find_index, read_entries
from tubelet.video.known import KnownVideos, count_changed
from tubelet.video.mixing import Mix, OnBatch
from tubelet.video.sampling import FirstToLast, Sampling, order_named
from tubelet.video.subset import class_list, take_classes, take_fraction
from tubelet.video.transforms import ShortSideJitter
from tubelet.video.views import TestViews, TrainingView

log = logging.getLogger(__name__)
LOADING = BESIDE_TARGET["data"] - CHOOSING  # keys of `data` that say how videos are loaded; others say which there are


def listed_catalogue(data: DictConfig) -> Catalogue:
    """All videos of the classes taken, on disk or not.

    `data` holds the arguments of its `_target_`, which lists the videos, beside those of the loaders. Those that say
    which part of it is used may be arguments as well: class folders are listed by `classes`. A `~` before a path, which
    shells leave alone behind a `=`, is replaced in `data` itself: the record of a run holds whole paths.
    """
    for key, value in data.items():
        if isinstance(value, str) and value.startswith("~/"):
            data[key] = os.path.expanduser(value)
    taken = inspect.signature(get_method(data["_target_"])).parameters
    classes = class_list(data.get("classes"))
    given = {key: value for key, value in data.items() if key in taken or key not in BESIDE_TARGET["data"]}
    catalogue = build(given | ({"classes": classes} if "classes" in taken else {}))
    return catalogue if classes is None else take_classes(catalogue, classes)


def build_catalogue(
    data: DictConfig, needed: Sequence[str] = ("train", "val", "test"), trained_on: Sequence[str] = ("train",)
) -> Catalogue:
    """The videos to train or to evaluate on.

    needed: the splits that will be read; trained_on: those that do without what is not on disk, as in `disk.py`
    Raises ValueError or FileNotFoundError where they lack what is asked for.
    """
    listed = listed_catalogue(data)
    _refuse_wrong_labels(listed)
    catalogue = take_fraction(listed, data.get("fraction", 1.0), data.get("fraction_seed"))
    catalogue = leave_out_missing(catalogue, needed, data["on_error"], data.get("root"), trained_on)
    for split in needed:
        if not getattr(catalogue, split):
            raise ValueError(f"data.root={data.get('root')}: the {split} split holds no video")
    tell_doubts(catalogue, needed)
    return catalogue


def _refuse_wrong_labels(catalogue: Catalogue) -> None:
    wrong = catalogue.wrong_labels()
    if wrong:
        path, what = next(iter(wrong.items()))
        others = f"; {len(wrong) - 1} more: tubelet scan names all wrong labels" if len(wrong) > 1 else ""
        raise ValueError(f"{what} ({path}){others}")


def build_sampling(clip: DictConfig) -> Sampling:
    return build(clip.sampling)(num_frames=clip.num_frames, stride=clip.stride, fps=clip.fps)


def build_augment(cfg: DictConfig, classes: Sequence[str]) -> tuple[dict[str, nn.Module], list[OnBatch]]:
    """The augmentations of a clip, by name, in the workers; and those of a batch, on the device."""
    built = {key: build(node) for key, node in cfg.augment.items() if node is not None}
    on_batch = {key: one for key, one in built.items() if isinstance(one, OnBatch)}
    on_clip = {key: one for key, one in built.items() if key not in on_batch}
    for key, one in on_clip.items():
        if isinstance(one, ShortSideJitter) and one.shortest < cfg.clip.crop:
            raise ValueError(
                f"augment.{key}.scale={list(one.scale)} of {one.size} pixels gives short sides of {one.shortest}, "
                f"less than clip.crop={cfg.clip.crop}; the least is {cfg.clip.crop / one.size:.4g}"
            )
    return with_true_labels(on_clip, classes), list(on_batch.values())


def check_mixing(augment: Sequence[OnBatch], batch_size: int) -> None:
    """Raises ValueError where clips could be mixed with themselves only."""
    if batch_size < least_batch(augment):
        raise ValueError(f"augment: with data.batch_size={batch_size} Mix has no other video to mix with; leave it out")


def least_batch(augment: Sequence[OnBatch]) -> int:
    """Videos that a batch needs."""
    return 2 if any(isinstance(one, Mix) and one.p > 0 for one in augment) else 1


def build_data(cfg: DictConfig, catalogue: Catalogue, augment: Mapping[str, nn.Module], step: int) -> VideoData:
    """augment: of the clips; step: videos of one optimiser step"""
    order, clip, sampling = order_named(cfg.order, cfg.frozen_at), cfg.clip, build_sampling(cfg.clip)
    if not isinstance(clip.crop, int):
        raise ValueError(f"clip.crop={clip.crop}: videos are cropped to squares; give one number of pixels")
    training = TrainingView(sampling, augment, cfg.data.repeats)
    validation = TestViews(sampling, clip.resize, clip.crop, num_clips=1, num_crops=1, starts=FirstToLast())
    test = TestViews(sampling, clip.resize, clip.crop, cfg.views.clips, cfg.views.crops, build(cfg.views.starts))
    # What is left of `data`: max_failed is not about loading, but about what becomes of failures.
    loading = {key: value for key, value in cfg.data.items() if key in LOADING - {"max_failed", "repeats"}}
    loading["index"] = read_known(cfg.data, catalogue)
    built = VideoData(catalogue, training, validation, test, order, cfg.seed, step, **loading)
    if loading.get("first_frame") is not None:
        tell_frames_before(catalogue, loading["frame_names"], loading["first_frame"])
    return built


def read_known(data: DictConfig, catalogue: Catalogue) -> KnownVideos:
    """What the index says of the catalogue's videos; nothing where there is no index.

    Whether an entry is current is asked when its video is loaded; here only of some, to tell of an index that is old.
    Raises FileNotFoundError or ValueError.
    """
    file = find_index(data.root, data.get("index"))  # configs of older checkpoints have no such key
    if file is None:
        return KnownVideos()
    paths = (os.path.abspath(path) for path, _ in (*catalogue.train, *catalogue.val, *catalogue.test))
    places = dict.fromkeys(paths)
    known = KnownVideos(entry for entry in read_entries(file) if entry.path in places)
    log.info("index: %d of %d videos are in %s", len(known), len(places), os.path.relpath(file))
    changed, asked = count_changed(known, list(places))
    if changed:
        told = (
            "index: %d of %d files asked for have changed since, and are read as without it; `tubelet scan` renews it"
        )
        log.warning(told, changed, asked)
    return known


def build_training_data(cfg: DictConfig, catalogue: Catalogue, augment: Mapping[str, nn.Module]) -> VideoData:
    """Raises ValueError where not one optimiser step can be made of the training videos."""
    total, repeats, num_videos = cfg.optim.total_batch, cfg.data.repeats, len(catalogue.train)
    if num_videos < total // repeats:
        clips = num_videos * repeats
        raise ValueError(
            f"optim.total_batch={total} is more than the {clips} clips of {num_videos} training videos; "
            f"set it to at most {clips}, with a data.batch_size that divides it"
            + (f" (the recipe set it: {cfg.follows}; recipe=none takes the defaults)" if cfg.follows else "")
        )
    return build_data(cfg, catalogue, augment, step=max(total // repeats, 1))
