"""The temperature of a trained network, fitted on validation cases and stored in its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from medseg.runtime.console import show
from medseg.training.artifacts import trusted_names

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.data.dataset import Dataset
    from medseg.factory.run import Run

_LOG = logging.getLogger(__name__)
MOST_CASES, MOST_CELLS = 32, 4096
"""Validation cases that are predicted for it, and cells that are drawn from each."""
LARGEST_CASE = 2**28
"""Values of an image; larger ones are left out, as they are read whole."""
_MOST_VALUES = 2**25  # logits that are held


def calibrate(cfg: DictConfig, run: Run, run_dir: Path) -> None:
    """Fit the temperature of the checkpoint ``cfg.judged``, and store it there with what it brings.

    Draws have a generator of their own, of ``cfg.seed``. Nothing is stored with less than two cases that have labels.
    """
    from medseg import checkpoint
    from medseg.inference.calibration import calibrated, labelled_cells
    from medseg.prediction import restore
    from medseg.runtime.progress import watched

    path = run_dir / "checkpoints" / f"{cfg.judged}.ckpt"
    device = run.trainer.strategy.root_device.type
    arrays = restore.predictor(path, device=device, trust=trusted_names(cfg)).arrays
    rng = np.random.default_rng(cfg.seed)
    cases = _chosen(run.datamodule.cases["val"], run.dataset, rng)
    labels = run.dataset.spec.labels
    most = max(64, min(MOST_CELLS, _MOST_VALUES // (labels.n_outputs * max(1, len(cases)))))
    cells = {}
    for case in watched(cases, "fitting the temperature"):
        sample = run.dataset.read(case)
        if sample.label is not None:
            cells[case.id] = labelled_cells(arrays.logits(sample), sample.label, sample.valid, most=most, rng=rng)
    result = calibrated(cells, labels)
    if result is not None:
        checkpoint.store_calibration(path, result)
        show(
            _LOG,
            f"Temperature {result['temperature']:.3g}: on validation cases that it was not fitted on, the expected "
            f"calibration error goes from {result['ece']['before']:.4f} to {result['ece']['after']:.4f}",
        )


def _chosen(cases: Sequence[Case], dataset: Dataset, rng: np.random.Generator) -> list[Case]:
    """Some of the cases, in their order, without very large ones and those that do not annotate every class."""
    complete = [case for case in cases if case.annotated is None]
    channels = len(dataset.spec.channels)
    small = [case for case in complete if prod(dataset.open(case).grid.shape) * channels <= LARGEST_CASE]
    picked = np.sort(rng.permutation(len(small))[:MOST_CASES])
    return [small[number] for number in picked]
