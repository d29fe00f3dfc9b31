"""MViT against SlowFast, the official code: recorded weights, clips and logits, see tests/golden/README.md.

Letters: B clips, C channels, T frames, H W pixels.
"""

import json

import numpy as np
import pytest
import torch
from golden import FILES, depths_of, model_of, strides_of

from tubelet.layers.grids import block_grids
from tubelet.weights.mvit import from_slowfast


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
