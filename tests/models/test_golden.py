"""Outputs recorded from the official models (tests/golden/README.md): their weights, through our converters, give them.

Letters: B clips, C channels, T frames, H W pixels.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tubelet.layers.readout import Mean, NormedMean, Readout
from tubelet.models.timesformer import Divided, JointSpaceTime, SpaceOnly
from tubelet.models.vivit import FactorisedAttention, FactorisedDotProduct, FactorisedEncoder, FrameMean, Joint
from tubelet.weights.start import start_from
from tubelet.weights.understand import understand

GOLDEN = Path(__file__).parents[1] / "golden"
# float64 shows every mistake; the file's figures are rounded to float32. float32 is what people run.
PRECISIONS = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])


class FirstPatch(Readout):
    """VideoMAE's reading without mean pooling: the first patch, as if it were a class token."""

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return norm(x[:, 0])


# ViViT's MLP has 40 hidden units for a width of 24, and 56 over time.
VIVIT = dict(tubelet=(2, 8, 8), dim=24, depth=2, heads=3, mlp_ratio=40 / 24 + 1e-9)
ENCODER = VIVIT | dict(time_depth=2, time_mlp_ratio=56 / 24 + 1e-9)
TIMESFORMER = dict(tubelet=(1, 8, 8), dim=24, depth=2, heads=3)
VIDEOMAE = dict(tubelet=(2, 8, 8), dim=24, depth=3, heads=3, exact_gelu=True)
MODELS = {
    "vivit_spacetime_token": partial(Joint, **VIVIT),
    "vivit_spacetime_token_tiny_embedding": partial(Joint, **VIVIT),
    "vivit_spacetime_odd_input": partial(Joint, **VIVIT),
    "vivit_spacetime_gap": partial(Joint, readout=Mean, **VIVIT),
    "vivit_factorised_encoder_token": partial(FactorisedEncoder, **ENCODER),
    "vivit_factorised_encoder_token_tiny_embedding": partial(FactorisedEncoder, **ENCODER),
    "vivit_factorised_encoder_temporal_sampling": partial(FactorisedEncoder, **ENCODER | dict(tubelet=(1, 8, 8))),
    "vivit_factorised_self_attention_time_space": partial(FactorisedAttention, time_first=True, **VIVIT),
    "vivit_factorised_dot_product": partial(FactorisedDotProduct, **VIVIT | dict(heads=4)),
    "vivit_spatial_only_token": partial(FrameMean, **VIVIT),
    "vivit_spatial_only_gap": partial(FrameMean, readout=Mean, **VIVIT),
    "timesformer_divided_space_time": partial(Divided, **TIMESFORMER),
    "timesformer_divided_tiny_embedding": partial(Divided, **TIMESFORMER),
    "timesformer_divided_interp_space": partial(Divided, **TIMESFORMER),
    "timesformer_divided_interp_time": partial(Divided, **TIMESFORMER),
    "timesformer_joint_space_time": partial(JointSpaceTime, **TIMESFORMER),
    "timesformer_space_only": partial(SpaceOnly, **TIMESFORMER),
    "timesformer_space_only_interp": partial(SpaceOnly, **TIMESFORMER),
    "videomae_finetune": partial(Joint, readout=NormedMean, **VIDEOMAE),
    "videomae_finetune_layer_scale_learnable_pos": partial(Joint, readout=NormedMean, **VIDEOMAE),
    "videomae_finetune_use_cls": partial(Joint, readout=FirstPatch, **VIDEOMAE),
}


def read(name):
    """(the recorded arrays, the parameters under their published names)."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    state = {key.removeprefix("param/"): torch.from_numpy(value) for key, value in arrays.items() if "param/" in key}
    if name.startswith("timesformer"):  # as the published files have them; bare, space only is an image model
        state = {f"model.{key}": value for key, value in state.items()}
    return arrays, state


def clip_of(name, arrays):
    """The recorded clip (B, C, T, H, W), without what the official model drops before it looks."""
    video = torch.from_numpy(arrays["input"])
    if json.loads(str(arrays["meta"]))["input_layout"] == "B,T,H,W,C":
        video = video.permute(0, 4, 1, 2, 3)
    if name.endswith("temporal_sampling"):
        return video[:, :, [2, 3, 5, 6]]
    if name.endswith("odd_input"):
        return video[:, :, :6, :16, :24]
    return video


def test_every_golden_file_of_these_families_is_tested():
    assert {path.stem for path in GOLDEN.glob("*.npz")} >= set(MODELS)
    families = ("vivit_", "timesformer_", "videomae_")
    assert {path.stem for path in GOLDEN.glob("*.npz") if path.stem.startswith(families)} == set(MODELS)


@PRECISIONS
@pytest.mark.parametrize("name", MODELS)
def test_recorded_weights_give_the_recorded_logits(name, dtype, atol):
    arrays, state = read(name)
    video = clip_of(name, arrays)
    model = MODELS[name](7, video.shape[2], tuple(video.shape[3:])).eval()
    source = understand(state)
    if "interp" not in name:  # as settings beside the weights would tell
        source.size = tuple(video.shape[2:])
    source.heads = MODELS[name].keywords["heads"]
    account = start_from(model, source, accept=("frames", "crop"))
    with torch.no_grad():
        logits = model.to(dtype)(video.to(dtype))
    no_bias = {"zero: these weights have no bias of queries, keys, values"}  # qkv_bias=False in that file
    assert set(account.new) == (no_bias if name == "videomae_finetune_use_cls" else set())
    untold = {  # by the file: the order of space and time, and which tokens attend to which
        "vivit_factorised_self_attention_time_space", "vivit_spacetime_gap", "vivit_factorised_dot_product",
    }  # fmt: skip
    assert bool(account.notes) == (name in untold)
    torch.testing.assert_close(logits.double(), torch.from_numpy(arrays["logits"]).double(), rtol=0, atol=atol)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("videomae") and "learnable" not in name])
def test_videomaes_fixed_positions_are_those_recorded(name):
    arrays, state = read(name)
    model = MODELS[name](7, 6, (16, 24))
    start_from(model, understand(state), accept=("frames", "crop"))
    recorded = torch.from_numpy(arrays["pos_table"])
    torch.testing.assert_close(model.encoder.pos_embed.table.data, recorded, rtol=0, atol=1e-7)
