"""The recorded files of MViT (tests/golden/README.md), and our models for the configs of SlowFast in them."""

from functools import partial
from itertools import pairwise
from pathlib import Path

from tubelet.layers.pooling import Largest, PoolFirstAttention, PoolingAttention, RelativePoolingAttention
from tubelet.layers.position import OneTable, SpaceTime
from tubelet.layers.readout import ClassToken, Mean, NormedMeanOfPatches
from tubelet.models.mvit import MViT

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
