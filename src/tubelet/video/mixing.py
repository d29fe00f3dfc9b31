"""Augmentation of whole batches, on the device, after normalisation: erasing, MixUp and CutMix.

Letters: N clips, C channels, T frames, H W pixels, K classes.
"""

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.tv_tensors import Video


class OnBatch(nn.Module):
    """An augmentation that takes normalised clips (N, C, T, H, W) and what each shows (N, K), and gives the same.

    Rows of what they show add up to 1. The clips may be written into. All draws follow from torch's global generator,
    on whatever device the clips are.
    """

    def forward(self, clips: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class RandomErasing(OnBatch):
    """In each clip, with probability `p`, one rectangle of noise, the same in all frames (Zhong et al. 2020).

    The noise is normal and fresh in each pixel of each frame, as in SlowFast's `pixel` mode and in timm.

    scale: smallest and largest area, in that of the frame
    ratio: smallest and largest height over width; logarithms are equally likely
    """

    def __init__(self, p: float, scale: tuple[float, float], ratio: tuple[float, float]):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p={p} is not a probability")
        self.p, self.rectangle = p, v2.RandomErasing(1.0, scale, ratio)

    def forward(self, clips: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.Generator(clips.device).manual_seed(int(torch.randint(2**62, ())))
        for clip in clips:  # (C, T, H, W)
            if torch.rand(()) < self.p:
                drawn = self.rectangle.make_params([clip.transpose(0, 1)])
                hole = clip[..., drawn["i"] : drawn["i"] + drawn["h"], drawn["j"] : drawn["j"] + drawn["w"]]
                if drawn["v"] is not None:  # no rectangle was found that fits
                    hole.normal_(generator=noise)
        return clips, shown


class Mix(OnBatch):
    """Of two clips each, one: blended by MixUp (Zhang et al. 2018) or cut together by CutMix (Yun et al. 2019).

    Each clip is mixed with the one before it, the whole batch in the same way. What a mixed clip shows is told in the
    shares of its two clips: of brightness, or of the area left after the box is clipped at the border.

    mixup, cutmix: alpha of the Beta distribution from which shares are drawn; 0 turns this one off
    p: probability that a batch is mixed at all
    switch: probability that it is CutMix, where neither is off
    """

    def __init__(self, mixup: float, cutmix: float, p: float = 1.0, switch: float = 0.5):
        super().__init__()
        if min(mixup, cutmix) < 0 or max(mixup, cutmix) == 0:
            raise ValueError(f"mixup={mixup} cutmix={cutmix} are not two numbers of at least 0, one of them above it")
        for name, value in (("p", p), ("switch", switch)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is not a probability")
        self.p, self.switch = p, switch if mixup and cutmix else float(cutmix > 0)
        self.mixup, self.cutmix = v2.MixUp(alpha=mixup or 1.0), v2.CutMix(alpha=cutmix or 1.0)

    def forward(self, clips: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        if torch.rand(()) >= self.p:
            return clips, shown
        mix = self.cutmix if torch.rand(()) < self.switch else self.mixup
        mixed, shares = mix(Video(clips), shown)
        return mixed.as_subclass(Tensor), shares
