"""benchmarks/training.py: its arithmetic, by hand, and one short run on a CPU."""

import sys
from pathlib import Path

import pytest

from tubelet.training.dry_run import Estimate

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import training


def test_mfu_is_the_training_flops_of_all_clips_over_the_peak():
    counts = {"batches": 1, "clips": 20, "val_batches": 1, "test_batches": 1, "devices": 1}
    found = Estimate(data_time=0.01, step_time=0.19, val_time=1.0, peak_memory=321.5, **counts)
    # 20 clips in 0.2 s, of 3 TFLOP each, on a device that can do 1,200 TFLOP/s
    assert training.row(found, 3e12, 1200.0) == "| 100.0 | 190.0 | 5.0% | 321.5 | 300.00 | 25.0% |"


@pytest.mark.filterwarnings("ignore::UserWarning")  # those that a run silences itself
def test_a_dry_run_trains_on_generated_files_of_kinetics(monkeypatch):
    monkeypatch.setattr(training, "NUM_VIDEOS", {"train": 400, "val": 8})
    overrides = ["model=vivit_joint_tiny", "clip.num_frames=4", "clip.crop=32", "clip.resize=40", "trainer=cpu"]
    overrides += ["recipe=none", "data.batch_size=2", "optim.total_batch=2", "data.num_workers=0"]
    found, flops = training.measure(overrides)
    assert found.clips_per_second > 0
    assert found.devices == 1
    # 32 tubelets of 2 x 8 x 8 pixels, with a class token 33; 4 blocks of width 96: qkv, projection, MLP, attention
    block = 33 * 96 * (3 * 96 + 96 + 2 * 4 * 96) + 2 * 33 * 33 * 96
    macs = 32 * (3 * 2 * 8 * 8) * 96 + 4 * block + 96 * 400
    assert flops == 3 * 2 * macs
