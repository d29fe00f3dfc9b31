"""MViT against SlowFast, the official code: recorded weights, clips and logits, see tests/golden/README.md.

Letters: B clips, C channels, T frames, H W pixels.
"""

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tubelet.layers.grids import block_grids
from tubelet.layers.pooling import Largest, PoolFirstAttention, PoolingAttention, RelativePoolingAttention
from tubelet.layers.position import OneTable, SpaceTime
from tubelet.layers.readout import ClassToken, Mean, NormedMeanOfPatches
from tubelet.models.mvit import MViT
from tubelet.models.weights_mvit import from_slowfast

FILES = sorted((Path(__file__).parents[1] / "golden").glob("mvit_*.npz"))


def attention_of(mvit):
    """MVIT of a config of SlowFast -> the attention that we pass in."""
    if mvit.get("POOL_FIRST"):
        return partial(PoolFirstAttention, pool={"max": Largest}[mvit["MODE"]])
    assert mvit.get("RESIDUAL_POOLING", False) == mvit.get("REL_POS_SPATIAL", False)
    return RelativePoolingAttention if mvit.get("REL_POS_SPATIAL") else PoolingAttention


def position_of(mvit):
    if not mvit.get("USE_ABS_POS", True):
        return None
    return SpaceTime if mvit["SEP_POS_EMBED"] else OneTable


def readout_of(mvit):
    if not mvit["CLS_EMBED_ON"]:
        return Mean
    return NormedMeanOfPatches if mvit.get("USE_MEAN_POOLING") else ClassToken


def depths_of(mvit):
    """A stage begins where SlowFast lists a multiple of the width."""
    starts = [0, *(block for block, _ in mvit["DIM_MUL"]), mvit["DEPTH"]]
    return [after - before for before, after in pairwise(starts)]


def strides_of(mvit, num_stages):
    """(strides of queries, of keys and values), of each stage."""
    listed = {block: stride for block, *stride in mvit["POOL_Q_STRIDE"]}
    starts = [0, *(block for block, _ in mvit["DIM_MUL"])]
    queries = [listed.get(block, [1, 1, 1]) for block in starts]
    kv, keys = mvit["POOL_KV_STRIDE_ADAPTIVE"], []
    for stride in queries:
        kv = [max(k // q, 1) for k, q in zip(kv, stride, strict=True)]
        keys.append(kv)
    assert len(queries) == num_stages
    return queries, keys


def model_of(meta):
    """Our model for the config that a file records."""
    mvit, config = meta["config"]["MVIT"], meta["config"]
    depths = depths_of(mvit)
    q_strides, kv_strides = strides_of(mvit, len(depths))
    return MViT(
        meta["num_classes"], config["T"], config["S"],
        dim=mvit["EMBED_DIM"], heads=mvit["NUM_HEADS"], depths=depths, q_strides=q_strides, kv_strides=kv_strides,
        patch_kernel=mvit["PATCH_KERNEL"], patch_stride=mvit["PATCH_STRIDE"], mlp_ratio=mvit["MLP_RATIO"],
        attention=attention_of(mvit), position=position_of(mvit), readout=readout_of(mvit),
        widen_in_mlp=not mvit.get("DIM_MUL_IN_ATT", False),
    ).eval()  # fmt: skip


def loaded(file, dtype):
    """(our model with the recorded weights, the file's arrays)."""
    arrays = np.load(file)
    meta = json.loads(str(arrays["meta"]))
    weights = {name.removeprefix("param/"): arrays[name] for name in arrays.files if name.startswith("param/")}
    model = model_of(meta)
    model.load_state_dict(from_slowfast({name: torch.from_numpy(array) for name, array in weights.items()}))
    return model.to(dtype), arrays


def test_there_are_nine_files():
    assert len(FILES) == 9


# Recorded from float64, then rounded to float32: 1e-6. In float32 the official code itself is 2e-6 off.
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@torch.no_grad()
def test_logits_equal_those_of_slowfast(file, dtype, atol):
    model, arrays = loaded(file, dtype)
    logits = model(torch.from_numpy(arrays["input"]).to(dtype))
    torch.testing.assert_close(logits, torch.from_numpy(arrays["logits"]).to(dtype), rtol=0, atol=atol)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_grids_and_tables_of_every_block_are_those_of_slowfast(file):
    meta = json.loads(str(np.load(file)["meta"]))
    mvit, blocks = meta["config"]["MVIT"], meta["blocks"]
    depths = depths_of(mvit)
    grids = block_grids(tuple(blocks[0]["in_thw"]), depths, *strides_of(mvit, len(depths)))
    assert [list(grid.tokens) for grid in grids] == [block["in_thw"] for block in blocks]
    assert [list(grid.q) for grid in grids] == [block["q_thw"] for block in blocks]
    assert [list(grid.kv) for grid in grids] == [block["kv_thw"] for block in blocks]
    for grid, block in zip(grids, blocks, strict=True):
        if block["rel_pos_h_rows"] is not None:
            assert grid.rows == (block["rel_pos_t_rows"], block["rel_pos_h_rows"], block["rel_pos_h_rows"])
