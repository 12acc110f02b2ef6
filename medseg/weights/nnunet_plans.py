"""NnunetPlans: what nnU-Net planned for one configuration, with the axes of medseg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from medseg.errors import InputError
from medseg.runtime.values import listed, mapped, number, text, truth, whole
from medseg.weights.unet_geometry import UNetGeometry

REVERSED = (2, 1, 0)
"""Order of nnU-Net's axes where it exchanged none: it reads volumes as slices, rows, columns."""
_MOST_AXES = 3
_INHERITED = 8
"""Configurations that may inherit from one another in a row."""
_SCHEMES = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "unit_range",
    "RGBTo01Normalization": "rgb",
}
"""Schemes of medseg by the classes of nnU-Net."""
_STATISTICS = {"mean": "mean", "std": "std", "low": "percentile_00_5", "high": "percentile_99_5"}
_V = TypeVar("_V")


@dataclass(frozen=True)
class NnunetPlans:
    """One configuration of nnU-Net's ``plans.json``, each axis in nnU-Net's order; ``turned`` gives medseg's.

    Attributes:
        configuration: Its name, ``3d_fullres``.
        order: For right, anterior and superior: the axis of nnU-Net's arrays (slice, row, column, of which it puts
            the coarsest first).
        spacing: Distance of cells.
        patch: Cells of a training patch.
        batch_size: Patches a step.
        schemes: Normalisation of each channel, by medseg's names.
        statistics: Of each channel: mean, std and the percentiles low and high of the training set.
        masked: Whether z-scores are taken inside the nonzero mask only.
        depth: Spacing of the axis that a configuration for slices leaves out.
        network: Name of the class of the network.
        geometry: Of its U-Net; None for other networks.
    """

    configuration: str
    order: tuple[int, ...]
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    batch_size: int
    schemes: tuple[str, ...]
    statistics: tuple[Mapping[str, float], ...]
    masked: bool
    depth: float
    network: str
    geometry: UNetGeometry | None

    def turned(self, values: Sequence[_V], ndim: int, missing: _V) -> tuple[_V, ...]:
        """Values of each axis in the order of medseg.

        Args:
            values: In nnU-Net's order.
            ndim: Axes of the data; 2 for images, whose axes are rows and columns in both packages.
            missing: Value of the axis that a configuration for slices leaves out.

        Raises:
            InputError: Values of volumes for images.
        """
        return turned(values, self.order, ndim, missing)


def turned(values: Sequence[_V], order: Sequence[int], ndim: int, missing: _V) -> tuple[_V, ...]:
    """See ``NnunetPlans.turned``.

    Example:
        >>> turned([3, 1, 2], (2, 1, 0), 3, 0), turned([1, 2], (2, 1, 0), 3, 0), turned([1, 2], (2, 1, 0), 2, 0)
        ((2, 1, 3), (2, 1, 0), (1, 2))
    """
    if len(values) > ndim:
        raise InputError("it is for volumes, and the data are images; choose the configuration 2d")
    if ndim == 2:
        return tuple(values)
    whole_axes = [*[missing] * (ndim - len(values)), *values]
    return tuple(whole_axes[axis] for axis in order)


def plans_of(stored: object, configuration: str) -> NnunetPlans:
    """A configuration of the content of ``plans.json``, of any version of nnU-Net v2.

    Args:
        stored: The content.
        configuration: Name of the configuration.

    Raises:
        InputError: A key that is missing, another kind of value, no such configuration, a cascade's second stage, or
            a normalisation of another package; names the key.
    """
    plans = mapped(stored, "plans", ["configurations"])
    held = mapped(_resolved(mapped(plans["configurations"], "configurations"), configuration), configuration, _NEEDED)
    if held.get("previous_stage"):
        raise InputError(
            f"{configuration} sees the classes of {held['previous_stage']}, expected a configuration of images alone; "
            "choose 3d_fullres or 3d_lowres, and for a cascade medseg-train -m cascade=true"
        )
    network, geometry = _network(held)
    return NnunetPlans(
        configuration,
        order_of(plans),
        tuple(number(v, "spacing", above=0) for v in listed(held["spacing"], "spacing", (2, _MOST_AXES))),
        _wholes(held["patch_size"], "patch_size"),
        whole(held["batch_size"], "batch_size", 1, 1_000_000),
        schemes := tuple(_scheme(name) for name in listed(held["normalization_schemes"], "normalization_schemes")),
        tuple(_statistics(plans, i, scheme) for i, scheme in enumerate(schemes)),
        _masked(held, schemes),
        number(listed(plans.get(_DEPTH, [1.0, 1.0, 1.0]), _DEPTH, (_MOST_AXES,))[0], _DEPTH, above=0),
        network,
        geometry,
    )


_NEEDED = ("spacing", "patch_size", "batch_size", "normalization_schemes")
_DEPTH = "original_median_spacing_after_transp"


