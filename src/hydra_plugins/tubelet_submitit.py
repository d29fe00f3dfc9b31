"""Hydra's submitit launchers, whose jobs are composed in processes of their own and take their recipes there.

Hydra finds launchers in this namespace only, and imports all of it at every start.
"""

import os
from importlib.util import find_spec
from typing import Any

if find_spec("hydra_plugins.hydra_submitit_launcher"):
    from hydra.core.utils import JobReturn
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher

    from tubelet.training.recipes import recipes_chosen

    class Local(LocalLauncher):
        def __call__(self, *job: Any) -> JobReturn:
            with recipes_chosen():
                return super().__call__(*job)

    class Slurm(SlurmLauncher):
        def __call__(self, *job: Any) -> JobReturn:
            # Lightning takes the tasks of a SLURM job for its ranks, unless the job has this name. Ours has one task.
            os.environ["SLURM_JOB_NAME"] = "interactive"
            with recipes_chosen():
                return super().__call__(*job)
