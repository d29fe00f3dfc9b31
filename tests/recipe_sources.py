"""The figures of each recipe's source, in its own terms and its own arithmetic, for test_recipes.py.

SOURCES: recipe -> node of the config -> key -> value. A class stands as (name, arguments). `told` is what a run prints
of the rate. Where a clip is of segments, it has no stride.
"""

SGD = ("SGD", {"momentum": 0.9, "nesterov": True})
DENSE, SEGMENTS = ("Dense", {}), ("Segments", {})


def but(source, **changed):
    """Another one of the same authors, with other values in some nodes."""
    return {name: node | changed.get(name, {}) for name, node in source.items()}


def jitter(shortest, longest, inverse=False):
    """Of the short side, in pixels."""
    return ("ShortSideJitter", {"size": shortest, "scale": [1.0, round(longest / shortest, 6)], "inverse": inverse})


def flip(p):
    return ("RandomHorizontalFlip", {"p": p})


def crop(size):
    return ("RandomCrop", {"size": size})


# scenic, projects/vivit/configs/kinetics400/vivit_base_k400.py: optimizer momentum, base_learning_rate, batch_size,
# num_training_epochs, 'constant * cosine_decay * linear_warmup' with warmup_steps of 2.5 epochs, max_grad_norm,
# l2_decay_factor, label_smoothing None; min_resize 256 and crop_size 224, scale jitter 0.9 to 1.33, do_color_augment
# with probability 0.8 and color drop 0.1; num_test_clips 4, do_three_spatial_crops; zero_centering
# contrast and saturation from 0.6 to 1.4, hue by 0.2, brightness by 32 of 255 grey levels
COLOUR = ("ColorJitter", {"brightness": 0.125, "contrast": 0.4, "saturation": 0.4, "hue": 0.2})
COSINE = "warm-up of 2.5 epochs from 0, cosine from the first step to 0"
VIVIT = {
    "trainer": {"max_epochs": 30},
    "told": {"rate": f"SGD, lr 0.1 = 0.1 x 64 / 64 clips, {COSINE}, weight decay 0"},
    "optim": {
        **{"optimizer": ("SGD", {"momentum": 0.9, "nesterov": False}), "lr": 0.1, "base_batch": 64, "total_batch": 64},
        **{"weight_decay": 0.0, "decay_vectors": False, "not_decayed": ["cls_token", "pos_embed"], "layer_decay": 1.0},
        **{"trained": None, "warmup_epochs": 2.5, "warmup_lr": 0.0, "clip_norm": 1.0, "label_smoothing": 0.0},
        "schedule": ("Cosine", {"end_lr": 0.0, "after_warmup": False}),
    },
    "model": {"pretrained": "in21k", "accept": [], "weights_required": True, "drop_path": 0.0, "head_dropout": 0.0},
    "data": {"batch_size": 8, "repeats": 1, "scale_while_decoding": True},
    "clip": {
        **{"num_frames": 32, "stride": 2, "fps": None, "sampling": DENSE, "crop": 224, "resize": 256},
        **{"mean": [0.5] * 3, "std": [0.5] * 3},
    },
    "views": {"clips": 4, "crops": 3, "starts": ("FirstToLast", {})},
    "augment": {
        "jitter": ("ShortSideJitter", {"size": 256, "scale": [0.9, 1.33], "inverse": False}),
        **{"crop": crop(224), "flip": flip(0.5)},
        "colour": ("RandomApply", {"p": 0.8, "transforms": [COLOUR]}),
        "drop": ("RandomGrayscale", {"p": 0.1}),
    },
}
# the same, vivit_base_factorised_encoder.py: temporal_transformer.num_layers 4
VIVIT_ENCODER = but(
    VIVIT,
    told={"rate": VIVIT["told"]["rate"].replace("lr 0.1 = 0.1", "lr 0.05 = 0.05")},
    optim={"lr": 0.05},
    model={"time_depth": 4},
)
# the same, configs/something_something_v2/vivit_large_factorised_encoder.py, of the large model: base_learning_rate
# 0.4, 35 epochs, stride 1, 288 and 256 pixels, mixup 0.3, label_smoothing 0.3, stochastic drop layer 0.3, RandAugment
# of 2 operations and magnitude 20 of TensorFlow's scale, for which timm's largest stands
VIVIT_SSV2 = but(
    VIVIT_ENCODER,
    trainer={"max_epochs": 35},
    told={"rate": VIVIT["told"]["rate"].replace("lr 0.1 = 0.1", "lr 0.4 = 0.4")},
    optim={"lr": 0.4, "label_smoothing": 0.3},
    model={"drop_path": 0.3},
    clip={"stride": 1, "crop": 256, "resize": 288},
) | {
    "augment": {
        "jitter": ("ShortSideJitter", {"size": 288, "scale": [0.9, 1.33], "inverse": False}),
        **{"crop": crop(256), "flip": flip(0.5)},
        "randaugment": ("RandAugment", {"policy": "rand-m10-n2-inc1"}),
        "mix": ("Mix", {"mixup": 0.3, "cutmix": 0.0, "p": 1.0, "switch": 0.0}),
    }
}

