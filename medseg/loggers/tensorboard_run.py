"""TensorBoardRun: a training as a run of TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from medseg.errors import InputError
from medseg.loggers.image_logger import PictureLogger
from medseg.runtime.values import leaves
from medseg.viz.logged_images import Picture


class TensorBoardRun(TensorBoardLogger, PictureLogger):
    """Lightning's logger in ``<save_dir>/tensorboard``, with pictures, and settings next to the scores.

    A resumed training writes another file into the same folder, which TensorBoard joins by step.

    Args:
        save_dir: The run's folder.
        metrics: Keys of the scores on the page of hyper-parameters; None for that of ``show``.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, *, save_dir: str, metrics: Sequence[str] | None = None) -> None:
        if find_spec("tensorboard") is None:
            raise InputError("logger=tensorboard: TensorBoard is not installed; pip install 'medseg[tensorboard]'")
        self._metrics = () if metrics is None else tuple(metrics)
        self._chosen = metrics is not None
        super().__init__(save_dir=save_dir, name="tensorboard", version="", default_hp_metric=False)

    def show(self, *metrics: str) -> None:
        """Keys next to the settings, unless the configuration chose some; to be called before settings are logged."""
        if not self._chosen:
            self._metrics = metrics

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Settings; the metrics are named here and get their values when they are logged."""
        from torch.utils.tensorboard.summary import hparams

        super().log_hyperparams(params)
        plain = {k: v if isinstance(v, (bool, int, float)) else str(v) for k, v in leaves(params)}
        for summary in hparams(plain, dict.fromkeys(self._metrics, 0.0)):
            self.experiment.file_writer.add_summary(summary)

    @rank_zero_only
    def log_pictures(self, pictures: Mapping[str, Sequence[Picture]], step: int) -> None:
        """Each view as an image: the picture, with and without each mask, side by side."""
        for key, views in pictures.items():
            for number, view in enumerate(views):
                tag = key if len(views) == 1 else f"{key}/{number}"
                self.experiment.add_image(tag, view.side_by_side(), global_step=step, dataformats="HWC")
