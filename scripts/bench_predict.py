"""Memory and time of the prediction of one volume: medseg, MONAI and nnU-Net with the same network and windows.

python scripts/bench_predict.py [--classes 105] [--shape 512,512,900] [--spacing 0.7,0.7,1] [--target 1.5] [--window 96]
                                [--members 1] [--monai] [--nnunet]

A CT volume of noise is written as int16 NIfTI, and read, prepared, predicted by overlapping windows, brought back to
its grid, decided and written. The network is a convolution of one cell with random weights: what is measured is what a
predictor does around its network. Each predictor runs in a process of its own, whose peak resident memory is read from
the kernel; the memory that the libraries take alone is printed too. MONAI's path is the one of its tutorials:
``LoadImaged, Orientationd, Spacingd, ScaleIntensityRanged``, ``sliding_window_inference`` (Gaussian weights, overlap
0.5), ``Invertd`` of the logits, ``AsDiscreted(argmax)``, ``SaveImaged``. nnU-Net's is
``nnUNetPredictor.predict_from_files_sequential`` with its default preprocessor, resampling and export, without mirrors;
``nnunetv2`` has to be installed, which medseg itself does not need.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def write_volume(path: Path, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """A smooth volume in Hounsfield units, plane by plane."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    volume = np.empty(shape, np.int16)
    for plane in range(shape[2]):
        volume[..., plane] = rng.integers(-900, 900, shape[:2])
    nib.Nifti1Image(volume, np.diag([*spacing, 1.0])).to_filename(path)


def own(source: Path, target: Path, args: argparse.Namespace) -> None:
    """Predict with medseg."""
    from medseg.data.preprocessing.normalise import Normalisation
    from medseg.data.preprocessing.preprocess import Preprocess
    from medseg.data.reading.options import ReadOptions
    from medseg.inference.ensemble import Ensemble
    from medseg.inference.predictor import Predictor
    from medseg.inference.tiling import Tiling
    from medseg.labels import LabelTable
    from medseg.prediction.file_predictor import FilePredictor, Layout
    from medseg.sample import Channel, DataSpec

    labels = LabelTable.declare({"background": 0, **{f"organ {k}": k for k in range(1, args.classes)}})
    spec = DataSpec((Channel("CT"),), labels, 3)
    prepare = Preprocess((args.target,) * 3, (Normalisation("standard", 0.0, 500.0),))
    members = [
        Predictor(network(args.classes, seed), prepare=prepare, tiling=Tiling((args.window,) * 3), spec=spec)
        for seed in range(args.members)
    ]
    arrays = members[0] if len(members) == 1 else Ensemble(members)
    FilePredictor(arrays, Layout((), ReadOptions(), None), digest="none").file(source, target)


def monai(source: Path, target: Path, args: argparse.Namespace) -> None:
    """Predict with MONAI."""
    import torch
    from monai.data import decollate_batch, list_data_collate
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        Orientationd,
        SaveImaged,
        ScaleIntensityRanged,
        Spacingd,
    )

    before = Compose([
        LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", "RAS", labels=None),
        Spacingd("image", (args.target,) * 3, mode="bilinear"),
        ScaleIntensityRanged("image", -500, 500, -1, 1),
    ])  # fmt: skip
    after = Compose([
        Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True),
        AsDiscreted("pred", argmax=True),
        SaveImaged("pred", output_dir=target.parent, output_postfix="", separate_folder=False, print_log=False),
    ])  # fmt: skip
    batch = list_data_collate([before({"image": str(source)})])
    with torch.no_grad():
        batch["pred"] = sliding_window_inference(
            batch["image"], (args.window,) * 3, 1, network(args.classes, 0), overlap=0.5, mode="gaussian"
        )
    for case in decollate_batch(batch):
        after(case)


def nnunet(source: Path, target: Path, args: argparse.Namespace) -> None:
    """Predict with nnU-Net."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    def resampling(order: int) -> dict[str, object]:
        return {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}

    spacing = [args.target] * 3
    configuration = {
        "data_identifier": "bench", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [args.window] * 3, "median_image_size_in_voxels": list(args.shape), "spacing": spacing,
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": resampling(3),
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": resampling(1) | {"is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling(1),
        "architecture": {"network_class_name": "torch.nn.Conv3d", "arch_kwargs": {}, "_kw_requires_import": []},
    }  # fmt: skip
    intensities = {"mean": 0.0, "std": 500.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    plans = PlansManager({
        "dataset_name": "bench", "plans_name": "bench", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "original_median_spacing_after_transp": spacing, "experiment_planner_used": "ExperimentPlanner",
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {"0": intensities},
    })  # fmt: skip
    labels = {"background": 0, **{f"organ {k}": k for k in range(1, args.classes)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1}
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    net = network(args.classes, 0)
    chosen = plans.get_configuration("3d_fullres")
    predictor.manual_initialization(net, plans, chosen, [net.state_dict()], dataset, "nnUNetTrainer", None)
    output = str(target).removesuffix(".nii.gz")
    predictor.predict_from_files_sequential([[str(source)]], [output], False, True, None)


def network(classes: int, seed: int):
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Conv3d(1, classes, 1).eval()


def alone(source: Path, target: Path, args: argparse.Namespace) -> None:
    """Import what the others import."""
    import monai  # noqa: F401
    import torch  # noqa: F401

    import medseg.prediction.file_predictor  # noqa: F401


def measured(run: Callable[..., None], *args: object) -> tuple[float, float] | str:
    """Seconds, and GiB of resident memory at the peak, in a process of its own; or why it ended."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_report, args=(queue, run, *args))
    process.start()
    process.join()
    return queue.get() if process.exitcode == 0 else f"ended with {process.exitcode}"


def _report(queue, run, *args) -> None:
    began = time.monotonic()
    run(*args)
    queue.put((time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def numbers(kind: type) -> Callable[[str], tuple]:
    """Parser of numbers with commas between."""
    return lambda text: tuple(kind(word) for word in text.split(","))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--shape", type=numbers(int), default=(512, 512, 900))
    parser.add_argument("--spacing", type=numbers(float), default=(0.7, 0.7, 1.0))
    parser.add_argument("--target", type=float, default=1.5)
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--monai", action="store_true")
    parser.add_argument("--nnunet", action="store_true")
    args = parser.parse_args()
    runs = {"libraries alone": alone, f"medseg, {args.members} member(s)": own}
    runs |= {"MONAI": monai} if args.monai else {}
    runs |= {"nnU-Net": nnunet} if args.nnunet else {}
    print(f"{args.classes} classes on {args.shape} at {args.spacing} mm, window {args.window} at {args.target} mm\n")
    print("| predictor | seconds | peak memory, GiB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "case_0000.nii.gz"
        write_volume(source, args.shape, args.spacing)
        for name, run in runs.items():
            target = Path(folder) / run.__name__ / "case.nii.gz"
            target.parent.mkdir()
            found = measured(run, source, target, args)
            cells = found if isinstance(found, str) else f"{found[0]:.0f} | {found[1]:.2f}"
            print(f"| {name} | {cells} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
