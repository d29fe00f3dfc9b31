"""RandAugment against timm's, frame by frame, and its policy string."""

import random
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from timm.data import auto_augment
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from tubelet.video import randaugment
from tubelet.video.randaugment import EXAMPLE, OPERATIONS, RandAugment

# Each operation's name in timm, and how far apart single pixels may be, in grey levels: PIL computes in whole numbers.
TIMM = {
    randaugment.auto_contrast: ("AutoContrast", 1),
    randaugment.equalise: ("Equalize", 0),
    randaugment.invert: ("Invert", 0),
    randaugment.rotate: ("Rotate", None),
    randaugment.posterise: ("PosterizeIncreasing", 0),
    randaugment.solarise: ("SolarizeIncreasing", 0),
    randaugment.solarise_add: ("SolarizeAdd", 0),
    randaugment.colour: ("ColorIncreasing", 2),
    randaugment.contrast: ("ContrastIncreasing", 2),
    randaugment.brightness: ("BrightnessIncreasing", 1),
    randaugment.sharpness: ("SharpnessIncreasing", 2),
    randaugment.shear_x: ("ShearX", None),
    randaugment.shear_y: ("ShearY", None),
    randaugment.translate_x: ("TranslateXRel", None),
    randaugment.translate_y: ("TranslateYRel", None),
}


def frames(height: int = 48, width: int = 64) -> Tensor:
    """uint8 (T, C, H, W): smooth, so that half a pixel more or less is half a grey level or two."""
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    channels = [30 + 2 * across + down, 200 - 3 * down, 60 + across + 2 * down]
    return torch.stack([torch.stack(channels) + 5 * t for t in range(3)]).clamp(0, 255).to(torch.uint8)


def timms(name: str, frame: Tensor, magnitude: float, negative: bool, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(C, H, W) -> the same, by timm's operation with its linear interpolation."""
    monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value: -value if negative else value)
    hparams = {"img_mean": (128, 128, 128), "interpolation": Image.Resampling.BILINEAR}
    operation = auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
    return F.pil_to_tensor(operation(F.to_pil_image(frame)))


def test_the_operations_are_timms_increasing_ones():
    assert [TIMM[operation][0] for operation in OPERATIONS] == auto_augment._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("magnitude", [0, 3, 7, 9.9])
@pytest.mark.parametrize("negative", [False, True])
def test_every_operation_equals_timms_in_every_frame(
    operation: Callable, magnitude: float, negative: bool, monkeypatch: pytest.MonkeyPatch
):
    name, most = TIMM[operation]
    monkeypatch.setattr(randaugment, "either_sign", lambda value: -value if negative else value)
    shown, clip = operation(frames(), magnitude / 10), frames()
    if name.startswith("Translate"):  # drawn with either sign, so which of them is called positive does not matter
        negative = not negative
    for ours, frame in zip(shown, clip, strict=True):
        theirs = timms(name, frame, magnitude, negative, monkeypatch)
        difference = (ours.int() - theirs.int()).abs()
        if most is None:  # at the border of what was moved, where pixels are blended with the ground outside or not
            assert difference.float().mean() < 2.0
            assert (difference <= 3).float().mean() > 0.96
        else:
            assert difference.max() <= most


def test_an_operation_changes_all_frames_alike():
    clip = frames()[:1].expand(4, -1, -1, -1)
    augment = RandAugment("rand-m9-n3-mstd0.5-inc1-p1")
    for seed in range(30):
        torch.manual_seed(seed)
        shown = augment(clip)
        assert torch.equal(shown, shown[:1].expand_as(shown))


def recorded(policy: str, num_draws: int, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, float]]]:
    """(operation, strength) of each operation that was applied, in each draw."""
    told: list[list[tuple[int, float]]] = []
    spies = [
        lambda clip, strength, place=place: told[-1].append((place, strength)) or clip
        for place in range(len(OPERATIONS))
    ]
    monkeypatch.setattr(randaugment, "OPERATIONS", spies)
    torch.manual_seed(0)
    augment = RandAugment(policy)
    for _ in range(num_draws):
        told.append([])
        augment(frames())
    return told


