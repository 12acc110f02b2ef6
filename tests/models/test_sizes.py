"""Every family of encoders at every size: it builds without memory, and gives the features that it declares."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import timm
import torch
from monai.networks.nets.resnet import resnet_params
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.factory.axes import ndims_of
from medseg.hydra_app.conf import conf_dir
from medseg.models.encoders.encoder import Encoder, check_features
from medseg.models.huggingface.sizes import SIZES
from medseg.models.network import ModelSpec
from medseg.sensors.bands import bands_of
from tests.models.encoders import spectral
from tests.models.meta import parameters_on_meta
from tests.models.timm.test_encoder import FAMILIES
from tests.models.torchgeo.test_encoder import MODELS
from tests.small import small

GROUP = conf_dir() / "model" / "encoder"
WRITTEN = {path.stem: OmegaConf.load(path) for path in sorted(GROUP.glob("*.yaml"))}
OPTIONS = [
    name
    for name, cfg in WRITTEN.items()
    if "_target_" in cfg and "branches" not in cfg and "@" not in str(cfg.get("defaults"))
]
"""Encoders, without those that are put together from others."""
SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
PATCH = {2: (112, 224), 3: (32, 64, 96)}
"""Cells of the patch: multiples of the tokens of 14 and 16, not square."""
Settings = dict[str, Any]


def sizes(option: str) -> Iterator[Settings]:
    """Settings of each size of a family."""
    if option == "transformers":
        yield from ({"family": family, "size": size} for family, table in SIZES.items() for size in table)
    elif option == "timm":
        yield from ({"name": name} for name, _ in FAMILIES.values())
    elif option == "torchgeo":
        yield from ({"name": name} for name in MODELS)
    elif option == "monai_resnet":
        yield from ({"depth": int(name.removeprefix("resnet"))} for name in resnet_params)
    else:
        yield from sizes_of_its_table(option)


def sizes_of_its_table(option: str) -> Iterator[Settings]:
    """Settings of each size in the table of the class, or of its module; the usual ones where it has no sizes."""
    written = WRITTEN[option]
    if "size" not in written:
        yield {}
        return
    module, _, name = written._target_.rpartition(".")
    home = import_module(module)
    table = getattr(getattr(home, name), "sizes", None) or home.SIZES
    assert written.size in table, f"{option}: no table of sizes that a test could walk"
    yield from ({"size": size} for size in table)


def cases() -> Iterator[Any]:
    """Each size of each family; by day the first of each alone."""
    by_day = set()
    for option in OPTIONS:
        for settings in sizes(option) if available(option) else [{}]:
            family = (option, settings.get("family"))
            first = family not in by_day
            by_day.add(family)
            for ndim in ndims_of("model/encoder", option) if option != "torchgeo" else (2,):  # a function, not a class
                words = [str(value) for value in settings.values()]
                at_night = [] if first and option != "timm" else [pytest.mark.nightly]  # tests/models/timm builds those
                yield pytest.param(option, settings, ndim, id="-".join([option, *words, f"{ndim}d"]), marks=at_night)


def available(option: str) -> bool:
    package = small("model/encoder", option)["package"]
    return package is None or find_spec(package) is not None


def build(option: str, settings: Settings, ndim: int) -> Encoder:
    """An encoder for the bands of Sentinel-2, or for two channels of volumes, on the meta device."""
    channels = bands_of(SENTINEL2, "sentinel-2") if ndim == 2 else bands_of(("T1", "T2"), None)
    spec = ModelSpec(
        in_channels=len(channels), out_channels=2, patch_shape=PATCH[ndim], spacing=(10.0,) * ndim, kernels=(),
        strides=(), channels=channels,
    )  # fmt: skip
    try:
        with torch.device("meta"):
            encoder = spectral.build(option, spec, **settings)
    except (RuntimeError, NotImplementedError):  # it computes numbers while it is built, such as rates of dropped paths
        with parameters_on_meta():
            encoder = spectral.build(option, spec, **settings)
    return encoder


def shape_for(encoder: Encoder) -> tuple[int, ...]:
    """The patch, or the next larger shape that the encoder takes."""
    patch = PATCH[len(encoder.divisor)]
    return encoder.fixed_shape or tuple(-(-p // d) * d for p, d in zip(patch, encoder.divisor, strict=True))


@pytest.mark.parametrize("option, settings, ndim", list(cases()))
def test_every_size_builds_and_gives_what_it_declares(option: str, settings: Settings, ndim: int) -> None:
    if not available(option):
        pytest.skip(f"{small('model/encoder', option)['package']} is not installed")
    encoder = build(option, settings, ndim)
    check_features(encoder, len(encoder.channels), shape_for(encoder))


@pytest.mark.nightly
@pytest.mark.parametrize("name", timm.list_models())
def test_every_network_of_timm_gives_what_it_declares_or_is_refused(name: str) -> None:
    try:
        encoder = build("timm", {"name": name}, 2)
    except InputError as refusal:
        message = str(refusal)
    else:
        message = ""
        check_features(encoder, len(encoder.channels), shape_for(encoder))
    assert "\n" not in message
    assert not message or any(hint in message for hint in ("choose", "expected", "set plan.patch"))
