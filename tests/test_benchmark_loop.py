"""benchmarks/loop.py: both loops train the same."""

import sys
from pathlib import Path

import pytest

from tubelet.training.launch import compose_config

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import loop


@pytest.mark.filterwarnings("ignore:Experiment logs directory")  # as a run does: its config lies there
@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")  # nothing is validated
@pytest.mark.parametrize("clip_norm", [0.01, "null"])
def test_our_loop_ends_with_the_weights_of_a_bare_loop_to_the_bit(tmp_path, clip_norm):
    overrides = [*loop.SETTINGS, "model=vivit_joint_tiny", f"optim.clip_norm={clip_norm}", "logger=csv"]
    overrides += ["run_dir=run", "name=loop"]
    cfg = compose_config("train", overrides)
    cfg.run_dir, cfg.model.num_classes = str(tmp_path), len(loop.CLASSES)
    turns = loop.take_turns(cfg, num_pairs=1)
    assert turns.bare.step == 2 * loop.BLOCK
    assert turns.apart == 0
