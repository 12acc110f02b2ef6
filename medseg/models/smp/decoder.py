"""Smp: the decoders of segmentation-models-pytorch, on the features of any encoder."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import log2
from typing import Any

import segmentation_models_pytorch as smp
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError, nearest
from medseg.models.axes import check_axes
from medseg.models.decoders.blocks import resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature, Stride
from medseg.models.network import ModelSpec
from medseg.models.smp.network import ARCHITECTURES, REFUSALS, options_of

_SET_HERE = frozenset({"encoder_depth", "encoder_output_stride", "encoder_weights", "upsampling"})
_TAKE_NONE = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "Segformer")  # level 1 may have no channels
_LEAST_OF_PAN = 8  # cells on each axis


class Smp(Decoder):
    """A decoder of segmentation-models-pytorch; 2D only.

    smp's decoders know levels: level l has a stride of 2^l cells, from the image (level 0) to the coarsest.
    Each feature becomes the level nearest to its stride; where grids are not each twice the next coarser
    one (as of tokens of 14 cells), they are interpolated to be. Which levels are read:

    - Unet, UnetPlusPlus, MAnet, Linknet, Segformer: all from 1 on.
    - UPerNet, PAN: all from 2 on. FPN: the coarsest four.
    - DeepLabV3Plus: 2 and the coarsest. DeepLabV3, PSPNet: the coarsest.

    Level 1, which transformers lack, is left empty for those of the first line, as smp does for timm's
    encoders. Other levels that are missing, or beyond the finest feature, are interpolated from the next
    coarser one. smp dilates encoders for DeepLab and PAN, which can't be done to computed features: here
    DeepLabV3Plus has its coarsest level enlarged to level 4 at most, and the others take it as it is.

    Logits come at the finest level that the architecture decodes; the enlargement that follows keeps the
    extent, where smp's keeps the outermost centres. Most layers normalise over the batch; DeepLabV3,
    DeepLabV3Plus, PAN and UPerNet train on two images or more.

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        architecture: Name in smp; any but DPT (``model/decoder=dpt``).
        attention: ``scse``, in the decoder of Unet and UnetPlusPlus; None without.
        settings: Further settings of the architecture, named as in smp (``decoder_channels``: coarse to
            fine; the last ones are used where the encoder has fewer levels).

    Attributes:
        depth: The coarsest level.
        source: By level that is read, the level whose feature it is taken from.

    Raises:
        InputError: Volumes, unknown names, settings or features that do not fit.

    References:
        Iakubovskii, Segmentation Models Pytorch, 2019, and the works it implements.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        architecture: str = "Unet",
        attention: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        _check_settings(spec, architecture)
        super().__init__(spec, features, layout="pyramid")
        levels = _levels([f.stride for f in self.neck.features])
        self.depth = max(levels)
        if self.depth < 1:
            raise InputError("decoder smp: got a single feature as fine as the image, expected coarser ones")
        self.source = _sources(architecture, levels)
        self.index = {level: i for i, level in enumerate(levels)}
        widths = [spec.in_channels, *([0] * self.depth)]
        for level, source in self.source.items():
            widths[level] = self.neck.features[self.index[source]].channels
        net = _build(architecture, spec, widths, attention, dict(settings or {}))
        self.net: nn.Module = net.decoder
        self.head: nn.Module = net.segmentation_head
        self.architecture = architecture

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at the finest level that the architecture decodes.

        Raises:
            InputError: Too few cells at the coarsest level for PAN, which halves it three times.
        """
        coarsest = grids[self.index[self.depth]]
        if self.architecture == "PAN" and min(coarsest.shape[2:]) < _LEAST_OF_PAN:
            raise InputError(
                f"decoder smp PAN: got coarsest features of shape {tuple(coarsest.shape[2:])}, expected "
                f"{_LEAST_OF_PAN} cells or more on each axis; use a larger plan.patch or another decoder"
            )
        shapes = [[n * 2 ** (self.depth - level) for n in coarsest.shape[2:]] for level in range(self.depth + 1)]
        if self.architecture == "DeepLabV3Plus":
            shapes[-1] = shapes[min(self.depth, 4)]
        levels = [resize(image, shapes[0])]
        for level in range(1, self.depth + 1):
            if level in self.source:
                levels.append(resize(grids[self.index[self.source[level]]], shapes[level]))
            else:
                levels.append(coarsest.new_empty((len(image), 0, *shapes[level])))
        return self.head(self.net(levels))


class _Widths(nn.Module):
    """Stand-in for an encoder of smp: it declares the widths of levels, and is never run."""

    def __init__(self, widths: Sequence[int], depth: int, output_stride: int) -> None:
        super().__init__()
        self.out_channels, self.depth, self.output_stride = list(widths), depth, output_stride

    def set_in_channels(self, in_channels: int, pretrained: bool) -> None:
        """Nothing to do: the image is level 0."""

    def make_dilated(self, output_stride: int) -> None:
        """Nothing to do: features are computed elsewhere."""


def _check_settings(spec: ModelSpec, architecture: str) -> None:
    """Raise on volumes, and on an architecture that has no decoder here."""
    check_axes("decoder smp", Smp.ndims, spec, group="model/decoder")
    names = [name for name in ARCHITECTURES if name != "DPT"]
    if architecture not in names:
        hint = "; DPT is model/decoder=dpt" if architecture == "DPT" else ""
        raise InputError(f"model.decoder.architecture={architecture} is unknown; {nearest(architecture, names)}{hint}")


def _sources(architecture: str, levels: Sequence[int]) -> dict[int, int]:
    """By level that an architecture reads, the level whose feature it is taken from: itself, or the next coarser one.

    Example:
        >>> _sources("UPerNet", [3, 4]), _sources("Unet", [2, 3])
        ({2: 3, 3: 3, 4: 4}, {2: 2, 3: 3})
    """
    sources = {read: min(i for i in levels if i >= read) for read in _levels_read(architecture, max(levels))}
    if architecture in _TAKE_NONE and 1 not in levels:
        del sources[1]
    return sources


@contextmanager
def _registered(widths: Sequence[int]) -> Iterator[str]:
    """Name of a stand-in encoder, registered in smp while a decoder is built on it."""
    name = "given"
    smp.encoders.encoders[name] = {"encoder": _Widths, "params": {"widths": widths}, "pretrained_settings": {}}
    try:
        yield name
    finally:
        del smp.encoders.encoders[name]


def _build(
    architecture: str, spec: ModelSpec, widths: Sequence[int], attention: str | None, settings: Mapping[str, object]
) -> Any:
    """The model of smp on an encoder of these widths, from the image to the coarsest level.

    Raises:
        InputError: Unknown settings, or such as do not fit the levels.
    """
    depth = len(widths) - 1
    options = options_of(architecture, attention, settings, at="model.decoder.settings", fixed=_SET_HERE)
    parameters = inspect.signature(getattr(smp, architecture)).parameters
    if "upsampling" in parameters:
        options["upsampling"] = 1
    default = parameters["decoder_channels"].default if "decoder_channels" in parameters else None
    channels = options.get("decoder_channels", default)
    if isinstance(channels, Sequence):
        options["decoder_channels"] = list(channels)[-depth:]
    try:
        with _registered(widths) as name:
            return getattr(smp, architecture)(
                name, encoder_weights=None, encoder_depth=depth, in_channels=spec.in_channels,
                classes=spec.out_channels, **options,
            )  # fmt: skip
    except REFUSALS as error:
        raise InputError(
            f"decoder smp {architecture} can't be built on levels 1 to {depth} with {options}: {error}"
        ) from error


def _levels(strides: Sequence[tuple[Stride, ...]]) -> list[int]:
    """The level nearest to each stride: the binary logarithm of its mean over the axes, rounded.

    Raises:
        InputError: Two features at one level.

    Example:
        >>> _levels([(4, 4), (7, 7), (16, 16)])
        [2, 3, 4]
    """
    levels = [round(sum(log2(s) for s in stride) / len(stride)) for stride in strides]
    if len(set(levels)) < len(levels):
        text = ", ".join(" x ".join(f"{float(s):g}" for s in stride) for stride in strides)
        raise InputError(
            f"decoder smp: got features of strides {text}, expected each about twice the one before it; "
            f"choose others by model.encoder.indices, or model/decoder=unet"
        )
    return levels


def _levels_read(architecture: str, depth: int) -> list[int]:
    """The levels that an architecture reads, without the image."""
    if architecture in ("DeepLabV3", "PSPNet"):
        return [depth]
    if architecture == "DeepLabV3Plus":
        return [2, depth]
    first = {"UPerNet": 2, "PAN": 2, "FPN": depth - 3}.get(architecture, 1)
    return list(range(max(first, 1), depth + 1))
