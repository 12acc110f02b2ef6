"""medseg: train, fine-tune and judge segmentation networks on volumes and multispectral scenes.

The map of the package:

    errors.py       BadInput, the one error that commands print without a traceback
    labels.py       IGNORE and LabelTable: what label values mean
    sample.py       Channel, DataSpec, Sample, Batch: what travels
    geometry/       grids, boxes, resampling: the only code that knows affines
    formats/        open(path) -> Source; write: NIfTI, NRRD, MHA, DICOM
    transforms/     batched augmentation on the device: draw, then apply
    data/           datasets by name, preprocessing, patch store, sampling, the datamodule
    planning/       fingerprint, rules and plan
    models/         networks, 2D and 3D, behind one interface
    losses/         pure loss functions and their modules
    metrics/        overlap and surface scores, and their accumulation over cases
    inference/      the sliding window and the predictor
    methods/        LightningModules: one way of training each
    callbacks/      what watches a training
    report/         figures and the HTML report
    build.py        configuration -> datamodule, network, method, trainer
    checkpoint.py   what a checkpoint holds, safe loading
    judge.py        scores a predictor on labelled cases
    evaluation.py   scores label files against label files
    command.py      runs a command: Hydra, one-line errors, exit codes
    cpu.py quiet.py what a CPU needs to be fast; what libraries need not say
    train.py predict.py evaluate.py plan.py    the commands
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.inference.predictor import Predictor

__version__ = "0.1.0"


def load(checkpoint: str | Path, *, device: str = "auto") -> Predictor:
    """The predictor that a checkpoint holds.

    ``predictor(array, grid)`` gives a label array, ``predictor.file(source, target)`` a label file.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.

    Raises:
        medseg.errors.BadInput: Not a checkpoint of medseg, or no such device.
    """
    from medseg.build import predictor

    return predictor(checkpoint, device=device)
