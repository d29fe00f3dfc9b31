"""The run of a job in W&B, and what it is told at the end: hard videos, what is confused with what, the checkpoint.

The package `wandb` is reached through Lightning's logger, and through the nodes of conf/logger/wandb.yaml.
"""

import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from hydra.utils import instantiate
from lightning.pytorch.loggers import WandbLogger

from tubelet.evaluation.results import Results
from tubelet.training.hard_videos import confused, film, hardest
from tubelet.training.ranks import is_first_rank
from tubelet.video.dataset import VideoDataset
from tubelet.video.reader import DecodeError

log = logging.getLogger(__name__)
MOST_PAIRS = 200  # of classes that are confused
HARD = ("clip", "label", "predicted", "probability", "of_label", "video")
CONFUSED = ("label", "predicted", "videos", "share")


class WandbRun(WandbLogger):
    """Never asks anything: without an account an online run is an error.

    group, job_type, tags, notes, entity: by which W&B sorts its runs
    log_model: the checkpoint that was tested becomes an artifact of the run, its `best` one
    num_hard: rows of the table of wrong answers, each with a short film
    video, confusion: what makes a film on disk one of W&B, and predictions.csv a picture; built when they are needed
    """

    def __init__(
        self,
        project: str,
        name: str,
        entity: str | None,
        group: str | None,
        job_type: str | None,
        notes: str | None,
        tags: list[str],
        id: str | None,
        save_dir: str,
        offline: bool,
        log_model: bool,
        num_hard: int,
        video: dict[str, Any],
        confusion: dict[str, Any],
    ):
        if num_hard < 0:
            raise ValueError(f"logger.wandb.num_hard={num_hard} is not a number of at least 0")
        sorted_by = {"entity": entity, "group": group, "job_type": job_type, "notes": notes, "tags": tags}
        super().__init__(name=name, save_dir=save_dir, offline=offline, id=id, project=project, **sorted_by)
        # Lightning always hands W&B this argument, and W&B warns that it has no effect.
        self._wandb_init.pop("anonymous", None)
        # Lightning's own log_model refuses to work offline.
        self.with_checkpoint, self.num_hard, self.video, self.confusion = log_model, num_hard, video, confusion

    @property
    def experiment(self) -> Any:
        """The run of the package. Raises ValueError where it cannot begin, such as for want of an account."""
        if self._experiment is not None:
            return super().experiment
        try:
            # Where W&B finds no terminal to ask on, it raises an error instead of waiting for an answer.
            with open(os.devnull) as nobody, patch.object(sys, "stdin", nobody):
                return super().experiment
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "wandb":
                raise
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"logger.wandb.offline={str(self._offline).lower()}: W&B says: {why} "
                "`wandb login` or WANDB_API_KEY gives it an account, logger.wandb.offline=true needs none"
            ) from error

    def conclude(self, results: Results, tested_on: VideoDataset, predictions: Path, checkpoint: Path) -> None:
        """Tell W&B what came of the test. What fails here is told in a line, and leaves the run as it is."""
        if not is_first_rank():
            return
        parts = {
            "test/hard": lambda: self._log_hard(results, tested_on),
            "test/confused": lambda: self.log_table(
                "test/confused", columns=list(CONFUSED), data=confused(results, MOST_PAIRS)
            ),
            "test/confusion": lambda: self._log_confusion(predictions),
        }
        if self.with_checkpoint:
            parts["the checkpoint"] = lambda: self._log_checkpoint(checkpoint)
        # W&B keeps copies for the artifacts of a run in the home of the user, where a run that is moved leaves them.
        with patch.dict(os.environ, WANDB_DATA_DIR=os.path.abspath(os.path.join(self.save_dir, "wandb"))):
            for name, tell in parts.items():
                try:
                    tell()
                except Exception as error:  # of W&B, of drawing, of the disk: the result of the run is worth more
                    why = (str(error).strip().splitlines() or [""])[0]
                    log.warning("W&B: %s was not logged: %s: %s", name, type(error).__name__, why)

    def _log_hard(self, results: Results, tested_on: VideoDataset) -> None:
        make, predicted = instantiate(self.video), results.predicted
        with TemporaryDirectory() as folder:
            rows = []
            for number, i in enumerate(hardest(results, self.num_hard)):
                video, answer = results.videos[i], int(predicted[i])
                path = Path(folder, f"{number}.mp4")
                try:
                    film(tested_on, tested_on.videos.index(video), path)
                except DecodeError as error:
                    log.warning("W&B: a row of test/hard has no clip: %s", error)
                probabilities = [float(results.probabilities[i, label]) for label in (answer, video.label)]
                names = [results.classes[video.label], results.classes[answer]]
                rows.append([make(str(path)) if path.exists() else None, *names, *probabilities, video.path])
            self.log_table("test/hard", columns=list(HARD), data=rows)

    def _log_confusion(self, predictions: Path) -> None:
        with TemporaryDirectory() as folder:
            picture = Path(folder, "confusion.png")
            instantiate(self.confusion)(predictions, picture)
            self.log_image("test/confusion", [str(picture)])

    def _log_checkpoint(self, checkpoint: Path) -> None:
        run = self.experiment
        run.log_artifact(str(checkpoint), name=f"model-{run.id}", type="model", aliases=["best"])