# TimeSformer, configs/Kinetics/TimeSformer_divST_{8x32_224,16x16_448,96x4_224}.yaml: BASE_LR, STEPS [0, 11, 14], LRS,
# MAX_EPOCH, WEIGHT_DECAY, MOMENTUM; GLOBAL_BATCH_SIZE, NESTEROV and TARGET_FPS 30 of config/defaults.py; of all
# parameters in models/optimizer.py; DROP_PATH_RATE and the image weights of models/vit.py; TRAIN_JITTER_SCALES; one
# clip, three crops
STEPS = "x 0.1 from epoch 11, x 0.01 from epoch 14"
TIMESFORMER = {
    "trainer": {"max_epochs": 15},
    "told": {"rate": f"SGD, lr 0.005 = 0.005 x 64 / 64 clips, {STEPS}, weight decay 0.0001"},
    "optim": {
        **{"optimizer": SGD, "lr": 0.005, "base_batch": 64, "total_batch": 64},
        **{"weight_decay": 1e-4, "decay_vectors": True, "not_decayed": [], "layer_decay": 1.0},
        **{"trained": None, "warmup_epochs": 0.0, "warmup_lr": 1e-6, "clip_norm": None, "label_smoothing": 0.0},
        "schedule": ("Steps", {"epochs": [11, 14], "factors": [0.1, 0.01]}),
    },
    "model": {
        **{"pretrained": "in21k_in1k", "accept": ["normalisation"], "weights_required": True},
        **{"drop_path": 0.1, "head_dropout": 0.0},  # DROPOUT_RATE 0.5 of the file is read by no model
    },
    "data": {"batch_size": 8, "repeats": 1, "scale_while_decoding": False},
    "clip": {
        **{"num_frames": 8, "stride": 32, "fps": 30.0, "sampling": DENSE, "crop": 224, "resize": 224},
        **{"mean": [0.45] * 3, "std": [0.225] * 3},
    },
    "views": {"clips": 1, "crops": 3, "starts": ("FirstOfEachPart", {})},
    "augment": {"jitter": jitter(256, 320), "crop": crop(224), "flip": flip(0.5)},
}
HIGH = {"clip": {"num_frames": 16, "stride": 16, "crop": 448, "resize": 448}, "data": {"batch_size": 2}}
TIMESFORMER_HR = but(TIMESFORMER, augment={"jitter": jitter(448, 512), "crop": crop(448)}, **HIGH)
TIMESFORMER_L = but(TIMESFORMER, clip={"num_frames": 96, "stride": 4}, data={"batch_size": 1})


def segmented(source, num_frames, shortest, longest):
    """configs/SSv2/TimeSformer_divST_{8_224,16_448,64_224}.yaml: INV_UNIFORM_SAMPLE, RANDOM_FLIP false."""
    clip = source["clip"] | {"num_frames": num_frames, "fps": None, "sampling": SEGMENTS}
    clip.pop("stride")
    augment = {"jitter": jitter(shortest, longest, inverse=True), "flip": flip(0.0)}
    return but(source, augment=augment) | {"clip": clip}


