"""What a figure was measured with, in words that stand beside it."""

from omegaconf import DictConfig

from tubelet.training.build import build
from tubelet.training.build_data import build_sampling
from tubelet.video.annotations import Catalogue


def protocol(cfg: DictConfig, subset: str, catalogue: Catalogue, num_evaluated: int) -> str:
    """One line: videos, views, clip, transform, averaging and order."""
    clip, views = cfg.clip, cfg.views
    sampled = build_sampling(clip).told(build(views.starts))
    videos = getattr(catalogue, subset)
    shared = " (those of validation)" if subset == "test" and videos == catalogue.val else ""
    order = f"frozen at {cfg.frozen_at}" if cfg.order == "frozen" else cfg.order
    number = f"{len(videos)}" if num_evaluated == len(videos) else f"{num_evaluated} of {len(videos)}"
    data = f"split {cfg.data.split} of {cfg.data.root}" if "split" in cfg.data else cfg.data.get("root")
    return (
        f"{number} {subset} videos{shared} of {data}, {views.clips} x {views.crops} views (clips x crops), "
        f"{sampled}, short side {clip.resize}, crop {clip.crop}, "
        f"mean of softmax over views, frames {order}, {cfg.trainer.precision}"
    )
