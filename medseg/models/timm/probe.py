"""How to build a network of timm, and its features: tried on the meta device, without computing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import timm
import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.encoders.encoder import Feature
from medseg.models.network import ModelSpec

_MULTIPLES = (1, 2, 3, 4, 7, 8, 12, 16)
"""Multiples of the coarsest stride to try as the divisor: windows have such sizes."""
_LEVELS = 4
"""Default number of features of a plain transformer."""
_REFUSALS = (ValueError, TypeError, RuntimeError, AssertionError, IndexError, ZeroDivisionError, AttributeError)
"""What timm raises for settings and shapes that do not fit."""


Stem = str | tuple[str, ...] | None
"""Names of the kernels that take the image."""


@dataclass(frozen=True)
class FeatureSpec:
    """Which features are taken from a network, and how.

    Attributes:
        indices: Indices of the features, counted as timm does.
        norm: Whether they are normalised by the last layer.
        prefix: Number of tokens without a place at the start of ``[b, prefix + n, c]``; 0 for grids.
    """

    indices: tuple[int, ...]
    norm: bool
    prefix: int = 0

    def __call__(self, net: nn.Module, image: Tensor) -> list[Tensor]:
        """The features of an image."""
        settings: dict[str, Any] = {"indices": list(self.indices), "norm": self.norm, "intermediates_only": True}
        if not self.prefix:
            grids: list[Tensor] = net.forward_intermediates(image, output_fmt="NCHW", **settings)  # type: ignore[operator]
            return grids
        pairs = net.forward_intermediates(image, output_fmt="NLC", return_prefix_tokens=True, **settings)  # type: ignore[operator]
        return [torch.cat((prefix, tokens), dim=1) for tokens, prefix in pairs]


@dataclass(frozen=True)
class ProbeResult:
    """How to build a network, and its features.

    Attributes:
        settings: Arguments of timm's constructor.
        selection: Features of the network as timm builds it.
        features: Channels and strides.
        divisor: Cells of the image must be a multiple of this on each axis.
        fixed_shape: The only shape taken; None where shapes are free.
        stem: Names of the kernels that take the image.
    """

    settings: Mapping[str, Any]
    selection: FeatureSpec
    features: tuple[Feature, ...]
    divisor: tuple[int, ...]
    fixed_shape: tuple[int, ...] | None
    stem: Stem


_FOUND: dict[tuple[object, ...], ProbeResult] = {}
"""What was found in this process: a training builds its network three or four times, each time of the same shapes."""


def create(
    name: str, in_channels: int, settings: Mapping[str, object], selection: FeatureSpec
) -> tuple[nn.Module, FeatureSpec]:
    """A network without the layers behind its last feature, and its features with the indices that remain."""
    net = timm.create_model(name, pretrained=False, in_chans=in_channels, **settings)
    indices = net.prune_intermediate_layers(list(selection.indices), prune_norm=not selection.norm, prune_head=True)
    return net, replace(selection, indices=tuple(indices))


def probe(
    spec: ModelSpec, name: str, indices: Sequence[int] | None, norm: bool | str, settings: Mapping[str, object]
) -> ProbeResult:
    """Find how to build a network so that shapes are free, else for the shape of the patch.

    Args:
        spec: Data and plan.
        name: Name of timm's network.
        indices: Indices of the features; None for the default ones.
        norm: Whether the last layer normalises each feature; ``auto`` for plain transformers.
        settings: Constructor arguments of the user; they override our own.

    Raises:
        InputError: Settings or indices that the network does not have, or features on no whole strides.
    """
    chosen = None if indices is None else tuple(indices)
    key = (spec.in_channels, tuple(spec.patch_shape), name, chosen, norm, repr(sorted(settings.items())))
    if key not in _FOUND:
        _FOUND[key] = _probed(spec, name, indices, norm, settings)
    return _FOUND[key]


def _probed(
    spec: ModelSpec, name: str, indices: Sequence[int] | None, norm: bool | str, settings: Mapping[str, object]
) -> ProbeResult:
    """As ``probe``, by building the network several times."""
    with torch.device("meta"):
        levels = _levels(name, spec.in_channels, settings)
        strides = [int(level["reduction"]) for level in levels]
        normed = _normalises(levels) if norm == "auto" else bool(norm)
        selection = FeatureSpec(_choose(strides, indices, name), normed)
        unit = max(strides[: max(selection.indices) + 1])
        return _first_fit(spec, name, settings, selection, unit)


def _first_fit(
    spec: ModelSpec, name: str, settings: Mapping[str, object], selection: FeatureSpec, unit: int
) -> ProbeResult:
    """The first build whose divisor fits the patch, or that is for the shape of the patch; else the first that works.

    Raises:
        InputError: No build gives features on whole strides.
    """
    patch = tuple(ceil(n / unit) * unit for n in spec.patch_shape)
    reason, coarse = "", None
    for build, fixed in _builds(name, patch):
        try:
            result = _try(name, spec.in_channels, {**build, **settings}, selection, unit, fixed)
        except _REFUSALS as error:
            reason = str(error)
            continue
        if fixed:
            return result if "img_size" in build else replace(result, divisor=fixed)
        if all(n % d == 0 for n, d in zip(patch, result.divisor, strict=True)):
            return result
        coarse = coarse or result
    if coarse is None:
        raise InputError(f"model.encoder.name={name} gives no features on whole strides ({reason}); choose another")
    return coarse


def _builds(name: str, patch: tuple[int, ...]) -> list[tuple[dict[str, object], tuple[int, ...] | None]]:
    """Constructor arguments to try, each with the only shape that the network then takes or None; the freest first."""
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.fixed_input_size:
        return [({}, None)]
    free: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
    return [*((build, None) for build in free), ({"img_size": patch}, patch), ({}, tuple(config.input_size[1:]))]


def _normalises(levels: Sequence[Mapping[str, Any]]) -> bool:
    """Whether features are normalised by default: those of plain transformers whose last layer keeps the width."""
    plain = len({int(level["reduction"]) for level in levels}) == 1
    return plain and all(level.get("num_chs_norm", level["num_chs"]) == level["num_chs"] for level in levels)


def _levels(name: str, in_channels: int, settings: Mapping[str, object]) -> list[dict[str, Any]]:
    """Timm's description of all features of a network.

    Raises:
        InputError: Settings that it does not take, or it has no features.
    """
    try:
        net = timm.create_model(name, pretrained=False, in_chans=in_channels, **settings)
    except _REFUSALS as error:
        raise InputError(f"model.encoder.name={name} can't be built with settings={dict(settings)}: {error}") from error
    description = getattr(net, "feature_info", None)
    levels = list(getattr(description, "info", description) or ())
    if not levels or not hasattr(net, "forward_intermediates"):
        raise InputError(
            f"model.encoder.name={name} yields no features, only classes; choose a network of which timm gives "
            f"features, such as resnet50, convnext_tiny or vit_base_patch16_224"
        )
    return levels


def _choose(strides: Sequence[int], indices: Sequence[int] | None, name: str) -> tuple[int, ...]:
    """Indices of the features, rising; the last of each stride, or evenly spaced where all are of one stride.

    Example:
        >>> _choose([4, 8, 16, 16, 32], None, "a pyramid"), _choose([16] * 12, None, "a plain transformer")
        ((0, 1, 3, 4), (2, 5, 8, 11))
    """
    if indices is None:
        return _default_indices(strides)
    n = len(strides)
    positive = [i + n if i < 0 else i for i in indices]
    if not positive or positive != sorted(set(positive)) or not 0 <= positive[0] <= positive[-1] < n:
        raise InputError(
            f"model.encoder.indices={list(indices)}: {name} has {n} features; expected some of 0 to {n - 1}, rising"
        )
    return tuple(positive)


def _default_indices(strides: Sequence[int]) -> tuple[int, ...]:
    """The last feature of each stride, or evenly spaced ones where all are of one stride."""
    n = len(strides)
    if len(set(strides)) > 1:
        return tuple(i for i in range(n) if strides[i] not in strides[i + 1 :])
    levels = min(_LEVELS, n)
    return tuple((i + 1) * n // levels - 1 for i in range(levels))


def _try(
    name: str,
    in_channels: int,
    settings: Mapping[str, object],
    selection: FeatureSpec,
    stride: int,
    fixed: tuple[int, ...] | None,
) -> ProbeResult:
    """Build a network and find its features.

    Args:
        name: Name of timm's network.
        in_channels: Number of image channels.
        settings: Arguments of timm's constructor.
        selection: The features, as grids.
        stride: The coarsest stride, in cells.
        fixed: The only shape that it takes; None to find the divisor of the shapes that it takes.

    Raises:
        Exception: One of ``_REFUSALS``: no such shapes, or settings that it does not take.
    """
    net, remaining = create(name, in_channels, settings, selection)
    net.eval()
    prefix = _prefix_tokens(net)
    refusal: Exception | None = None
    for multiple in (1,) if fixed else _MULTIPLES:
        unit = multiple * stride
        shapes = [fixed] if fixed else [(unit, 2 * unit), (3 * unit, unit)]
        try:
            declared = {_declare(net, (in_channels, *shape), remaining) for shape in shapes}
        except _REFUSALS as error:
            refusal = error
            continue
        if len(declared) == 1:
            grids, stem = declared.pop()
            features = tuple(replace(f, tokens=prefix > 0, prefix=prefix) for f in grids)
            return ProbeResult(settings, replace(selection, prefix=prefix), features, (unit, unit), fixed, stem)
    raise refusal or ValueError("strides change with the shape of the image")


def _prefix_tokens(net: Any) -> int:
    """Number of class and register tokens, where the network can return them."""
    if "return_prefix_tokens" not in inspect.signature(net.forward_intermediates).parameters:
        return 0
    return int(getattr(net, "num_prefix_tokens", 0) or 0)


def _feature(grid: Tensor, size: Sequence[int]) -> Feature:
    """Channels and stride of a feature ``[1, c, *s]`` of an image of a size."""
    return Feature(grid.shape[1], tuple(s // n for s, n in zip(size, grid.shape[2:], strict=True)))


def _declare(net: nn.Module, shape: Sequence[int], selection: FeatureSpec) -> tuple[tuple[Feature, ...], Stem]:
    """Features of an image ``[c, *s]`` of a shape, and names of the kernels that take it.

    Raises:
        ValueError: Features on no whole strides.
    """
    image, size = torch.empty((1, *shape)), shape[1:]
    with _convolutions_of(net, image) as names, torch.no_grad():
        grids = selection(net, image)
    if not all(_whole_strides(grid, size) for grid in grids):
        raise ValueError(f"features of shapes {[tuple(t.shape[1:]) for t in grids]} of an image of {tuple(size)}")
    features = tuple(_feature(grid, size) for grid in grids)
    kernels = tuple(f"{name}.weight" for name in names or _configured_stem(net, shape[0]))
    return features, kernels[0] if len(kernels) == 1 else kernels or None


@contextmanager
def _convolutions_of(net: nn.Module, image: Tensor) -> Iterator[list[str]]:
    """Names of the convolutions that take ``image`` itself, once the network has run in the block."""
    names: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: names.append(name) if args[0] is image else None)
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        yield names
    finally:
        for hook in hooks:
            hook.remove()


def _whole_strides(grid: Tensor, size: Sequence[int]) -> bool:
    """Whether a feature is a grid whose cells are whole numbers of cells of the image."""
    return grid.ndim == 4 and not any(s % n for s, n in zip(size, grid.shape[2:], strict=True))


def _configured_stem(net: nn.Module, in_channels: int) -> tuple[str, ...]:
    """The first convolutions by timm's configuration, for networks that pad the image before them."""
    value = getattr(net, "pretrained_cfg", {}).get("first_conv") or ()
    names = (value,) if isinstance(value, str) else tuple(value)
    kernels = dict(net.named_parameters())
    return tuple(n for n in names if f"{n}.weight" in kernels and kernels[f"{n}.weight"].shape[1] == in_channels)
