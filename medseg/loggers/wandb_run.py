"""WandbRun: a training as a run of Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from medseg.errors import InputError
from medseg.loggers import wandb_artifacts, wandb_media
from medseg.loggers.image_logger import PictureLogger
from medseg.runtime.atomic import write_whole
from medseg.viz.logged_images import Picture

_STEP = "trainer/global_step"


class WandbRun(WandbLogger, PictureLogger):
    """Lightning's logger, and tables, images with masks, artifacts, and one run for a training and its resumptions.

    The id of the run is stored in ``<save_dir>/wandb/id.txt``: a training that is resumed in its folder continues the
    same run. Offline, every part has its own folder, and ``wandb sync`` joins them by their id.

    Args:
        save_dir: The run's folder; W&B's files are in ``wandb`` there.
        offline: Write files only, to be sent by ``wandb sync`` some day. ``WANDB_MODE`` is stronger.
        artifacts: Which of ``data``, ``model`` and ``report`` to log.
        settings: Of ``wandb.init``, such as project, entity, name, group, tags, job_type and notes.

    Raises:
        InputError: Online without an account, or an artifact that there is not.
    """

    def __init__(
        self, *, save_dir: str, offline: bool = True, artifacts: Sequence[str] = wandb_artifacts.KINDS, **settings: Any
    ) -> None:
        unknown = [kind for kind in artifacts if kind not in wandb_artifacts.KINDS]
        if unknown:
            raise InputError(f"logger.wandb.artifacts: got {unknown}, expected some of {list(wandb_artifacts.KINDS)}")
        mode = os.environ.get("WANDB_MODE") or ("offline" if offline else "online")
        if mode == "online":
            _require_account()
        self._folder = Path(save_dir) / "wandb"
        self._kept_id = self._folder / "id.txt"
        self.artifacts = tuple(artifacts)
        identity: dict[str, Any] = (
            {} if "WANDB_RUN_ID" in os.environ else {"id": self._known_id()}
        )  # an agent of a sweep gives ids
        super().__init__(save_dir=save_dir, mode=mode, **identity, **settings)
        if self._wandb_init.get("anonymous") is None:  # Lightning hands it on, W&B warns that it has no effect
            self._wandb_init.pop("anonymous", None)

    @property
    def experiment(self) -> Any:
        """The run, started at first use.

        Raises:
            InputError: W&B can't be reached, or rejects the run.
        """
        began = self._experiment is not None
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)  # W&B would write elsewhere without a word
        try:
            run = super().experiment
        except wandb.Error as error:
            raise InputError(
                f"logger=wandb: no run could begin: {error}; logger.wandb.offline=true needs none"
            ) from error
        if not began and getattr(rank_zero_only, "rank", 0) == 0:
            write_whole(self._kept_id, f"{run.id}\n")
        return run

    @rank_zero_only
    def keep_best(self, metric: str, mode: str) -> None:
        """Keep the best value of a metric in the run's summary in addition to the last one; of its classes too.

        Args:
            metric: Such as ``val/dice``.
            mode: ``max`` or ``min``.
        """
        for name in (metric, f"{metric}/*"):
            self.experiment.define_metric(name, step_metric=_STEP, step_sync=True, summary=f"{mode},last")

    @rank_zero_only
    def log_pictures(self, pictures: Mapping[str, Sequence[Picture]], step: int) -> None:
        """Images whose masks can be toggled, the views of a case next to each other."""
        shown = {key: [wandb_media.image(view) for view in views] for key, views in pictures.items()}
        self._log({key: views if len(views) > 1 else views[0] for key, views in shown.items()}, step)

    @rank_zero_only
    def log_result(self, result: Mapping[str, object], step: int, *, part: str) -> None:
        """Tables of cases and classes, and the confusion matrix, under ``<part>/``, such as ``test/``.

        To be called last: pictures with masks send W&B's own part of the settings again, without its charts.
        """
        tables = {f"{part}/cases": wandb_media.case_table(result), f"{part}/classes": wandb_media.class_table(result)}
        self._log({**tables, **wandb_media.confusion(result, part)}, step)

    @rank_zero_only
    def log_data(self, manifest: Mapping[str, object]) -> None:
        """The data as the run's input; see ``wandb_artifacts.use_data``."""
        if "data" in self.artifacts:
            wandb_artifacts.use_data(self.experiment, self._part(), manifest)

    @rank_zero_only
    def log_files(self, run_dir: Path, metadata: Mapping[str, object], *, tested: str) -> None:
        """Checkpoints and report as the run's results; see ``wandb_artifacts.log_model``."""
        if "model" in self.artifacts:
            wandb_artifacts.log_model(self.experiment, run_dir, self._part(), metadata, tested=tested)
        if "report" in self.artifacts:
            wandb_artifacts.log_report(self.experiment, run_dir, self._part())

    def _log(self, row: Mapping[str, object], step: int) -> None:
        self.experiment.log({**row, _STEP: step})

    def _part(self) -> Path:
        """Where files of artifacts stay until they are sent: a folder for each part of the run."""
        return self._folder / "artifacts" / Path(self.experiment.dir).parent.name

    def _known_id(self) -> str | None:
        return self._kept_id.read_text(encoding="utf-8").strip() if self._kept_id.is_file() else None


def _require_account() -> None:
    """Log in to W&B as ``wandb login`` does: ask for the key if there is none; fail if there is no terminal.

    Raises:
        InputError: No account, or a key that W&B does not take.
    """
    import wandb

    remedy = "Set WANDB_API_KEY, or leave the run offline and send it later by wandb sync"
    try:
        logged_in = wandb.login()
    except wandb.Error as error:
        raise InputError(f"logger.wandb.offline=false: {error} {remedy}") from error
    if not logged_in:  # where W&B was set up offline earlier in this process
        raise InputError(f"logger.wandb.offline=false: No account is logged in. {remedy}")
