"""Letters: B clips, C channels, t h w tokens along each axis, s = h * w, D width. All sizes differ."""

import pytest
import torch

from tubelet.layers.embed import TubeletEmbed, check_clip, clip_size, token_grid

B, C, D = 2, 4, 7
t, h, w = 3, 2, 5
TUBELET = (2, 6, 3)  # frames, pixels, pixels
CLIP = (B, C, t * 2, h * 6, w * 3)  # (B, C, T, H, W), with H != W


@pytest.fixture
def embed():
    torch.manual_seed(0)
    return TubeletEmbed(TUBELET, D, channels=C).double()


@pytest.fixture
def video():
    return torch.randn(CLIP, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_convolution(embed, video):
    """(B, C, T, H, W) -> (B, t, s, D), by the convolution whose weights the embedding holds."""
    return embed.proj(video).flatten(3).permute(0, 2, 3, 1)


def test_tubelet_embedding_equals_its_own_convolution(embed, video):
    ours = embed(video)
    assert ours.shape == (B, t, h * w, D)
    # In float64 only the order of 144 additions differs, which costs about 1e-15.
    torch.testing.assert_close(ours, by_convolution(embed, video), rtol=0, atol=1e-12)


def test_gradients_of_tubelet_embedding_equal_those_of_its_convolution(embed, video):
    video.requires_grad_()
    of = [video, embed.proj.weight, embed.proj.bias]
    ours = torch.autograd.grad(embed(video).square().sum(), of)
    theirs = torch.autograd.grad(by_convolution(embed, video).square().sum(), of)
    for mine, reference in zip(ours, theirs, strict=True):
        # Gradients are sums of up to 60 terms of size 10; float64 leaves about 1e-13.
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-10)


def test_a_clip_stored_frames_first_gives_the_same_tokens(embed, video):
    frames_first = video.transpose(1, 2).contiguous()  # (B, T, C, H, W), as decoders give it
    torch.testing.assert_close(embed(frames_first.transpose(1, 2)), embed(video), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("pixel", "token", "inside"),
    [
        ((0, 0, 0, 0), (0, 0), (0, 0, 0, 0)),
        ((3, 5, 11, 14), (2, 9), (3, 1, 5, 2)),  # the last pixel of the clip
        ((1, 3, 6, 4), (1, 5 + 1), (1, 1, 0, 1)),  # second row of h = 2, second place of w = 5
        ((2, 2, 5, 12), (1, 4), (2, 0, 5, 0)),
    ],
)
def test_one_pixel_reaches_one_token_with_its_own_weight(embed, pixel, token, inside):
    """pixel (c, frame, y, x); token (time, place), places row by row; inside (c, frame, y, x) within the tubelet."""
    video = torch.zeros(1, *CLIP[1:], dtype=torch.float64)
    video[(0, *pixel)] = 1.0
    expected = embed.proj.bias.expand(1, t, h * w, D).clone()
    expected[(0, *token)] += embed.proj.weight[(slice(None), *inside)]
    torch.testing.assert_close(embed(video), expected, rtol=0, atol=0)


def test_embedding_holds_the_weights_of_a_convolution_by_name(embed):
    shapes = {name: tuple(value.shape) for name, value in embed.state_dict().items()}
    assert shapes == {"proj.weight": (D, C, *TUBELET), "proj.bias": (D,)}


@pytest.mark.parametrize("clip", [(B, C, 7, 12, 15), (B, C, 6, 13, 15), (B, C, 6, 12, 14)])
def test_pixels_that_fill_no_tubelet_are_an_error_and_not_cut_off(embed, clip):
    """A convolution would drop the rest of the clip without a word."""
    assert embed.proj(torch.zeros(clip, dtype=torch.float64)).ndim == 5
    with pytest.raises((RuntimeError, ValueError)):
        embed(torch.zeros(clip, dtype=torch.float64))


@pytest.mark.parametrize(
    ("num_frames", "crop", "tubelet", "expected"),
    [
        (32, 224, (2, 16, 16), (16, 14, 14)),  # ViViT-B/16x2
        (8, 224, (1, 16, 16), (8, 14, 14)),  # TimeSformer
        (6, 20, (2, 10, 4), (3, 2, 5)),
        (6, (8, 20), (2, 4, 4), (3, 2, 5)),
        (2, 16, (2, 16, 16), (1, 1, 1)),
    ],
)
def test_token_grid_counts_the_tubelets_along_each_axis(num_frames, crop, tubelet, expected):
    assert token_grid(clip_size(num_frames, crop), tubelet) == expected


@pytest.mark.parametrize(
    ("num_frames", "crop", "tubelet", "message"),
    [
        (31, 224, (2, 16, 16), "num_frames=31 is not a multiple of the tubelet's 2; the nearest is 30 or 32"),
        (9, 224, (4, 16, 16), "num_frames=9 is not a multiple of the tubelet's 4; the nearest is 8 or 12"),
        (32, 100, (2, 16, 16), "crop height=100 is not a multiple of the tubelet's 16; the nearest is 96 or 112"),
        (32, 100, (2, 10, 16), "crop width=100 is not a multiple of the tubelet's 16; the nearest is 96 or 112"),
        (3, 224, (4, 16, 16), "num_frames=3 is not a multiple of the tubelet's 4; the nearest is 4"),
        (32, 8, (2, 16, 16), "crop height=8 is not a multiple of the tubelet's 16; the nearest is 16"),
        (0, 224, (2, 16, 16), "num_frames=0 is not a multiple of the tubelet's 2; the nearest is 2"),
    ],
)
def test_token_grid_names_the_nearest_sizes_where_the_tubelet_does_not_fit(num_frames, crop, tubelet, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        token_grid(clip_size(num_frames, crop), tubelet)
    assert str(error.value) == f"clip: {message}"


@pytest.mark.parametrize("tubelet", [[2, 16], [2, 16, 16, 3], [2, 0, 16], [-1, 16, 16]])
def test_a_tubelet_that_is_not_three_positive_numbers_is_an_error(tubelet):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        token_grid((32, 224, 224), tubelet)
    assert str(error.value) == f"model: the tubelet {tubelet} is not three positive numbers: frames, pixels, pixels"


def test_a_message_names_the_tubelet_as_its_model_does():
    with pytest.raises(ValueError, match=r"num_frames=7 is not a multiple of patch_stride's 2; the nearest is 6 or 8"):
        token_grid((7, 56, 56), (2, 4, 4), "patch_stride")


@pytest.mark.parametrize("crop", [[32], (32, 48, 64), []])
def test_a_crop_of_another_number_of_sides_is_an_error(crop):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        clip_size(8, crop)
    assert str(error.value) == f"clip: crop={list(crop)} is neither one number of pixels nor two, height and width"


@pytest.mark.parametrize("shape", [(2, 4, 8, 32, 48), (2, 1, 8, 32, 48), (2, 3, 8, 48, 32), (3, 8, 32, 48)])
def test_a_clip_of_other_channels_frames_or_pixels_is_an_error_that_says_what_to_do(shape):
    check_clip(torch.zeros(2, 3, 8, 32, 48), (8, 32, 48))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        check_clip(torch.zeros(shape), (8, 32, 48))
    assert str(error.value) == (
        f"clip: the model takes (B, C, T, H, W) = (B, 3, 8, 32, 48), and was given {shape}: "
        "cut the clips to this size, or build the model with their num_frames and crop"
    )
