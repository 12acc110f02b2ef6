"""MlflowRun: a training as a run of MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from medseg.errors import InputError
from medseg.loggers.image_logger import PictureLogger
from medseg.viz.logged_images import Picture

_FILE = "sqlite:///"


class MlflowRun(MLFlowLogger, PictureLogger):
    """Lightning's logger, with pictures.

    Args:
        tracking_uri: A server, or ``sqlite:///FILE``, whose folder is created and holds the pictures too. MLflow's old
            file store can't hold both ``val/dice`` and ``val/dice/<class>``.
        settings: Of Lightning's logger, such as experiment_name, run_name and tags.

    Raises:
        InputError: MLflow is not installed.
    """

    def __init__(self, *, tracking_uri: str, **settings: Any) -> None:
        if find_spec("mlflow") is None:
            raise InputError("logger=mlflow: MLflow is not installed; pip install 'medseg[mlflow]'")
        if tracking_uri.startswith(_FILE):
            folder = Path(tracking_uri.removeprefix(_FILE)).absolute().parent
            folder.mkdir(parents=True, exist_ok=True)
            settings = {"artifact_location": (folder / "mlartifacts").as_uri()} | settings
        super().__init__(tracking_uri=tracking_uri, **settings)

    @rank_zero_only
    def log_pictures(self, pictures: Mapping[str, Sequence[Picture]], step: int) -> None:
        """Each view as an image: the picture, with and without each mask, side by side."""
        for key, views in pictures.items():
            for number, view in enumerate(views):
                name = key if len(views) == 1 else f"{key}/{number}"
                self.experiment.log_image(self.run_id, view.side_by_side(), key=name, step=step)
