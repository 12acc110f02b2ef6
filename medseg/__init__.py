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
    train.py predict.py evaluate.py plan.py    the commands
"""

__version__ = "0.1.0"
