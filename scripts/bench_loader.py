"""Patches per second of the patch store with batched transforms, beside MONAI's CacheDataset.

python scripts/bench_loader.py --root path/to/Dataset004_Hippocampus [--cache FOLDER] [--rounds 5] [--batches 60]

Both sides run in one process without loader workers, in alternating rounds, at the rates and ranges of
conf/transform/nnunet.yaml. MONAI gets what makes it fast: every case in memory, read, turned, normalised
and padded, with its foreground cells listed. It runs twice: as it comes, with metadata tracked, and with
set_track_meta(False). It does less in two places: it turns and zooms the patch itself, which pulls zeros in,
where medseg reads a window around it; and it takes the nearest class, where medseg interpolates each.
"reading" includes the stacking of a batch.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import blosc2
import hydra.utils
import monai
import numpy as np
import torch
from monai import transforms as mt
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader, RandomSampler

from medseg.data.datamodule import DataModule
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.preprocessing.preprocess import Normalisation, Preprocess
from medseg.data.sampling.case_samplers import Sampling
from medseg.data.sampling.collate import collate_windows
from medseg.data.sampling.patch_dataset import PatchDataset, StepSampler
from medseg.runtime.cpu import keep_large_blocks
from medseg.sample import Batch, DataSpec

ENDLESS = 10**7  # steps, more than any run takes
FOREGROUND_SHARE = 1 / 3
SPACING = (1.0, 1.0, 1.0)
PREPARED = 4  # batches that "transforms alone" goes round: as warm in the cache as those just read
WARM_UP = 20  # batches of the round that does not count
NAMES = ("medseg", "MONAI", "MONAI untracked")


@dataclass(frozen=True)
class Side:
    """One contender; each callable does the work of one batch.

    Attributes:
        whole: Reading and transforms.
        reading: Reading alone, batch stacked.
        transforms: Transforms alone, of what was read before.
    """

    whole: Callable[[], Any]
    reading: Callable[[], Any]
    transforms: Callable[[], Any]


def ours(args: argparse.Namespace, cfg: DictConfig, dataset: NnunetDataset, store: Path) -> Side:
    """The store, filled where it is not, and ``build_compose`` of the configuration."""
    transform = hydra.utils.instantiate(
        cfg,
        patch_shape=args.patch,
        spacing=SPACING,
        lateral_axis=0,
        mirror_classes=dataset.spec.labels.mirror(),
    )
    module = DataModule(
        train_cases=dataset.cases(),
        val_cases=[],
        open=dataset.open,
        reading={},
        sampling=Sampling(foreground_fraction=FOREGROUND_SHARE),
        spec=dataset.spec,
        preprocess=Preprocess(SPACING, (Normalisation("zscore"),) * len(dataset.spec.channels)),
        store=store,
        patch=args.patch,
        batch_size=args.batch_size,
        transform=transform,
    )
    module.prepare_data()
    module.setup()
    windows = PatchDataset(
        module.stored["train"],
        patch=args.patch,
        window=transform.window_shape,
        batch_size=args.batch_size,
        seed=0,
        sampling=module.sampling,
    )

    def batches(first: int) -> Any:
        sampler = StepSampler(ENDLESS, args.batch_size, epoch=lambda: first)
        return iter(DataLoader(windows, batch_sampler=sampler, collate_fn=collate_windows))

    whole, reading = batches(0), batches(1)
    prepared = [next(reading) for _ in range(PREPARED)]
    turn = count()

    def prepared_batch() -> Batch:
        step = next(turn)  # in the key too, or the same few changes would be drawn again and again
        key = torch.tensor([[0, step, sample] for sample in range(args.batch_size)])
        return replace(prepared[step % PREPARED], key=key)

    return Side(
        whole=lambda: transform(next(whole)),
        reading=lambda: next(reading),
        transforms=lambda: transform(prepared_batch()),
    )


def theirs(args: argparse.Namespace, cfg: DictConfig, dataset: NnunetDataset) -> Side:
    """``CacheDataset`` with everything cached and the equivalent random transforms."""
    both = ["image", "label"]
    with warnings.catch_warnings():  # of a DICOM reader that nobody asked for
        logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        load = mt.LoadImaged(both, ensure_channel_first=True, image_only=True)
    cached = [
        load,
        mt.Orientationd(both, axcodes="RAS", labels=None),
        mt.NormalizeIntensityd("image", channel_wise=True),
        mt.SpatialPadd(both, args.patch),
        mt.FgBgToIndicesd("label"),
    ]
    crop = mt.RandCropByPosNegLabeld(
        both,
        "label",
        args.patch,
        pos=FOREGROUND_SHARE,
        neg=1 - FOREGROUND_SHARE,
        fg_indices_key="label_fg_indices",
        bg_indices_key="label_bg_indices",
    )
    trim = mt.SelectItemsd(both)
    random = random_transforms(cfg, dataset.spec, both)
    files = [{"image": [str(p) for p in c.images], "label": str(c.label)} for c in dataset.cases()]
    everything = monai.data.CacheDataset(files, mt.Compose([*cached, crop, trim, *random]), progress=False)
    cropped = copy.copy(everything)  # shares the cache
    cropped.transform = mt.Compose([*cached, crop, trim])

    def batches(patches: Any) -> Any:
        sampler = RandomSampler(patches, replacement=True, num_samples=ENDLESS)
        return iter(monai.data.DataLoader(patches, batch_size=args.batch_size, sampler=sampler, num_workers=0))

    whole, reading = batches(everything), batches(cropped)
    prepared = [cropped[i % len(cropped)][0] for i in range(PREPARED * args.batch_size)]
    change, turn = mt.Compose(random), count()
    return Side(
        whole=lambda: next(whole),
        reading=lambda: next(reading),
        transforms=lambda: [change(prepared[next(turn) % len(prepared)]) for _ in range(args.batch_size)],
    )


def random_transforms(cfg: DictConfig, spec: DataSpec, both: Sequence[str]) -> list[Any]:
    """MONAI's transforms at the rates of ``cfg``; a channel rate counts as part of the probability."""
    angle = np.radians(cfg.rotation.degrees)
    width = (cfg.blur.low, cfg.blur.high)
    modes: dict[str, Any] = {"padding_mode": "zeros"}
    if len(spec.channels) != 1:
        raise SystemExit("the comparison is written for images of one channel")
    return [
        mt.RandRotated(both, angle, angle, angle, prob=cfg.rotation.p, mode=("bilinear", "nearest"), **modes),
        mt.RandZoomd(
            both,
            prob=cfg.scale.p,
            min_zoom=1 / cfg.scale.high,
            max_zoom=1 / cfg.scale.low,
            mode=("trilinear", "nearest"),
            padding_mode="constant",
        ),
        *[mt.RandFlipd(both, prob=cfg.mirror.p, spatial_axis=axis) for axis in range(spec.ndim)],
        mt.RandGaussianNoised("image", prob=cfg.noise.p, std=cfg.noise.high),
        mt.RandGaussianSmoothd("image", width, width, width, prob=cfg.blur.p * cfg.blur.channel_p),
        mt.RandScaleIntensityd("image", cfg.brightness.high - 1, prob=cfg.brightness.p),
        mt.RandScaleIntensityFixedMeand("image", cfg.contrast.high - 1, preserve_range=True, prob=cfg.contrast.p),
        mt.RandSimulateLowResolutiond(
            "image",
            prob=cfg.low_resolution.p * cfg.low_resolution.channel_p,
            zoom_range=(cfg.low_resolution.low, cfg.low_resolution.high),
        ),
        *[
            mt.RandAdjustContrastd(
                "image", prob=g.p, gamma=(g.low, g.high), invert_image=g.get("invert", False), retain_stats=True
            )
            for g in (cfg.gamma_inverted, cfg.gamma)
        ],
    ]


