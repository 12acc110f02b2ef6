"""nnU-Net's own networks and predictor next to medseg with nnU-Net's checkpoint: probabilities on the same case.

python scripts/check_nnunet.py DATA [--case NAME] [--work DIR]

DATA is a folder in nnU-Net's raw layout (imagesTr, labelsTr, dataset.json). nnU-Net takes its fingerprint, plans it
(with the default planner and with that of the residual encoders), builds the network of each configuration and writes a
checkpoint by ``nnUNetTrainer.save_checkpoint``; nothing of these files is made by medseg. Every parameter is drawn at
random before, biases and normalisation too, so that no two tensors are alike.

Then medseg reads the folder, as ``plan.file=FOLDER weights=FOLDER/fold_0/checkpoint_final.pth`` do, and two things are
compared: the probabilities of both networks on one window that nnU-Net has preprocessed; and the probabilities from the
raw file to the end, mirrors included, by ``nnUNetPredictor`` and by medseg's predictor. nnU-Net adds up logits times
Gaussian weights in half precision, which hold few digits at the border of a window; so its predictor is run without
these weights too (which change nothing where a case fits one window).

``nnunetv2`` has to be installed, which medseg itself does not need.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CASES = 6
"""Cases that nnU-Net plans from; its plans follow the median of their shapes."""
LIMIT = 1e-3
"""Largest difference of probabilities that passes."""
MODELS = {"ExperimentPlanner": "unet", "nnUNetPlannerResEncM": "residual_unet"}
"""nnU-Net's planners, and the option of ``model``."""


@dataclass(frozen=True)
class Trained:
    """A folder of a trained model, as nnU-Net writes it.

    Attributes:
        folder: With plans.json, dataset.json and fold_0.
        trainer: The trainer that wrote it.
        model: The option of ``model`` that it is for.
    """

    folder: Path
    trainer: Any
    model: str

    @property
    def configuration(self) -> str:
        """Name of the configuration."""
        return self.folder.name.rpartition("__")[2]


def copy_dataset(source: Path, work: Path) -> str:
    """The first cases of DATA as nnU-Net's raw dataset; its name."""
    name = "Dataset004_Check"
    raw = work / "raw" / name
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    labels = sorted((source / "labelsTr").iterdir())[:CASES]
    for label in labels:
        shutil.copy(label, raw / "labelsTr")
        for image in (source / "imagesTr").glob(f"{label.name.removesuffix('.nii.gz')}_*.nii.gz"):
            shutil.copy(image, raw / "imagesTr")
    declared = json.loads((source / "dataset.json").read_text()) | {"numTraining": len(labels)}
    (raw / "dataset.json").write_text(json.dumps(declared))
    return name


def plan(planner: str, name: str) -> dict[str, Any]:
    """nnU-Net's plans of a dataset by one of its planners."""
    import nnunetv2.experiment_planning as planning
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
    )
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    found = recursive_find_python_class(planning.__path__[0], planner, "nnunetv2.experiment_planning")
    extract_fingerprint_dataset(int(name[7:10]), num_processes=1, clean=False, show_progress_bar=False)
    plans, _ = plan_experiment_dataset(int(name[7:10]), found)
    return plans


def write_model(plans: dict[str, Any], configuration: str, name: str, work: Path, model: str) -> Trained:
    """A checkpoint of a network with random parameters, by nnU-Net's trainer."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    declared = json.loads((work / "raw" / name / "dataset.json").read_text())
    preprocess_dataset(int(name[7:10]), plans["plans_name"], (configuration,), [1], show_progress_bar=False)
    trainer = nnUNetTrainer(plans | {"continue_training": False}, configuration, 0, declared, torch.device("cpu"))
    trainer.initialize()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.add_(drawn * (0.1 if parameter.ndim == 1 else 0.2 * parameter.std()))
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # which sets the mirrors of prediction
    trainer.logger.log("ema_fg_dice", np.float32(0.5), 0)  # numpy numbers, as after an epoch
    folder = Path(trainer.output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(folder / "checkpoint_final.pth"))
    (folder.parent / "plans.json").write_text(json.dumps(plans))
    (folder.parent / "dataset.json").write_text(json.dumps(declared))
    return Trained(folder.parent, trainer, model)


def configuration(trained: Trained, data: Path, work: Path) -> Any:
    """The configuration of medseg's training of this dataset that begins with the checkpoint."""
    from medseg.hydra_app.compose import compose

    words = [
        "data=nnunet", f"data.root={data}", f"cache_dir={work}/cache", "split.n_folds=2", "logger=csv",
        "trainer.accelerator=cpu", "trainer.precision=32-true", f"model={trained.model}", "inference.flips=true",
        f"plan.file={trained.folder}", f"weights={trained.folder}/fold_0/checkpoint_final.pth",
    ]  # fmt: skip
    if trained.configuration == "2d":
        words.append("model.max_features=512")  # a volume of slices; nnU-Net's bound for two axes
        across = trained.trainer.plans_manager.transpose_forward[0]
        words.append(f"transform.mirror.axes={[2 - axis for axis in range(3) if axis != across]}".replace(" ", ""))
    return compose("train", words)


