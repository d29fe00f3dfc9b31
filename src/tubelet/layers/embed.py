"""From a clip to tokens: tubelet embedding, ViViT (Arnab et al., ICCV 2021), section 3.2.

Letters: B clips, C channels, T H W frames and pixels, t h w tokens along each axis, s = h * w, D width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from tubelet.layers.linear import linear

Size3 = tuple[int, int, int]


def clip_size(num_frames: int, crop: int | Sequence[int]) -> Size3:
    """(frames, pixels) -> (T, H, W). `crop` is one number where H = W, or the pair (H, W)."""
    sides = (crop, crop) if isinstance(crop, int) else tuple(crop)
    if len(sides) != 2:
        raise ValueError(f"clip: crop={list(sides)} is neither one number of pixels nor two, height and width")
    return num_frames, sides[0], sides[1]


def token_grid(size: Size3, tubelet: Size3, called: str = "the tubelet") -> Size3:
    """(T, H, W), (frames, pixels, pixels) -> tokens (t, h, w).

    called: what the model calls the second, for messages

    Raises ValueError where the tubelet does not divide the clip, naming the nearest sizes that it does divide.
    """
    if len(tubelet) != 3 or min(tubelet) < 1:
        raise ValueError(f"model: {called} {list(tubelet)} is not three positive numbers: frames, pixels, pixels")
    for name, length, step in zip(("num_frames", "crop height", "crop width"), size, tubelet, strict=True):
        if length < step or length % step:
            rule = f"is not a multiple of {called}'s {step}; the nearest is {multiples(length, step)}"
            raise ValueError(f"clip: {name}={length} {rule}")
    t, h, w = (length // step for length, step in zip(size, tubelet, strict=True))
    return t, h, w


def multiples(length: int, step: int) -> str:
    """The multiples of `step` next to `length`, in words."""
    below = length // step * step
    return f"{below} or {below + step}" if below > 0 else f"{step}"


def check_clip(video: Tensor, size: Size3) -> None:
    """(B, 3, T, H, W) -> nothing. Raises ValueError for a clip of another size than the model's positions are for.

    Without this, a clip of another shape with as many tokens would be given the positions of other places.
    """
    if video.ndim != 5 or tuple(video.shape[1:]) != (3, *size):
        raise ValueError(
            f"clip: the model takes (B, C, T, H, W) = (B, 3, {', '.join(map(str, size))}), and was given "
            f"{tuple(video.shape)}: cut the clips to this size, or build the model with their num_frames and crop"
        )


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
        return linear(x, self.proj.weight.flatten(1), self.proj.bias).flatten(2, 3)  # (B, t, s, D)
