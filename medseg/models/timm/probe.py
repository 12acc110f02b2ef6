"""How a network of timm is to be built, and what it then gives: found on the meta device, without computing."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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
"""Of the coarsest stride, tried for the divisor: windows have such sizes."""
_LEVELS = 4
"""Features of a plain transformer, unless told otherwise."""
_REFUSALS = (ValueError, TypeError, RuntimeError, AssertionError, IndexError, ZeroDivisionError, AttributeError)
"""What timm raises for settings and shapes that do not fit."""


@dataclass(frozen=True)
class Taps:
    """Which features are taken from a network, and how.

    Attributes:
        indices: Counted as timm does.
        norm: Whether they are normalised by the last layer.
        prefix: Tokens without a place that are to come along, as ``[b, prefix + n, c]``; 0 for grids.
    """

    indices: tuple[int, ...]
    norm: bool
    prefix: int = 0

    def __call__(self, net: nn.Module, image: Tensor) -> list[Tensor]:
        """The features of an image."""
        told: dict[str, Any] = {"indices": list(self.indices), "norm": self.norm, "intermediates_only": True}
        if not self.prefix:
            grids: list[Tensor] = net.forward_intermediates(image, output_fmt="NCHW", **told)  # type: ignore[operator]
            return grids
        pairs = net.forward_intermediates(image, output_fmt="NLC", return_prefix_tokens=True, **told)  # type: ignore[operator]
        return [torch.cat((prefix, tokens), dim=1) for tokens, prefix in pairs]


@dataclass(frozen=True)
class Probed:
    """How to build a network, and what it gives.

    Attributes:
        settings: Arguments of timm's constructor.
        taps: Of the network as timm builds it.
        features: Channels and strides.
        divisor: Cells of the image must be a multiple of this on each axis.
        fixed_shape: The only shape taken; None where shapes are free.
        stem: Names of the kernels that take the image.
    """

    settings: Mapping[str, Any]
    taps: Taps
    features: tuple[Feature, ...]
    divisor: tuple[int, ...]
    fixed_shape: tuple[int, ...] | None
    stem: str | tuple[str, ...] | None


def create(name: str, in_channels: int, settings: Mapping[str, Any], taps: Taps) -> tuple[nn.Module, Taps]:
    """A network without the layers behind its last feature, and the taps of what is left."""
    net = timm.create_model(name, pretrained=False, in_chans=in_channels, **settings)
    kept = net.prune_intermediate_layers(list(taps.indices), prune_norm=not taps.norm, prune_head=True)
    return net, replace(taps, indices=tuple(kept))


def probe(
    spec: ModelSpec, name: str, indices: Sequence[int] | None, norm: bool | str, settings: Mapping[str, Any]
) -> Probed:
    """Find how to build a network so that shapes are free, else for the shape of the patch.

    Args:
        spec: Data and plan.
        name: Of timm.
        indices: Of the features that are wanted; None for the usual ones.
        norm: Whether by the last layer; ``auto`` for plain transformers.
        settings: Of the user; they go before our own.

    Raises:
        InputError: Settings or indices that the network does not have, or features on no whole strides.
    """
    with torch.device("meta"):
        levels = _levels(name, spec.in_channels, settings)
        strides = [int(level["reduction"]) for level in levels]
        keeps_width = all(level.get("num_chs_norm", level["num_chs"]) == level["num_chs"] for level in levels)
        normed = len(set(strides)) == 1 and keeps_width if norm == "auto" else bool(norm)
        taps = Taps(_choose(strides, indices, name), normed)
        unit = max(strides[: max(taps.indices) + 1])
        patch = tuple(ceil(n / unit) * unit for n in spec.patch_shape)
        reason, coarse = "", None
        for way, fixed in _ways(name, patch):
            try:
                found = _try(name, spec.in_channels, {**way, **settings}, taps, unit, fixed)
            except _REFUSALS as error:
                reason = str(error)
                continue
            if fixed:
                return found if "img_size" in way else replace(found, divisor=fixed)
            if all(n % d == 0 for n, d in zip(patch, found.divisor, strict=True)):
                return found
            coarse = coarse or found
    if coarse is None:
        raise InputError(f"model.encoder.name={name} gives no features on whole strides ({reason}); choose another")
    return coarse


def _ways(name: str, patch: tuple[int, ...]) -> list[tuple[dict[str, Any], tuple[int, ...] | None]]:
    """Settings to try, each with the only shape that the network then takes or None; the freest first."""
    told = timm.get_pretrained_cfg(name)
    if told is None or not told.fixed_input_size:
        return [({}, None)]
    free: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
    return [*((way, None) for way in free), ({"img_size": patch}, patch), ({}, tuple(told.input_size[1:]))]


def _levels(name: str, in_channels: int, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What timm tells of all features of a network.

    Raises:
        InputError: Settings that it does not take, or it has no features.
    """
    try:
        net = timm.create_model(name, pretrained=False, in_chans=in_channels, **settings)
    except _REFUSALS as error:
        raise InputError(f"model.encoder.name={name} can't be built with settings={dict(settings)}: {error}") from error
    told = getattr(net, "feature_info", None)
    levels = list(getattr(told, "info", told) or ())
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
    n = len(strides)
    if indices is None:
        if len(set(strides)) > 1:
            return tuple(i for i in range(n) if strides[i] not in strides[i + 1 :])
        levels = min(_LEVELS, n)
        return tuple((i + 1) * n // levels - 1 for i in range(levels))
    chosen = [i + n if i < 0 else i for i in indices]
    if not chosen or chosen != sorted(set(chosen)) or not 0 <= chosen[0] <= chosen[-1] < n:
        raise InputError(
            f"model.encoder.indices={list(indices)}: {name} has {n} features; expected some of 0 to {n - 1}, rising"
        )
    return tuple(chosen)


def _try(
    name: str,
    in_channels: int,
    settings: Mapping[str, Any],
    taps: Taps,
    stride: int,
    fixed: tuple[int, ...] | None,
) -> Probed:
    """What a network gives if it is built thus.

    Args:
        name: Of timm.
        in_channels: Of the image.
        settings: Arguments of timm's constructor.
        taps: Of the features, as grids.
        stride: The coarsest, in cells.
        fixed: The only shape that it is to take; None to find out of what any shape must be a multiple.

    Raises:
        Exception: One of ``_REFUSALS``: no such shapes, or settings that it does not take.
    """
    net, kept = create(name, in_channels, settings, taps)
    net.eval()
    prefix = int(getattr(net, "num_prefix_tokens", 0) or 0)
    if "return_prefix_tokens" not in inspect.signature(net.forward_intermediates).parameters:  # type: ignore[arg-type]
        prefix = 0
    refusal: Exception | None = None
    for multiple in (1,) if fixed else _MULTIPLES:
        unit = multiple * stride
        shapes = [fixed] if fixed else [(unit, 2 * unit), (3 * unit, unit)]
        try:
            declared = {_declare(net, (in_channels, *shape), kept) for shape in shapes}
        except _REFUSALS as error:
            refusal = error
            continue
        if len(declared) == 1:
            grids, stem = declared.pop()
            given = tuple(replace(f, tokens=prefix > 0, prefix=prefix) for f in grids)
            return Probed(settings, replace(taps, prefix=prefix), given, (unit, unit), fixed, stem)
    raise refusal or ValueError("strides change with the shape of the image")


def _declare(
    net: nn.Module, shape: Sequence[int], taps: Taps
) -> tuple[tuple[Feature, ...], str | tuple[str, ...] | None]:
    """Features of an image of a shape, and names of the kernels that it meets first.

    Raises:
        ValueError: Features on no whole strides.
    """
    image = torch.empty((1, *shape))
    met: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: met.append(name) if args[0] is image else None)
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            given = taps(net, image)
    finally:
        for hook in hooks:
            hook.remove()
    size = shape[1:]
    if any(t.ndim != 4 or any(s % n for s, n in zip(size, t.shape[2:], strict=True)) for t in given):
        raise ValueError(f"features of shapes {[tuple(t.shape[1:]) for t in given]} of an image of {tuple(size)}")
    declared = tuple(Feature(t.shape[1], tuple(s // n for s, n in zip(size, t.shape[2:], strict=True))) for t in given)
    kernels = tuple(f"{name}.weight" for name in met or _told_stem(net, shape[0]))
    return declared, kernels[0] if len(kernels) == 1 else kernels or None


def _told_stem(net: nn.Module, in_channels: int) -> tuple[str, ...]:
    """The first convolutions as timm tells them, for networks that pad the image before them."""
    told = getattr(net, "pretrained_cfg", {}).get("first_conv") or ()
    kernels = dict(net.named_parameters())
    named = (told,) if isinstance(told, str) else tuple(told)
    return tuple(n for n in named if f"{n}.weight" in kernels and kernels[f"{n}.weight"].shape[1] == in_channels)
