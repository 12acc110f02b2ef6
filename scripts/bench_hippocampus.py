"""The peer of experiment=hippocampus: a plain MONAI script on the same fold, budget and machine.

MONAI's DynUNet with deep supervision, CacheDataset, its own random transforms and DiceCELoss, AdamW with
a cosine over the same minutes, whole cases of the same validation fold, same metrics. As a user of MONAI
would write it, plus what is said to help on CPUs (--bf16, and glibc's allocator through MALLOC_*).

    python scripts/bench_hippocampus.py --root DIR --minutes 20 --bf16
    medseg-train experiment=hippocampus data.root=DIR
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotated,
    RandScaleIntensityd,
    RandZoomd,
    SpatialPadd,
)

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.splits.folds import split
from medseg.evaluation.presets import metric_settings
from medseg.metrics.accumulate import CaseScores
from medseg.runtime.cpu import keep_large_blocks

PATCH = (40, 56, 40)
BOTH = ["image", "label"]


def reading() -> list:
    return [
        LoadImaged(BOTH, image_only=True), EnsureChannelFirstd(BOTH, channel_dim="no_channel"),
        NormalizeIntensityd("image"),
    ]  # fmt: skip


def augmenting() -> list:
    return [
        SpatialPadd(BOTH, PATCH),
        RandCropByPosNegLabeld(BOTH, "label", PATCH, pos=1, neg=2, num_samples=1),
        RandRotated(BOTH, 0.52, 0.52, 0.52, prob=0.2, mode=["bilinear", "nearest"]),
        RandZoomd(BOTH, prob=0.2, min_zoom=0.7, max_zoom=1.4, mode=["trilinear", "nearest"]),
        RandFlipd(BOTH, prob=0.5, spatial_axis=0),
        RandGaussianNoised("image", prob=0.1, std=0.1),
        RandGaussianSmoothd("image", prob=0.2),
        RandScaleIntensityd("image", factors=0.25, prob=0.15),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
    ]


def network(features: list[int]) -> DynUNet:
    strides = [1] + [2] * (len(features) - 1)
    return DynUNet(
        3, 1, 3, [3] * len(features), strides, strides[1:], filters=features,
        norm_name=("INSTANCE", {"affine": True}), deep_supervision=True, deep_supr_num=len(features) - 2,
    )  # fmt: skip


def train(net: torch.nn.Module, cases: list, asked: argparse.Namespace) -> int:
    files = [{"image": str(c.images[0]), "label": str(c.label)} for c in cases]
    dataset = CacheDataset(files, Compose(reading() + augmenting()), progress=False)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, drop_last=True, collate_fn=list_data_collate)
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    began, steps = time.monotonic(), 0
    while True:
        for batch in loader:
            spent = (time.monotonic() - began) / (60 * asked.minutes)
            if spent >= 1:
                return steps
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * spent))
            with torch.autocast("cpu", torch.bfloat16, enabled=asked.bf16):
                outputs = net(batch["image"].as_tensor()).unbind(1)
            label = batch["label"].as_tensor()
            losses = [loss_of(level.float(), label) / 2**i for i, level in enumerate(outputs)]
            loss = sum(losses) / sum(1 / 2**i for i in range(len(outputs)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 12.0)
            optimizer.step()
            steps += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    keep_large_blocks()
    torch.manual_seed(asked.seed)
    source = NnunetDataset(asked.root)
    cases = {c.id: c for c in source.cases()}
    train_ids, val_ids = split(list(cases.values()), 0)
    net = network(asked.features)
    steps = train(net, [cases[i] for i in train_ids], asked)
    net.eval()
    scores = CaseScores(source.spec.labels, **metric_settings("full"))
    for case in (cases[i] for i in val_ids):
        sample = source.read(case)
        image = torch.from_numpy((sample.image - sample.image.mean()) / sample.image.std())
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=asked.bf16):
            logits = sliding_window_inference(image[None], PATCH, 1, net, overlap=0.5, mode="gaussian")
        pred = logits[0].float().argmax(0).numpy().astype(np.int16)
        grid = sample.grid
        scores.add(case.id, pred, sample.label, sample.valid, spacing=grid.spacing, unit=grid.unit)
    result = scores.result()
    classes = {name: {m: round(v["mean"], 4) for m, v in c.items()} for name, c in result["classes"].items()}
    print(json.dumps({"steps": steps, "dice": result["summary"]["dice"], "classes": classes}, indent=1))


if __name__ == "__main__":
    main()