# SlowFast, configs/Kinetics/{MVIT_B_16x4_CONV,MVIT_B_32x3_CONV,MVITv2_S_16x4,MVITv2_B_32x3}.yaml, on 16 nodes
# (pytorchvideo's trainer: num_nodes 16): BASE_LR 1e-4, WARMUP_START_LR 1e-6 and COSINE_END_LR 1e-6 times NUM_SHARDS;
# BATCH_SIZE 16 a node, NUM_SAMPLE 2; WARMUP_EPOCHS, MAX_EPOCH, CLIP_GRAD_L2NORM, DROPPATH_RATE, DROPOUT_RATE,
# ZERO_WD_1D_PARAM; AUG.AA_TYPE, RE_PROB; TRAIN_JITTER_SCALES_RELATIVE, _ASPECT_RELATIVE; MIXUP; TARGET_FPS 30
NODES = 16
ERASE = ("RandomErasing", {"p": 0.25, "scale": [0.02, 0.3333], "ratio": [0.3, 3.3333]})
MIX = ("Mix", {"mixup": 0.8, "cutmix": 1.0, "p": 1.0, "switch": 0.5})
RANDAUGMENT = ("RandAugment", {"policy": "rand-m7-n4-mstd0.5-inc1"})
RESIZED = ("RandomResizedCrop", {"size": 224, "scale": [0.08, 1.0], "ratio": [0.75, 1.3333], "antialias": True})
STRONG = {"randaugment": RANDAUGMENT, "crop": RESIZED, "flip": flip(0.5), "erase": ERASE, "mix": MIX}
MVIT = {
    "trainer": {"max_epochs": 200},
    "told": {
        "rate": f"AdamW, lr {NODES * 1e-4:g} = 0.0016 x 512 / 512 clips, warm-up of 30 epochs from {NODES * 1e-6:g}, "
        f"cosine after it to {NODES * 1e-6:g}, weight decay 0.05"
    },
    "optim": {
        **{"optimizer": ("AdamW", {"betas": [0.9, 0.999]}), "lr": NODES * 1e-4},
        **{"base_batch": NODES * 16 * 2, "total_batch": NODES * 16 * 2},
        **{"weight_decay": 0.05, "decay_vectors": False, "not_decayed": [], "layer_decay": 1.0, "trained": None},
        **{"warmup_epochs": 30, "warmup_lr": NODES * 1e-6, "clip_norm": 1.0, "label_smoothing": 0.1},
        "schedule": ("Cosine", {"end_lr": NODES * 1e-6, "after_warmup": True}),
    },
    "model": {"pretrained": None, "accept": [], "weights_required": True, "drop_path": 0.2, "head_dropout": 0.5},
    "data": {"batch_size": 8, "repeats": 2, "scale_while_decoding": True},
    "clip": {
        **{"num_frames": 16, "stride": 4, "fps": 30.0, "sampling": DENSE, "crop": 224, "resize": 256},
        **{"mean": [0.45] * 3, "std": [0.225] * 3},
    },
    "views": {"clips": 5, "crops": 1, "starts": ("FirstToLast", {})},
    "augment": STRONG,
}
LONG = {"num_frames": 32, "stride": 3}
MVIT_LONG = but(MVIT, clip=LONG, model={"drop_path": 0.3})
# SlowFast, configs/SSv2/MVITv2_{S_16x4,B_32x3}.yaml on one node of 8 GPUs: BATCH_SIZE 16, NUM_SAMPLE 1, BASE_LR,
# WARMUP_START_LR 1e-4, COSINE_END_LR 1e-6, INV_UNIFORM_SAMPLE, RANDOM_FLIP false
NODE = "clips, warm-up of 3 epochs from 0.0001, cosine after it to 1e-06, weight decay 0.0001"
MVIT_SSV2 = {
    "trainer": {"max_epochs": 100},
    "told": {"rate": f"SGD, lr 0.0025 = 0.0025 x 16 / 16 {NODE}"},
    "optim": MVIT["optim"]
    | {
        **{"optimizer": SGD, "lr": 0.0025, "base_batch": 16, "total_batch": 16, "weight_decay": 1e-4},
        **{"warmup_epochs": 3, "warmup_lr": 1e-4, "clip_norm": None},
        "schedule": ("Cosine", {"end_lr": 1e-6, "after_warmup": True}),
    },
    "model": MVIT["model"] | {"pretrained": "k400", "drop_path": 0.4},
    "data": {"batch_size": 16 // 8, "repeats": 1, "scale_while_decoding": False},
    "clip": {
        **{"num_frames": 16, "fps": None, "sampling": SEGMENTS, "crop": 224, "resize": 224},
        **{"mean": [0.45] * 3, "std": [0.225] * 3},
    },
    "views": {"clips": 1, "crops": 3, "starts": ("FirstToLast", {})},
    "augment": {
        **{"randaugment": RANDAUGMENT, "jitter": jitter(256, 320, inverse=True), "crop": crop(224)},
        **{"flip": flip(0.0), "erase": ERASE, "mix": MIX},
    },
}
MVIT_B_SSV2 = but(
    MVIT_SSV2,
    told={"rate": f"SGD, lr 0.0015 = 0.0015 x 16 / 16 {NODE}"},
    optim={"lr": 0.0015},
    clip={"num_frames": 32},
)

# VideoMAE, scripts/ucf101/.../finetune.sh: lr 5e-4 for 256 videos, warmup_lr 1e-8, min_lr 1e-5, both scaled as lr is
# (run_class_finetuning.py); batch_size 16 x 8 GPUs, num_sample 2; epochs 100, warm-up 5, opt_betas 0.9 0.999,
# weight_decay 0.05, layer_decay 0.7, drop_path 0.2, fc_drop_rate 0.5; test_num_segment 5, test_num_crop 3
WAY = f"warm-up of 5 epochs from {1e-8 * 128 / 256:g}, cosine after it to {1e-5 * 128 / 256:g}, weight decay 0.05"
FINETUNING = {
    "trainer": {"max_epochs": 100},
    "told": {"rate": f"AdamW, lr {5e-4 * 16 * 8 / 256:g} = 0.0005 x 256 / 512 clips, x 0.7 a layer, {WAY}"},
    "optim": MVIT["optim"]
    | {
        **{"lr": 5e-4, "base_batch": 256 * 2, "total_batch": 16 * 8 * 2, "layer_decay": 0.7},
        **{"not_decayed": ["cls_token", "pos_embed"], "warmup_epochs": 5, "warmup_lr": 1e-8, "clip_norm": None},
        "schedule": ("Cosine", {"end_lr": 1e-5, "after_warmup": True}),
    },
    "model": {"pretrained": "k400", "accept": [], "weights_required": False, "drop_path": 0.2, "head_dropout": 0.5},
    "data": {"batch_size": 8, "repeats": 2, "scale_while_decoding": True},
    "clip": MVIT["clip"] | {"fps": None},
    "views": {"clips": 5, "crops": 3, "starts": ("FirstToLast", {})},
    "augment": STRONG,
}


SOURCES = {
    "vivit_joint_kinetics400": VIVIT,
    "vivit_factorised_encoder_kinetics400": VIVIT_ENCODER,
    "vivit_factorised_encoder_ssv2": VIVIT_SSV2,
    "timesformer_kinetics400": TIMESFORMER,
    "timesformer_hr_kinetics400": TIMESFORMER_HR,
    "timesformer_l_kinetics400": TIMESFORMER_L,
    "timesformer_ssv2": segmented(TIMESFORMER, 8, 256, 320),
    "timesformer_hr_ssv2": segmented(TIMESFORMER_HR, 16, 448, 512),
    "timesformer_l_ssv2": but(segmented(TIMESFORMER_L, 64, 256, 320), data={"batch_size": 2}),
    "mvit_v1_b_kinetics400": MVIT,
    "mvit_v1_b_32x3_kinetics400": MVIT_LONG,
    "mvit_v2_s_kinetics400": MVIT,
    "mvit_v2_b_kinetics400": MVIT_LONG,
    "mvit_v2_s_ssv2": MVIT_SSV2,
    "mvit_v2_b_ssv2": MVIT_B_SSV2,
}


def of_depth(num_blocks, **changed):
    """Fine-tuned, with as small a rate of the embedding as VideoMAE's 12 blocks leave it: 0.7 of it from each to the
    one before, and once more from the first to the embedding."""
    decay = round(0.7 ** (13 / (num_blocks + 1)), 2)
    told = {"rate": FINETUNING["told"]["rate"].replace("x 0.7 a layer", f"x {decay:g} a layer")}
    return but(FINETUNING, told=told, optim={"layer_decay": decay}, **changed)


# Fine-tuned are the models with the clips of their weights.
FINETUNED = {
    "vivit_joint": of_depth(12, clip=VIVIT["clip"]),
    "vivit_factorised_encoder": of_depth(12 + 12, clip=VIVIT["clip"], model={"time_depth": 12}),
    "timesformer": of_depth(12, clip={"num_frames": 8, "stride": 32}),
    "mvit_v1_b": of_depth(16),
    "mvit_v2_s": of_depth(16),
    "mvit_v2_b": of_depth(24, clip=LONG),
}
SOURCES |= {f"{model}_{data}": row for model, row in FINETUNED.items() for data in ("ucf101", "hmdb51")}
SOURCES |= {f"mvit_{data}": SOURCES[f"mvit_v2_s_{data}"] for data in ("kinetics400", "ssv2", "ucf101", "hmdb51")}
