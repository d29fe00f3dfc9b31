"""The files of augment=: their values beside the recipes they follow, and what a run is built from."""

import logging

import pytest
import torch
from torchvision.transforms import v2

from tubelet.training.build_data import build_augment, build_catalogue, build_training_data, check_mixing
from tubelet.training.launch import compose_config
from tubelet.video.flips import LabelledFlip
from tubelet.video.mixing import Mix, RandomErasing
from tubelet.video.order import Draw
from tubelet.video.randaugment import RandAugment
from tubelet.video.transforms import ShortSideJitter

CLASSES = ["jumps", "runs"]


def augment(*overrides: str, classes: list[str] = CLASSES):
    """Of clips, by name; of batches."""
    return build_augment(compose_config("train", ["model=vivit_joint", *overrides]), classes)


@pytest.mark.parametrize(
    ("name", "on_clip", "on_batch"),
    [
        ("none", ["resize", "crop"], []),
        ("crop_flip", ["resize", "crop", "flip"], []),
        ("jitter_flip", ["jitter", "crop", "flip"], []),
        ("jitter_flip_colour", ["jitter", "crop", "flip", "colour", "drop"], []),
        ("randaugment", ["randaugment", "crop", "flip"], [RandomErasing, Mix]),
        ("ssv2", ["randaugment", "jitter", "crop"], [RandomErasing, Mix]),
    ],
)
def test_each_file_has_these_transforms_in_this_order(name: str, on_clip: list[str], on_batch: list[type]):
    clip, batch = augment(f"augment={name}", *(["~augment.flip"] if name == "ssv2" else []))
    assert list(clip) == on_clip
    assert [type(one) for one in batch] == on_batch


@pytest.mark.parametrize(
    ("model", "name", "sides"),
    [  # SlowFast's TRAIN_JITTER_SCALES and TimeSformer's DATA.TRAIN_JITTER_SCALES; scenic's 0.9 and 1.33 of 256
        ("vivit_joint", "jitter_flip", (256, 320)),
        ("timesformer", "jitter_flip", (256, 320)),
        ("mvit", "ssv2", (256, 320)),
        ("vivit_joint", "jitter_flip_colour", (230, 340)),
    ],
)
def test_scale_jitter_is_that_of_the_recipe(model: str, name: str, sides: tuple[int, int]):
    jitter = augment(f"augment={name}", f"model={model}")[0]["jitter"]
    assert isinstance(jitter, ShortSideJitter)
    assert (jitter.shortest, jitter.longest) == sides


def test_colour_is_that_of_scenics_vivit_on_kinetics():
    # vivit_base_k400.py: prob_color_augment 0.8, prob_color_drop 0.1. DMVR: contrast, saturation 0.6 to 1.4, hue 0.2.
    clip, _ = augment("augment=jitter_flip_colour")
    jitter = clip["colour"].transforms[0]
    assert clip["colour"].p == 0.8
    assert (list(jitter.contrast), list(jitter.saturation), list(jitter.hue)) == ([0.6, 1.4], [0.6, 1.4], [-0.2, 0.2])
    assert list(jitter.brightness) == [0.875, 1.125]  # 32 / 255 either way
    assert clip["drop"].p == 0.1


@pytest.mark.parametrize("name", ["randaugment", "ssv2"])
def test_erasing_mixing_and_randaugment_are_those_of_slowfasts_mvit(name: str):
    # MVITv2_S_16x4.yaml and its defaults: AA_TYPE rand-m7-n4-mstd0.5-inc1, RE_PROB 0.25, areas from 0.02 to 1/3,
    # aspect from 0.3; MIXUP.ALPHA 0.8, CUTMIX_ALPHA 1.0, PROB 1.0, SWITCH_PROB 0.5.
    clip, (erase, mix) = augment(f"augment={name}")
    rand = clip["randaugment"]
    assert isinstance(rand, RandAugment)
    assert (rand.magnitude, rand.num_operations, rand.deviation, rand.p) == (7, 4, 0.5, 0.5)
    assert erase.p == 0.25
    assert list(erase.rectangle.scale) == pytest.approx([0.02, 1 / 3], abs=1e-4)
    assert list(erase.rectangle.ratio) == pytest.approx([0.3, 1 / 0.3], abs=1e-4)
    assert (mix.mixup.alpha, mix.cutmix.alpha, mix.p, mix.switch) == (0.8, 1.0, 1.0, 0.5)


def test_the_resized_crop_is_that_of_slowfasts_mvit():
    # TRAIN_JITTER_SCALES_RELATIVE [0.08, 1.0], TRAIN_JITTER_ASPECT_RELATIVE [0.75, 1.3333].
    crop = augment("augment=randaugment")[0]["crop"]
    assert isinstance(crop, v2.RandomResizedCrop)
    assert (list(crop.scale), list(crop.ratio), list(crop.size)) == ([0.08, 1.0], [0.75, 1.3333], [224, 224])


def test_each_switch_is_reached_from_the_command_line():
    clip, batch = augment("augment=randaugment", "augment.flip.p=0.3", "~augment.erase", "augment.mix.cutmix=0")
    assert isinstance(clip["flip"], LabelledFlip)
    assert clip["flip"].p == 0.3
    (mix,) = batch
    assert mix.switch == 0.0  # MixUp always
    clip, batch = augment("augment=randaugment", "~augment.flip", "augment.mix=null")
    assert list(clip) == ["randaugment", "crop"]
    assert [type(one) for one in batch] == [RandomErasing]


def test_the_recipe_of_ssv2_does_not_flip_and_a_flip_that_is_asked_for_knows_the_labels(caplog):
    classes = ["Pushing something from left to right", "Pushing something from right to left"]
    with caplog.at_level(logging.INFO):
        clip, _ = augment("augment=ssv2", classes=classes)
    assert clip["flip"].p == 0.0
    assert caplog.messages == []
    clip, _ = augment("augment=ssv2", "augment.flip.p=0.5", classes=classes)
    assert clip["flip"].twins == {0: 1, 1: 0}


def test_mixing_a_single_video_is_refused():
    _, mixing = augment("augment=randaugment")
    with pytest.raises(ValueError, match=r"augment: with data.batch_size=1 Mix has no other video to mix with"):
        check_mixing(mixing, 1)
    check_mixing(mixing, 2)
    check_mixing(augment("augment=randaugment", "augment.mix.p=0")[1], 1)


def test_a_jitter_that_would_be_smaller_than_the_crop_is_refused_before_the_run():
    message = r"augment.jitter.scale=\[0.9, 1.33\] of 224 pixels gives short sides of 202, less than clip.crop=224"
    with pytest.raises(ValueError, match=message):
        augment("augment=jitter_flip_colour", "clip.resize=224")


def test_repeats_are_clips_of_half_as_many_videos_a_step(motion_root):
    cfg = compose_config(
        "train",
        [
            *("experiment=demo", "augment=crop_flip", f"data.root={motion_root}", "data.train=24", "data.val=8"),
            *("data.test=16", "data.batch_size=4", "data.repeats=2", "optim.total_batch=16"),
        ],
    )
    catalogue = build_catalogue(cfg.data)
    data = build_training_data(cfg, catalogue, build_augment(cfg, catalogue.classes)[0])
    sample = data.train_set[Draw(0, 3)]
    assert sample["video"].shape[:2] == (2, 3)  # (V, C)
    assert sample["frames"].shape[0] == 1
    assert not torch.equal(*sample["video"])
    assert data.batches_per_epoch(world_size=1) == 6  # 24 videos, 8 a step of two batches