def window(trained: Trained, files: list[str]) -> Tensor:
    """One window of a case that nnU-Net has preprocessed, ``[1, c, z, y, x]``; of slices as many as there are."""
    manager, configuration = trained.trainer.plans_manager, trained.trainer.configuration_manager
    prepare = configuration.preprocessor_class(verbose=False)
    image, *_ = prepare.run_case(files, None, manager, configuration, trained.trainer.dataset_json)
    patch = configuration.patch_size
    cut = np.asarray(image, dtype=np.float32)[(..., *(slice(0, n) for n in patch))]
    missing = [(0, max(0, n - s)) for n, s in zip(patch, cut.shape[-len(patch) :], strict=True)]
    return torch.from_numpy(np.pad(cut, [(0, 0)] * (cut.ndim - len(patch)) + missing))[None]


def network_difference(trained: Trained, run: Any, files: list[str]) -> float:
    """Largest difference of the probabilities of both networks on a window."""
    image, order = window(trained, files), _order(trained)
    theirs, own = trained.trainer.network.eval(), run.method.network.eval()
    theirs.decoder.deep_supervision = False
    with torch.no_grad():
        if trained.configuration == "2d":
            slices = image[0].transpose(0, 1)
            expected = theirs(slices)
            got = torch.cat([own(_turned(s[None, :, None], order)) for s in slices])
            got = torch.stack([_back(g[None], order)[0, :, 0] for g in got])
        else:
            expected, got = theirs(image), _back(own(_turned(image, order)), order)
    return float((expected.softmax(1) - got.softmax(1)).abs().max())


def _order(trained: Trained) -> tuple[int, ...]:
    """For x, y, z: the axis of nnU-Net's arrays."""
    back = trained.trainer.plans_manager.transpose_backward
    return tuple(back[2 - axis] for axis in range(3))


def _turned(image: Tensor, order: tuple[int, ...]) -> Tensor:
    return image.permute(0, 1, *(2 + axis for axis in order))


def _back(image: Tensor, order: tuple[int, ...]) -> Tensor:
    return image.permute(0, 1, *(2 + int(axis) for axis in np.argsort(order)))


def their_probabilities(trained: Trained, files: list[str], *, weighted: bool) -> Any:
    """Probabilities ``[k, x, y, z]`` of a raw case by nnU-Net's predictor, with Gaussian weights or without."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_gaussian=weighted, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained.folder), (0,))
    image, properties = SimpleITKIO().read_images(files)
    _, prob = predictor.predict_single_npy_array(image, properties, None, None, True)
    return np.asarray(prob).transpose(0, 3, 2, 1)


def own_probabilities(cfg: Any, run: Any, case: str) -> Any:
    """Probabilities ``[k, x, y, z]`` of a raw case by medseg's predictor."""
    from medseg.factory.tiling import build_tiling
    from medseg.inference.predictor import Predictor

    source = run.dataset
    tiling = build_tiling(cfg, run.plan, source.spec, "32-true")
    own = Predictor(run.method.network.eval(), prepare=run.plan.preprocess, tiling=tiling, spec=source.spec)
    return own.index_and_prob(source.read(next(c for c in source.cases() if c.id == case)))[1]


def check(trained: Trained, data: Path, case: str, work: Path) -> bool:
    """Compare one model; prints a line, and says whether it passed."""
    from medseg.factory.run import assemble

    files = sorted(str(path) for path in (data / "imagesTr").glob(f"{case}_*.nii.gz"))
    cfg = configuration(trained, data, work)
    with quiet():
        run = assemble(cfg, work / "run")
        network = network_difference(trained, run, files)
        own = own_probabilities(cfg, run, case)
        plain, weighted = (their_probabilities(trained, files, weighted=w) for w in (False, True))
    patch = "x".join(map(str, run.plan.patch))
    network_class = type(trained.trainer.network).__name__
    print(f"{network_class} {trained.configuration}, patch {patch}, coverage {run.report.share:.0%}")
    print(f"  network, on a window that nnU-Net preprocessed       {network:.1e}")
    for words, prob in (("without", plain), ("with", weighted)):
        apart = np.abs(own - prob)
        other = int((own.argmax(0) != prob.argmax(0)).sum())
        print(
            f"  raw file to probabilities, {words + ' Gaussian weights':24}  {apart.max():.1e} (99.9 % below "
            f"{np.quantile(apart, 0.999):.1e}); {other} of {own[0].size} voxels of another class"
        )
    return network < LIMIT and float(np.abs(own - plain).max()) < LIMIT


@contextlib.contextmanager
def quiet() -> Any:
    """Without what both packages print."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Check all models; ends with 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--case", help="default: the first")
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    parser.add_argument("--only", nargs="+", default=["2d", "3d_fullres"], help="configurations")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(work / name)
        name = copy_dataset(args.data, work)
        data = work / "raw" / name
        case = args.case or sorted((data / "labelsTr").iterdir())[0].name.removesuffix(".nii.gz")
        passed = []
        for planner, model in MODELS.items():
            with quiet():
                plans = plan(planner, name)
            for wanted in args.only:
                with quiet():
                    trained = write_model(plans, wanted, name, work, model)
                passed.append(check(trained, data, case, work))
    raise SystemExit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