def test_the_recipes_policy_draws_four_operations_with_probability_one_half(monkeypatch: pytest.MonkeyPatch):
    told = recorded(EXAMPLE, 2000, monkeypatch)
    numbers = [len(one) for one in told]
    assert max(numbers) == 4
    assert sum(numbers) / 2000 == pytest.approx(2.0, abs=0.1)  # standard error 0.022
    places = [place for one in told for place, _ in one]
    assert min(places.count(place) for place in range(15)) > 200  # 267 each, +- 16
    strengths = torch.tensor([strength for one in told for _, strength in one])
    assert strengths.mean().item() == pytest.approx(0.7, abs=0.005)
    assert strengths.std().item() == pytest.approx(0.05, abs=0.003)


def test_magnitudes_are_distributed_as_timms_draws_them(monkeypatch: pytest.MonkeyPatch):
    ours = [strength for one in recorded("rand-m9-n4-mstd2-inc1-p1", 500, monkeypatch) for _, strength in one]
    monkeypatch.setitem(auto_augment.LEVEL_TO_ARG, "Brightness", lambda level, _: (theirs.append(level / 10) or 1.0,))
    theirs: list[float] = []
    operation = auto_augment.AugmentOp("Brightness", 1.0, 9, {"magnitude_std": 2.0, "img_mean": (128,) * 3})
    random.seed(0)
    image = Image.new("RGB", (4, 4))
    for _ in range(2000):
        operation(image)
    for part in (0.1, 0.3, 0.5):
        assert torch.tensor(ours).quantile(part).item() == pytest.approx(
            torch.tensor(theirs).quantile(part).item(), abs=0.03
        )
    assert max(ours) == max(theirs) == 1.0


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("rand-m7-n4-mstd0.5-inc1", (7, 4, 0.5, 0.5)),
        ("rand-inc1", (10, 2, 0.0, 0.5)),
        ("rand-m9-inc1-n3-p0.8", (9, 3, 0.0, 0.8)),
    ],
)
def test_a_policy_is_read_as_timm_reads_it(policy: str, expected: tuple[float, ...]):
    ours = RandAugment(policy)
    assert (ours.magnitude, ours.num_operations, ours.deviation, ours.p) == expected
    theirs = auto_augment.rand_augment_transform(policy, {"img_mean": (128, 128, 128)})
    first = theirs.ops[0]
    assert (first.magnitude, theirs.num_layers, first.magnitude_std, first.prob) == expected
    assert first.magnitude_max is None  # 10
    assert [one.name for one in theirs.ops] == [TIMM[operation][0] for operation in OPERATIONS]


def test_a_deviation_above_100_draws_uniformly(monkeypatch: pytest.MonkeyPatch):
    strengths = [s for one in recorded("rand-m8-n4-mstd101-inc1-p1", 500, monkeypatch) for _, s in one]
    assert 0 <= min(strengths) < 0.01
    assert 0.79 < max(strengths) <= 0.8
    assert sum(strengths) / len(strengths) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    "policy", ["augmix-m3", "rand-m7-x3-inc1", "rand-m-inc1", "rand-mseven-inc1", "rand-m7-inc1-mmax20", ""]
)
def test_other_words_are_refused(policy: str):
    with pytest.raises(ValueError, match=f"policy={policy} is not of the words rand, m, n"):
        RandAugment(policy)


@pytest.mark.parametrize("policy", ["rand-m7-n4", "rand-m7-inc0"])
def test_timms_other_set_of_operations_is_refused(policy: str):
    with pytest.raises(ValueError, match=f"policy={policy} has no inc1"):
        RandAugment(policy)


@pytest.mark.parametrize("policy", ["rand-m11-inc1", "rand-m7-n0-inc1", "rand-m7-p1.5-inc1"])
def test_numbers_that_mean_nothing_are_refused(policy: str):
    with pytest.raises(ValueError, match=f"policy={policy}: m is at most 10, n at least 1, p at most 1"):
        RandAugment(policy)


def test_pictures_stay_as_readers_lay_them_out():
    clip = frames().contiguous(memory_format=torch.channels_last)
    augment = RandAugment("rand-m9-n1-inc1-p1")
    for seed in range(40):
        torch.manual_seed(seed)
        assert augment(clip).is_contiguous(memory_format=torch.channels_last)