def rate(work: Callable[[], Any], batches: int, batch_size: int) -> float:
    """Patches per second over so many batches."""
    begun = time.perf_counter()
    for _ in range(batches):
        work()
    return batches * batch_size / (time.perf_counter() - begun)


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_name() -> str:
    """Model of the processor as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, required=True, help="folder in nnU-Net's raw layout, images of one channel"
    )
    parser.add_argument("--cache", type=Path, help="folder of the patch store, kept; by default a temporary one")
    parser.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40), help="cells")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=60, help="of each measurement in each round")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    blosc2.set_nthreads(args.threads)
    torch.manual_seed(0)
    monai.utils.set_determinism(0)
    keep_large_blocks()  # as training does on a CPU; serves both sides
    cfg = OmegaConf.load(Path(__file__).parent.parent / "conf/transform/nnunet.yaml")
    dataset = NnunetDataset(args.root)
    print(f"{cpu_name()}, {os.cpu_count()} cores, {args.threads} thread(s); python {platform.python_version()}")
    print(f"torch {torch.__version__}, monai {monai.__version__}, blosc2 {blosc2.__version__}, numpy {np.__version__}")
    print(f"{len(dataset.cases())} cases, patch {tuple(args.patch)}, batch {args.batch_size}; peak memory in MB:")
    with tempfile.TemporaryDirectory() as folder:
        start = peak_mb()
        stored = ours(args, cfg, dataset, args.cache or Path(folder))
        store = peak_mb()
        cached = theirs(args, cfg, dataset)
        print(f"  imports {start:.0f}, store filled and opened +{store - start:.0f}, MONAI's +{peak_mb() - store:.0f}")
        report(dict(zip(NAMES, (stored, cached, cached), strict=True)), args)
    print(f"peak memory in the end: {peak_mb():.0f} MB")


def report(sides: dict[str, Side], args: argparse.Namespace) -> None:
    """Measure in alternating rounds after one to warm up; print medians with least and largest, and ratios."""
    parts = ("whole", "reading", "transforms")
    found: dict[tuple[str, str], list[float]] = {(part, name): [] for part in parts for name in sides}
    for turn in range(args.rounds + 1):
        for part, name in found:
            monai.data.set_track_meta(name != "MONAI untracked")
            value = rate(getattr(sides[name], part), args.batches if turn else WARM_UP, args.batch_size)
            if turn:
                found[part, name].append(value)
    print(f"patches per second, median (least to largest) of {args.rounds} rounds of {args.batches} batches:")
    for (part, name), values in found.items():
        ratio = statistics.median(a / b for a, b in zip(found[part, "medseg"], values, strict=True))
        print(
            f"  {part:10}  {name:15} {statistics.median(values):6.0f} ({min(values):.0f} to {max(values):.0f})",
            "" if name == "medseg" else f"  medseg is {ratio:.2f} times as fast",
        )


if __name__ == "__main__":
    main()
