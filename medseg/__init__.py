"""medseg: train, fine-tune and judge segmentation networks on volumes and multispectral scenes.

The map of the package:

    errors.py       InputError, the one error that commands print without a traceback
    values.py       what a file holds, held to type and range
    labels/         IGNORE and LabelTable: what label values mean
    wavelengths.py  bands of satellites, in nanometres
    sample.py       Channel, DataSpec, Sample, Batch: what travels
    geometry/       grids, boxes, resampling: the only code that knows affines
    formats/        open(path) -> Source; write: NIfTI, NRRD, MHA, DICOM, GeoTIFF, PNG, JPEG; vectors, mosaics
    transforms/     batched augmentation on the device: draw, then apply
    data/           datasets by name, preprocessing, patch store, sampling, the datamodule
    planning/       fingerprint, rules and plan
    models/         networks, 2D and 3D, behind one interface
    losses/         pure loss functions and their modules
    metrics/        overlap and surface scores, and their accumulation over cases
    inference/      the sliding window and the predictor
    methods/        LightningModules: one way of training each
    callbacks/      what watches a training, and the loggers
    report/         figures and the HTML report
    doctor/         medseg-check: what is wrong with a dataset, and the fix for each finding
    runtime/        locks, signals, drafts, full disks, provenance: what a process needs to know of its machine
    training/       one run: its folder, how it resumes, how it ends, how it is repeated
    trust.py stored.py values.py integrity.py    what a checkpoint may name and hold; its checksums
    ranges.py settings.py overrides.py local_paths.py    values of a configuration, checked before data is read
    laterality.py   the axis across the body, and the mirrors that training and test time share
    prediction_jobs.py prediction_record.py prediction_targets.py    which files a prediction writes, keeps or refuses
    folds.py        which cases train, which validate, which are judged
    build.py        configuration -> datamodule, network, method, trainer; with instances.py networks.py trainers.py
    initial.py      the network before its first step
    restore.py      checkpoint -> predictor; with stored.py trust.py integrity.py
    scenes.py       scenes of any size from file to file
    checkpoint.py   what a checkpoint holds, safe loading
    tracking.py     what loggers are told of a training
    judge.py        scores a predictor on labelled cases
    evaluation.py   scores label files against label files
    command.py      runs a command: Hydra, one-line errors, exit codes, completion
    options.py      what can be chosen, from the first lines of conf/
    announcement.py watching.py   the start-up summary; progress over cases
    processes.py    several processes of one training
    sweep.py space.py   trials that Optuna proposes, and what from
    comparison.py   what one setting of a sweep brings beside another
    device.py cpu.py quiet.py   devices and precision; fast CPUs; what libraries need not say
    files.py        text files that are whole or absent
    train.py predict.py evaluate.py plan.py check.py    the commands
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from omegaconf import DictConfig

    from medseg.inference.predictor import Predictor

__version__ = "0.1.0"


def compose(command: str, *overrides: str, config_dir: str | Path | None = None) -> DictConfig:
    """The configuration of a command, as its command line would compose it.

    Args:
        command: ``train``, ``predict``, ``evaluate`` or ``plan``.
        *overrides: As on the command line, such as ``data=nnunet``.
        config_dir: Folder with options of your own (``data/mine.yaml``), as ``--config-dir`` takes it.

    Raises:
        medseg.errors.InputError: A key or an option that does not exist, which names the nearest right one; or
            no such folder.

    Example:
        >>> compose("train", "optimizer=sgd").optimizer.momentum
        0.99
    """
    from medseg.errors import InputError
    from medseg.hydra_app.compose import compose as composed

    if not all(isinstance(word, str) for word in overrides):
        wrong = next(word for word in overrides if not isinstance(word, str))
        raise InputError(
            f"compose: got {str(wrong)[:80]}, expected words such as 'data=nnunet'; write *words to give a list"
        )
    return composed(command, list(overrides), config_dir=config_dir)


def load(checkpoint: str | Path, *, device: str = "auto", trust: Sequence[str] | str = ()) -> Predictor:
    """The predictor that a checkpoint holds.

    ``predictor(array, grid)`` gives a label array, ``predictor.file(source, target)`` a label file.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        trust: Modules of your own, such as ``["my_package"]``, whose classes the checkpoint may name. Without them
            it is built from medseg's own classes alone, so that a file from elsewhere runs no code.

    Raises:
        medseg.errors.InputError: Not a checkpoint of medseg, one that is damaged or names other classes, or no such
            device.
    """
    from medseg.prediction.restore import predictor

    return predictor(checkpoint, device=device, trust=trust)
