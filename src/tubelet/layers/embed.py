"""From a clip to tokens: tubelet embedding, ViViT (Arnab et al., ICCV 2021), section 3.2.

Letters: B clips, C channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

Size3 = tuple[int, int, int]


def token_grid(num_frames: int, crop: int, tubelet: Size3) -> Size3:
    """(frames, pixels, (frames, pixels, pixels)) -> tokens (t, h, w).

    Raises ValueError where the tubelet does not divide the clip, naming the nearest sizes that it does divide.
    """
    sizes = {
        "num_frames": (num_frames, tubelet[0]),
        "crop height": (crop, tubelet[1]),
        "crop width": (crop, tubelet[2]),
    }
    for name, (size, step) in sizes.items():
        if step < 1:
            raise ValueError(f"model: the tubelet's {step} in {tuple(tubelet)} is not a positive number")
        if size < step or size % step:
            below = size // step * step
            nearest = f"{below} or {below + step}" if below > 0 else f"{step}"
            raise ValueError(f"clip: {name}={size} is not a multiple of the tubelet's {step}; the nearest is {nearest}")
    return num_frames // tubelet[0], crop // tubelet[1], crop // tubelet[2]


def check_clip(video: Tensor, num_frames: int, crop: int) -> None:
    """(B, C, T, H, W) -> nothing. Raises ValueError for a clip of another size than the model's positions are for.

    Without this, a clip of another shape with as many tokens would be given the positions of other places.
    """
    if video.ndim != 5 or video.shape[2:] != (num_frames, crop, crop):
        wanted = ("B", "C", num_frames, crop, crop)
        raise ValueError(f"clip: the model takes (B, C, T, H, W) = {wanted}, and was given {tuple(video.shape)}")


class TubeletEmbed(nn.Module):
    """Cut a clip into tubelets that do not overlap and project each to a token.

    `proj` holds the weight in the shape of a convolution, so that published weights load by name. It is applied as
    one matrix product, which gives the same numbers: in bfloat16 conv3d has no good algorithm for stride = kernel.
    """

    def __init__(self, tubelet: Size3, dim: int, channels: int = 3):
        super().__init__()
        self.tubelet: Size3 = (tubelet[0], tubelet[1], tubelet[2])
        self.proj = nn.Conv3d(channels, dim, kernel_size=self.tubelet, stride=self.tubelet)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, t, s, D)."""
        tau, p, q = self.tubelet
        x = video.unflatten(4, (-1, q)).unflatten(3, (-1, p)).unflatten(2, (-1, tau))  # (B, C, t, tau, h, p, w, q)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, t, h, w, C * tau * p * q)
        return F.linear(x, self.proj.weight.flatten(1), self.proj.bias).flatten(2, 3)  # (B, t, s, D)
