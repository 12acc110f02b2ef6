"""Networks of volumes of MONAI and of the authors of SuPreM, VISTA3D and STU-Net.

SUPREM is a folder with a ``unet3d.py`` of github.com/MrGiovanni/SuPreM, STUNET one with ``STUNet.py`` of
github.com/uni-medical/STU-Net; without them, their U-Nets are left out.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from check_upstream import Row, compare, drawn, noise
from hydra.utils import instantiate
from torch import Tensor, nn

from medseg.hydra_app.compose import compose
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import ModelSpec, Network
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.pretrained import read

_SHAPE = (64, 32, 96)


def rows() -> Iterator[Row]:
    """Whole networks by their logits, encoders by their features."""
    yield from _monai()
    yield from _genesis()
    yield from _stunet()


def _spec(shape: tuple[int, ...] = _SHAPE, classes: int = 4) -> ModelSpec:
    strides = ((1, 1, 1), *((2, 2, 2),) * 3, (1, 2, 1))
    kernels = ((3, 3, 3),) * len(strides)
    return ModelSpec(1, classes, shape, (1.0,) * len(shape), kernels, strides, (Channel("CT"),))


def _saved(content: Mapping[str, object], load_from: Callable[[str], Any]) -> Any:
    """What is loaded from a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "upstream.pth")
        torch.save(content, path)
        return load_from(path)


def whole(option: str, content: Mapping[str, object], **settings: Any) -> Network:
    """A network with the weights of a file with this content, loaded as ``weights=FILE`` does."""
    net: Network = instantiate(compose("train", [f"model={option}"]).model, _convert_="all")(_spec(), **settings)
    found = _saved(content, read)
    report = load(net, net.adopt(found), stem=net.stem_kernel, channels=[Channel("CT")])
    _check(option, report)
    return net.eval()


def encoder(option: str, content: Mapping[str, object], about: ModelSpec, **settings: Any) -> Encoder:
    """An encoder with the weights of a file with this content."""
    cfg = compose("train", ["model=encoder_decoder", f"model/encoder={option}"]).model.encoder

    def made(path: str) -> Encoder:
        net: Encoder = instantiate(cfg, _convert_="all")(about, weights=path, **settings)
        _check(option, net.initialise())
        return net.eval()

    net: Encoder = _saved(content, made)
    return net


def _check(option: str, report: Any) -> None:
    if report is None or report.share < 1:
        raise SystemExit(f"{option}: {'' if report is None else report.table()}")


def _wrapped(net: nn.Module) -> dict[str, Tensor]:
    """As SuPreM names them."""
    return {f"module.backbone.{name}": tensor for name, tensor in net.state_dict().items()}


def _monai() -> Iterator[Row]:
    from monai.networks.nets import SegResNet, SegResNetDS2, SwinUNETR

    image, swin = noise(1, 1, *_SHAPE), {"feature_size": 12, "depths": (2, 2, 2, 2)}
    torch.manual_seed(0)
    upstream: Any = drawn(SwinUNETR(1, 4, **swin))
    content = {"net": _wrapped(upstream), "epoch": 2100}
    with torch.no_grad():
        given = [whole("swin_unetr", content, **swin)(image)]
        yield compare(("SuPreM", "Swin UNETR", "logits", "CT"), _SHAPE, given, [upstream(image)])
        given = encoder("monai_swin_vit", content, _spec(), **swin)(image)
        yield compare(("SuPreM", "Swin UNETR", "5 features", "CT"), _SHAPE, given, upstream.swinViT(image))
    upstream = drawn(SegResNet(init_filters=16, in_channels=1, out_channels=4))
    content = {"net": _wrapped(upstream), "epoch": 2100}
    with torch.no_grad():
        given = [whole("segresnet", content, init_filters=16)(image)]
        yield compare(("SuPreM", "SegResNet", "logits", "CT"), _SHAPE, given, [upstream(image)])
    blocks = (1, 2, 2, 4, 4)
    upstream = drawn(SegResNetDS2(3, 8, 1, norm="instance", blocks_down=blocks))
    content = {f"image_encoder.{name}": tensor for name, tensor in upstream.state_dict().items()}
    settings = {"kind": "ds", "init_filters": 8, "blocks": list(blocks), "norm": "instance"}
    with torch.no_grad():
        given = encoder("monai_segresnet", content, _spec(), **settings)(image)
        yield compare(("VISTA3D", "SegResNetDS2", "5 features", "CT"), _SHAPE, given, upstream.encoder(image))


def _module(variable: str, name: str) -> Any:
    """A file of the folder that an environment variable names, as a module."""
    file = Path(os.environ.get(variable, ".")) / name
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ModuleNotFoundError(f"no {variable}/{name}", name=f"{name} in {variable}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _genesis() -> Iterator[Row]:
    module, image = _module("SUPREM", "unet3d.py"), noise(1, 1, *_SHAPE)
    torch.manual_seed(0)
    net: Any = drawn(module.UNet3D(4))
    own = whole("genesis_unet", {"net": _wrapped(net), "epoch": 2100})
    with torch.no_grad():
        yield compare(("SuPreM", "U-Net", "logits", "CT"), _SHAPE, [own(image)], [net(image)])


def _stunet() -> Iterator[Row]:
    for name, members in (  # of nnU-Net v1, of which the file takes a base class and an initialisation
        ("nnunet", {}),
        ("nnunet.network_architecture", {}),
        ("nnunet.network_architecture.initialization", {"InitWeights_He": lambda slope: lambda module: None}),
        ("nnunet.network_architecture.neural_network", {"SegmentationNetwork": nn.Module}),
    ):
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(members)
    module = _module("STUNET", "STUNet.py")
    pools = [[2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 1], [1, 1, 1]]
    for size, depth in (("base", 1), ("large", 2)):
        torch.manual_seed(0)
        net: Any = drawn(module.STUNet(1, 4, [depth] * 6, [8, 16, 32, 64, 128, 128], pools, [[3, 3, 3]] * 6))
        net.do_ds = False
        own = whole("stunet", {"state_dict": net.state_dict()}, size=size, features=8)
        image = noise(1, 1, *_SHAPE)
        with torch.no_grad():
            expected = net(image.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)  # which reads slices, rows, columns
            yield compare(("STU-Net", size, "logits", "CT"), _SHAPE, [own(image)], [expected])