def order_of(plans: Mapping[str, object]) -> tuple[int, ...]:
    """See ``NnunetPlans.order``.

    Raises:
        InputError: Its ``transpose_backward`` is no order of three axes.

    Example:
        >>> order_of({"transpose_backward": [1, 0, 2]}), order_of({})
        ((2, 0, 1), (2, 1, 0))
    """
    back = [whole(v, "transpose_backward", 0, 2) for v in listed(plans.get("transpose_backward", [0, 1, 2]), "axes")]
    if sorted(back) != [0, 1, 2]:
        raise InputError(f"transpose_backward={back}: expected an order of the axes 0, 1 and 2")
    return tuple(back[axis] for axis in REVERSED)


def _resolved(configurations: Mapping[str, object], name: str, depth: int = 0) -> dict[str, Any]:
    """A configuration with the values that it inherits."""
    if name not in configurations or depth > _INHERITED:
        raise InputError(f"there is no configuration {name}; choose one of {', '.join(configurations)}")
    own = mapped(configurations[name], name)
    parent = own.get("inherits_from")
    return own if parent is None else _resolved(configurations, text(parent, "inherits_from"), depth + 1) | own


def _network(held: Mapping[str, Any]) -> tuple[str, UNetGeometry | None]:
    """Class of the network, and the geometry of a U-Net; of plans before version 2.3 too, which list it flat."""
    if "architecture" not in held:
        base, most = (
            whole(held.get(k, 32), k, 1, 1 << 16) for k in ("UNet_base_num_features", "unet_max_num_features")
        )
        strides = listed(held.get("pool_op_kernel_sizes"), "pool_op_kernel_sizes")[:64]
        name = text(held.get("UNet_class_name", "PlainConvUNet"), "UNet_class_name")
        features = [min(base * 2**i, most) for i in range(len(strides))]
        return name, _geometry(
            name == "ResidualEncoderUNet",
            features,
            held.get("conv_kernel_sizes"),
            strides,
            held.get("n_conv_per_stage_encoder"),
            held.get("n_conv_per_stage_decoder"),
        )
    architecture = mapped(held["architecture"], "architecture", ["network_class_name", "arch_kwargs"])
    name = text(architecture["network_class_name"], "network_class_name").rpartition(".")[2]
    settings = mapped(architecture["arch_kwargs"], "arch_kwargs")
    if name not in ("PlainConvUNet", "ResidualEncoderUNet"):
        return name, None
    residual = name == "ResidualEncoderUNet"
    blocks = settings.get("n_blocks_per_stage" if residual else "n_conv_per_stage")
    return name, _geometry(
        residual,
        settings.get("features_per_stage"),
        settings.get("kernel_sizes"),
        settings.get("strides"),
        blocks,
        settings.get("n_conv_per_stage_decoder"),
    )


def _geometry(
    residual: bool, features: object, kernels: object, strides: object, encoder: object, decoder: object
) -> UNetGeometry:
    stages = listed(strides, "strides")
    if len(stages) < 2:
        raise InputError(f"strides={stages}: expected those of two stages or more")
    return UNetGeometry(
        residual,
        _wholes(features, "features_per_stage", len(stages)),
        tuple(_wholes(k, "kernel_sizes") for k in listed(kernels, "kernel_sizes", (len(stages),))),
        tuple(_wholes(s, "strides") for s in stages),
        _wholes(encoder, "n_conv_per_stage", len(stages)),
        _wholes(decoder, "n_conv_per_stage_decoder", len(stages) - 1),
    )


def _wholes(values: object, key: str, *length: int) -> tuple[int, ...]:
    return tuple(whole(v, key, 1, 1 << 16) for v in listed(values, key, length))


def _scheme(name: object) -> str:
    named = text(name, "normalization_schemes")
    if named not in _SCHEMES:
        raise InputError(
            f"normalization_schemes={named}: expected one of {', '.join(_SCHEMES)}; write a plan.yaml with a scheme of "
            "your own (medseg-plan)"
        )
    return _SCHEMES[named]


def _statistics(plans: Mapping[str, Any], channel: int, scheme: str) -> Mapping[str, float]:
    """Statistics of a channel, if its scheme needs some."""
    if scheme != "ct":
        return {}
    key = "foreground_intensity_properties_per_channel"
    pooled = mapped(mapped(plans, "plans", [key])[key], key, [str(channel)])[str(channel)]
    held = mapped(pooled, key, list(_STATISTICS.values()))
    return {own: number(held[theirs], f"{key}.{theirs}") for own, theirs in _STATISTICS.items()}


def _masked(held: Mapping[str, Any], schemes: Sequence[str]) -> bool:
    """Whether z-scores are taken inside the mask, of which medseg knows one setting for all channels."""
    stated = [truth(v, "use_mask_for_norm") for v in listed(held.get("use_mask_for_norm", []), "use_mask_for_norm")]
    masks = {mask for mask, scheme in zip(stated, schemes, strict=False) if scheme == "zscore"}
    if len(masks) == 2:
        raise InputError("use_mask_for_norm differs between channels; write a plan.yaml with one value for all of them")
    return True in masks
