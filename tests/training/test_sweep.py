"""A sweep of which one job fails: the others give their results, the failure is recorded where it ran."""

import json

from tubelet.analysis.runs import read_runs


def test_a_failing_job_is_recorded_and_the_rest_of_the_sweep_goes_on(motion_root, tmp_path, run_script):
    small = ["experiment=demo", "data.train=24", "data.val=8", "data.test=16", "data.batch_size=8"]
    small += ["optim.total_batch=8", "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    swept = ["-m", f"data.root={motion_root}", "model.dim=24", "model.heads=2,5,0,3", "hydra.sweep.dir=sweep"]
    process = run_script("train.py", *swept, *small, cwd=tmp_path, check=False)
    assert process.returncode == 1
    records = [json.loads((tmp_path / f"sweep/{job}/metrics.json").read_text()) for job in range(4)]
    assert [record["status"] for record in records] == ["finished", "failed", "failed", "finished"]
    assert [record["overrides"][2] for record in records] == [f"model.heads={heads}" for heads in (2, 5, 0, 3)]
    assert records[1]["error"].endswith("model: dim=24 is not a multiple of heads=5")
    assert "Traceback" in (tmp_path / "sweep/1/train.log").read_text()
    assert "error: model: dim=24 is not a multiple of heads=5" in process.stderr
    assert "error: model.heads=0 is not a positive number" in process.stderr
    assert process.stderr.splitlines()[-1] == "error: not all jobs in sweep finished"
    assert "Error executing job" not in process.stderr  # Hydra's line, with all overrides
    assert len(read_runs(tmp_path / "sweep")[0]) == 4  # those that ended early among them
    for job in (0, 3):
        assert (tmp_path / f"sweep/{job}/predictions.csv").exists()
        assert len(list((tmp_path / f"sweep/{job}").glob("wandb/offline-run-*"))) == 1  # a run of its own
