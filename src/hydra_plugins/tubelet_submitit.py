"""Hydra's submitit launchers, whose jobs are composed in processes of their own and take their recipes there.

Hydra finds launchers in this namespace only, and imports all of it at every start.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

if find_spec("hydra_plugins.hydra_submitit_launcher"):
    from hydra.core.utils import JobReturn, JobStatus
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher

    from tubelet.training.apart import Reported, interrupt, record_lost
    from tubelet.training.recipes import recipes_chosen

    LAST = "ckpt=last"
    ENDING = (signal.SIGINT, signal.SIGTERM)
    VISIBLE = "CUDA_VISIBLE_DEVICES"

    def going_on(overrides: Sequence[str]) -> list[str]:
        return [*(override for override in overrides if not override.startswith("ckpt=")), LAST]

    def interrupt_once(number: int, frame: Any) -> None:
        """Ctrl-C comes from the terminal, from submitit and from the command; twice it would keep a job from saving."""
        for asking in ENDING:
            signal.signal(asking, signal.SIG_IGN)
        interrupt(number, frame)

    def visible_in_turns(there: Sequence[str], per_job: int) -> list[str]:
        """What CUDA_VISIBLE_DEVICES is for jobs 0, 1, ..., and then again, where each has so many GPUs of its own.

        there: the GPUs of this machine, as that variable names them
        """
        if not 0 < per_job <= len(there):
            raise ValueError(f"hydra.launcher.gpus_per_node={per_job}, but this machine has {len(there)} GPUs to see")
        return [",".join(there[i : i + per_job]) for i in range(0, len(there) - per_job + 1, per_job)]

    class Collected:
        """A job of submitit, of which a lost one is a failed job among the others instead of the end of all."""

        def __init__(self, job: Any, log_file: Path, about: dict[str, Any]):
            self.job, self.log_file, self.about = job, log_file, about

        def results(self) -> list[JobReturn]:
            from submitit.core.utils import UncompletedJobError

            try:
                result = self.job.results()[0]
                if not isinstance(result._return_value, UncompletedJobError):  # as one whose time is up more than once
                    return [result]
            except UncompletedJobError:
                pass
            told = f"lost its process; what that said last is in {os.path.relpath(self.job.paths.stderr)}"
            record_lost(self.log_file, told, self.about)
            reported = Reported(os.path.relpath(self.log_file.parent))
            return [JobReturn(status=JobStatus.FAILED, _return_value=reported)]

    class Surviving:
        """What both launchers do: a lost job leaves the others alone, and a job that is started again goes on."""

        def __call__(self, *job: Any) -> JobReturn:
            with recipes_chosen():
                return super().__call__(*job)

        def checkpoint(self, overrides: Sequence[str], *rest: Any) -> Any:
            """What is to be started again, after its time was up or another job took its place.

            submitit calls it in the process of the job; the job ends in order first, so that its checkpoint is saved.
            """
            for job in multiprocessing.active_children():
                job.terminate()
                job.join()
            return super().checkpoint(going_on(overrides), *rest)

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Where it is interrupted, its jobs are asked to end."""
            from submitit import AutoExecutor

            started: list[Any] = []
            submit = AutoExecutor.map_array

            def map_array(executor: Any, *arguments: Any) -> list[Collected]:
                started.extend(submit(executor, *arguments))
                jobs = zip(started, job_overrides, strict=True)
                return [self._collected(job, n, list(typed)) for n, (job, typed) in enumerate(jobs, initial_job_idx)]

            with patch.object(AutoExecutor, "map_array", map_array):
                try:
                    return super().launch(job_overrides, initial_job_idx)
                except BaseException:
                    for job in started:
                        self.cancel(job)
                    raise

        def cancel(self, job: Any) -> None:
            job.cancel()

        def _collected(self, job: Any, number: int, overrides: list[str]) -> Collected:
            log_file = Path(self.config.hydra.sweep.dir, str(number), f"{self.config.hydra.job.name}.log")
            return Collected(job, log_file, {"name": self.config.name, "overrides": overrides})

    class Local(Surviving, LocalLauncher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """submitit hides all GPUs from a job, or shows the first ones to each."""
            self.visible = [os.environ.get(VISIBLE)]
            if self.params["gpus_per_node"] is not None:
                from torch.cuda import device_count

                there = os.environ.get(VISIBLE, ",".join(map(str, range(device_count()))))
                self.visible = visible_in_turns([gpu for gpu in there.split(",") if gpu], self.params["gpus_per_node"])
            return super().launch(job_overrides, initial_job_idx)

        def cancel(self, job: Any) -> None:
            """submitit would send SIGINT, which what a script starts in the background ignores."""
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)

        def __call__(self, overrides: list[str], dir_key: str, number: int, *rest: Any) -> JobReturn:
            for asking in ENDING:
                signal.signal(asking, interrupt_once)
            visible = self.visible[number % len(self.visible)]
            os.environ.pop(VISIBLE, None)
            if visible is not None:
                os.environ[VISIBLE] = visible
            return super().__call__(overrides, dir_key, number, *rest)

    class Slurm(Surviving, SlurmLauncher):
        def __call__(self, overrides: list[str], *rest: Any) -> JobReturn:
            # Lightning takes the tasks of a SLURM job for its ranks, unless the job has this name. Ours has one task.
            os.environ["SLURM_JOB_NAME"] = "interactive"
            if int(os.environ.get("SLURM_RESTART_COUNT", 0)):  # by SLURM itself, which knows nothing of `checkpoint`
                overrides = going_on(overrides)
            return super().__call__(overrides, *rest)
