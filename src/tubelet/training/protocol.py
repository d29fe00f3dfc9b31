"""What a figure was measured with, in words that stand beside it."""

from omegaconf import DictConfig


def protocol(cfg: DictConfig, subset: str, num_videos: int) -> str:
    """One line: videos, views, clip, transform, averaging and order."""
    clip, views = cfg.clip, cfg.views
    order = f"frozen at {cfg.frozen_at}" if cfg.order == "frozen" else cfg.order
    return (
        f"{num_videos} {subset} videos, {views.clips} x {views.crops} views (clips x crops), "
        f"{clip.num_frames} frames, stride {clip.stride}, short side {clip.resize}, crop {clip.crop}, "
        f"mean of softmax over views, frames {order}"
    )
