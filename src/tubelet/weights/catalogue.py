"""Published weights by name, per model: where they are, under which licence, and what they are said to reach.

Nothing is imported here that takes time, so that keys of `model` can be checked before torch is.
"""

from dataclasses import dataclass
from typing import Any

# Keys beside `_target_` in the `model` node: what a new run starts from. They are no arguments of a model.
STARTING_KEYS = {"pretrained", "weights_required", "inflate", "accept"}

RESEARCH_ONLY = "CC-BY-NC-4.0"


@dataclass(frozen=True)
class Published:
    """target, fits: the class of the model, and those of its arguments that tell its sizes apart; of a class its name
    source: a url, or a hub id `org/name`
    sha256: of the file at the url, whole or its beginning; None where it is not publicly known, and is not checked
    top1: of the publisher, in percent on the validation set of the data, with the publisher's views
    """

    name: str
    target: str
    fits: dict[str, Any]
    source: str
    licence: str
    top1: float | None
    sha256: str | None = None
    size: tuple[int, int, int] | None = None

    def is_for(self, node: dict[str, Any]) -> bool:
        plain = {key: node[key].get("_target_") if isinstance(node[key], dict) else node[key] for key in node}
        return self.target == node.get("_target_") and all(plain.get(key) == value for key, value in self.fits.items())


SCENIC = "https://storage.googleapis.com/scenic-bucket/vivit/kinetics_400"
SLOWFAST = "https://dl.fbaipublicfiles.com/pyslowfast/model_zoo"
VIVIT, TIMESFORMER, MVIT = ("tubelet.models." + name for name in ("vivit.", "timesformer.", "mvit."))
BASE = {"dim": 768, "heads": 12}
CLIP_32, CLIP_16, CLIP_8 = (32, 224, 224), (16, 224, 224), (8, 224, 224)
ONE_TABLE = {"position": "tubelet.layers.position.OneTable"}
STAGES = {
    "q_strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2], [1, 2, 2]],
    "kv_strides": [[1, 8, 8], [1, 4, 4], [1, 2, 2], [1, 1, 1]],
}
V1 = STAGES | {"attention": "tubelet.layers.pooling.PoolingAttention"}
V2 = STAGES | {"attention": "tubelet.layers.pooling.RelativePoolingAttention"}
V1_B, V2_S = ({**version, "dim": 96, "depths": [1, 2, 11, 2]} for version in (V1, V2))
V2_B, V2_L = V2 | {"dim": 96, "depths": [2, 3, 16, 3]}, V2 | {"dim": 144, "depths": [2, 6, 36, 4]}
IMAGES = {  # in21k_in1k is Google's first ViT, fine-tuned on ImageNet-1k: timm's jx_vit_base_p16_224-80ecf9dd.pth
    "in21k": "timm/vit_base_patch16_224.augreg_in21k",
    "in21k_in1k": "timm/vit_base_patch16_224.orig_in21k_ft_in1k",
}
IMAGE_MODELS = [VIVIT + name for name in ("Joint", "FactorisedEncoder", "FactorisedAttention")]
IMAGE_MODELS += [VIVIT + name for name in ("FactorisedStaged", "FactorisedDotProduct", "FrameMean")]
IMAGE_MODELS += [f"tubelet.models.vivit_compressed.{name}" for name in ("Tubelets", "Compressed", "FewTokens")]
IMAGE_MODELS += [TIMESFORMER + name for name in ("Divided", "JointSpaceTime", "SpaceOnly", "Alternating")]

CATALOGUE = [
    *(Published(name, target, BASE, IMAGES[name], "Apache-2.0", None) for target in IMAGE_MODELS for name in IMAGES),
    Published(
        "k400",
        VIVIT + "Joint",
        BASE | ONE_TABLE,
        f"{SCENIC}/vivit_base_16x2_unfactorized/checkpoint",
        "Apache-2.0",
        79.9,
        size=CLIP_32,
    ),
    Published(
        "videomae_k400",
        VIVIT + "Joint",
        BASE | ONE_TABLE,
        "MCG-NJU/videomae-base-finetuned-kinetics",
        RESEARCH_ONLY,
        80.9,
        size=CLIP_16,
    ),
    Published(
        "videomae", VIVIT + "Joint", BASE | ONE_TABLE, "MCG-NJU/videomae-base", RESEARCH_ONLY, None, size=CLIP_16
    ),
    Published(
        "k400",
        VIVIT + "FactorisedEncoder",
        BASE,
        f"{SCENIC}/vivit_base_16x2_fe/checkpoint",
        "Apache-2.0",
        78.4,
        size=CLIP_32,
    ),
    Published(
        "k400",
        VIVIT + "FactorisedEncoder",
        {"dim": 1024},
        f"{SCENIC}/vivit_large_16x2_fe/checkpoint",
        "Apache-2.0",
        80.3,
        size=CLIP_32,
    ),
    *(
        Published(
            data,
            TIMESFORMER + "Divided",
            BASE,
            f"facebook/timesformer-base-finetuned-{data}",
            RESEARCH_ONLY,
            top1,
            size=CLIP_8,
        )
        for data, top1 in (("k400", 77.9), ("k600", 79.1), ("ssv2", 59.1))
    ),
    Published(
        "k400",
        MVIT + "MViT",
        V1_B,
        "https://download.pytorch.org/models/mvit_v1_b-dbeb1030.pth",
        "BSD-3-Clause",
        78.477,
        "dbeb1030",
        size=CLIP_16,
    ),
    Published(
        "k400",
        MVIT + "MViT",
        V2_S,
        "https://download.pytorch.org/models/mvit_v2_s-ae3be167.pth",
        "BSD-3-Clause",
        80.757,
        "ae3be16733081f6d1cd40e4ab980ca23d6df6dc6486d15ada05a5e8ab8c9b975",
        size=CLIP_16,
    ),
    Published(
        "k400_slowfast",
        MVIT + "MViT",
        V2_S,
        f"{SLOWFAST}/mvitv2/pysf_video_models/MViTv2_S_16x4_k400_f302660347.pyth",
        "Apache-2.0",
        81.0,
        size=CLIP_16,
    ),
    Published(
        "k400",
        MVIT + "MViT",
        V2_B,
        f"{SLOWFAST}/mvitv2/pysf_video_models/MViTv2_B_32x3_k400_f304025456.pyth",
        "Apache-2.0",
        82.9,
        size=CLIP_32,
    ),
    Published(
        "k400",
        MVIT + "MViT",
        V2_L,
        f"{SLOWFAST}/mvitv2/pysf_video_models/MViTv2_L_40x3_k400_f306903192.pyth",
        "Apache-2.0",
        86.1,
        size=(40, 312, 312),
    ),
]
