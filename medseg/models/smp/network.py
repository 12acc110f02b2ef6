"""Smp: the architectures of segmentation-models-pytorch, with its own encoders and timm's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Set
from math import ceil, lcm
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError, nearest
from medseg.models.axes import check_axes
from medseg.models.network import ModelSpec, Network, refuse_lone_cell
from medseg.models.unused import drop_idle, trace

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet",
    "Segformer", "DPT",
)  # fmt: skip
_SET_HERE = {
    "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params",
    "decoder_attention_type", "kwargs",
}  # fmt: skip
_STRIDE = 32  # of the coarsest stage of an encoder that is neither cut short nor dilated
_MULTIPLES = (1, 2, 4, 8, 16)  # of the stride, tried for the least shape; PAN needs 8
REFUSALS = (ValueError, TypeError, KeyError, RuntimeError, AssertionError)  # of smp and timm, for settings unfit


class Smp(Network):
    """An encoder of image classification with a decoder of segmentation-models-pytorch; 2D only.

    **Weights are random**: nothing is downloaded. Parameters that no logit depends on, such as stages
    beyond the depth that a decoder reads, are dropped.

    Most layers normalise over the batch. Networks that pool an image to one cell before they normalise
    (DeepLabV3, DeepLabV3Plus, PAN, UPerNet, some encoders) therefore train on two images or more, as do
    all others on patches of which a single cell remains at the coarsest stage; ``forward`` says so.

    The image is a multiple of the encoder's stride: 32, or less with ``encoder_output_stride`` or a small
    ``encoder_depth``. PAN halves its coarsest features three times more, so that at least 8 cells of them
    are needed on each axis. DPT learns positions for the patch and resamples them for other shapes.
    Encoders that timm declares to be of a fixed size, such as Swin, take the shape of the patch only.

    Kernels lie with their channels last in memory, and features follow, but where groups of channels are normalised
    (FPN): that kernel of torch 2.15 loses precision on CPUs (0.5 for a mean of 5 and a deviation of 0.001). Four crops
    of 192² on one CPU core: a step of Unet with ResNet-18 takes 0.74 of the time in bfloat16, 0.90 in float32,
    prediction 0.55 and 0.85; UPerNet with ConvNeXt 0.83 and 1.00, 0.68 and 0.92; Segformer with MiT-B0 1.00 and 0.92,
    0.98 and 0.96.

    Args:
        spec: Data and plan; kernels and strides are not used.
        architecture: One of ``ARCHITECTURES``.
        encoder: A name of smp's own (``resnet34``, ``mit_b0``), or ``tu-`` and a name of timm's. DPT takes
            timm's vision transformers with tokens of 8, 16 or 32 cells.
        attention: ``scse``, squeeze and excitation of channels and cells in the decoder of Unet and
            UnetPlusPlus; None without.
        settings: Further settings of the architecture, named as in smp.

    Raises:
        InputError: Volumes, unknown names, or settings that do not fit each other.

    References:
        Iakubovskii, Segmentation Models Pytorch, 2019. Roy et al., Concurrent Spatial and Channel Squeeze
        & Excitation, 2018.
    """

    ndims = (2,)

    def __init__(
        self, spec: ModelSpec, *, architecture: str, encoder: str, attention: str | None = None, **settings: Any
    ) -> None:
        name = f"Smp {architecture} with encoder {encoder}"
        check_axes(name, self.ndims, spec)
        if architecture not in ARCHITECTURES:
            raise InputError(f"model.architecture={architecture} is unknown; {nearest(architecture, ARCHITECTURES)}")
        _check_encoder(encoder)
        patch = tuple(ceil(p / _STRIDE) * _STRIDE for p in spec.patch_shape)
        options = options_of(architecture, attention, settings)
        net, fixed = _build(name, spec, architecture, encoder, patch, options)
        stride, tokens = int(net.encoder.output_stride), 0
        if architecture == "DPT":
            tokens = len(net.encoder.output_strides)
            stride = lcm(stride, 2 ** (tokens + 1))
        super().__init__(spec.in_channels, (stride, stride), fixed_shape=patch if fixed else None)
        if not any(isinstance(m, nn.GroupNorm) for m in net.modules()):
            net = net.to(memory_format=torch.channels_last)
        self.net = net
        self._name = name
        self._tokens = tokens  # number of features that are tokens
        self._least, used = self._find_least(spec.in_channels)
        drop_idle(net, used)

    @property
    def stem_kernel(self) -> str | None:
        """The first convolution of the encoder."""
        named = self.net.encoder.named_modules(prefix="net.encoder")
        return next((f"{name}.weight" for name, module in named if isinstance(module, nn.Conv2d)), None)

    def nearest(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest shape that the network takes and that holds ``shape``."""
        return super().nearest([max(pair) for pair in zip(shape, self._least, strict=True)])

    def check(self, image: Float[Tensor, "b c *s"]) -> None:
        """Refuse an image that the network cannot take.

        Raises:
            InputError: As for every network, and below the least shape; names the nearest that fits.
        """
        shape = tuple(image.shape[2:])
        if self.fixed_shape is None and len(shape) == 2 and (shape[0] < self._least[0] or shape[1] < self._least[1]):
            raise InputError(
                f"{self._name}: got an image of shape {shape}, expected {self._least} or more; "
                f"pad to {self.nearest(shape)}"
            )
        super().check(image)

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell.

        Raises:
            InputError: See ``check``; or, in training, a layer is to normalise a batch of one value.
        """
        return self.decode(self.encode(image), image)

    def encode(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of the encoder without the image that smp puts first; tokens ``[b, n, c]`` of DPT come last."""
        self.check(image)
        with refuse_lone_cell(self._name, image.shape[2:]):
            features = self.net.encoder(image)
        if self._tokens:
            grids, tokens = features
            return [*grids, *(t for t in tokens if t is not None)]
        return list(features[1:])

    def decode(self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell of ``image``, of which decoders use the shape only."""
        with refuse_lone_cell(self._name, image.shape[2:]):
            if self._tokens:
                grids, tokens = features[: self._tokens], features[self._tokens :]
                prefixes: list[Tensor | None] = [*tokens] or [None] * self._tokens
                decoded = self.net.decoder(list(grids), prefixes)
            else:
                decoded = self.net.decoder([image, *features])
            return self.net.segmentation_head(decoded)

    def _find_least(self, channels: int) -> tuple[tuple[int, ...], set[str]]:
        """The smallest shape that runs, and the names of the parameters that are used.

        Traced without computing, on images that are not square.

        Raises:
            InputError: None runs, or logits come at another resolution than the image.
        """
        reason = ""
        for multiple in _MULTIPLES:
            least = self.fixed_shape or tuple(multiple * d for d in self.divisor)
            shape = self.fixed_shape or (least[0], least[1] + self.divisor[1])
            try:
                logits, used = trace(self.net, (1, channels, *shape))
            except REFUSALS as error:
                reason = str(error)
                continue
            if logits[2:] != shape:
                reason = f"an image of shape {shape} gives logits of shape {logits[2:]}"
                break
            return least, used
        raise InputError(f"{self._name} does not work with these settings: {reason}")


def _build(
    name: str, spec: ModelSpec, architecture: str, encoder: str, patch: tuple[int, ...], options: dict[str, Any]
) -> tuple[Any, bool]:
    """The model of smp, and whether it takes the shape of the patch only.

    Raises:
        InputError: Settings that smp or timm reject.
    """
    try:
        fixed = _sized(encoder) and architecture != "DPT"
        if architecture == "DPT":
            options |= {"img_size": patch, "dynamic_img_size": True, "num_classes": 0}
        elif fixed:
            options |= {"img_size": patch}
        net = getattr(smp, architecture)(
            encoder, encoder_weights=None, in_channels=spec.in_channels, classes=spec.out_channels, **options
        )
    except REFUSALS as error:
        raise InputError(f"{name} can't be built with {options}: {error}") from error
    return net, fixed


def options_of(
    architecture: str,
    attention: str | None,
    settings: Mapping[str, Any],
    *,
    at: str = "model",
    fixed: Set[str] = frozenset(),
) -> dict[str, Any]:
    """Arguments of smp's constructor, checked: it ignores a misspelt one without a message.

    Args:
        architecture: One of ``ARCHITECTURES``.
        attention: ``scse`` or None.
        settings: Named as in smp.
        at: Key of the configuration that holds them.
        fixed: Names that can't be set.

    Raises:
        InputError: A name that the architecture does not know, or attention that it does not take.
    """
    parameters = set(inspect.signature(getattr(smp, architecture)).parameters)
    if attention is not None and ("decoder_attention_type" not in parameters or attention != "scse"):
        raise InputError(
            f"{at.removesuffix('.settings')}.attention={attention} for smp's {architecture}: expected scse, with Unet "
            f"or UnetPlusPlus, or null"
        )
    names = parameters - _SET_HERE - fixed
    for key in settings:
        if key == "encoder_weights" and key not in fixed:
            raise InputError("model.encoder_weights: weights of this network are random, none are loaded; leave it out")
        if key not in names:
            raise InputError(f"{at}.{key} is no setting of smp's {architecture}; {nearest(key, names)}")
    return dict(settings) if attention is None else {**settings, "decoder_attention_type": attention}


def _check_encoder(encoder: str) -> None:
    """Raise on an encoder that neither smp nor timm has."""
    if encoder.startswith("tu-"):
        if not timm.is_model(encoder[3:]):
            raise InputError(
                f"model.encoder={encoder} is no network of timm; "
                f"{nearest(encoder, [f'tu-{name}' for name in timm.list_models()])}"
            )
    elif encoder not in smp.encoders.encoders or encoder.startswith("timm-"):  # the latter are deprecated
        own = [name for name in smp.encoders.encoders if not name.startswith("timm-")]
        raise InputError(f"model.encoder={encoder} is no encoder of smp; {nearest(encoder, own)}")


def _sized(encoder: str) -> bool:
    """Whether an encoder is built for one image size, as timm declares it."""
    config = timm.get_pretrained_cfg(encoder[3:]) if encoder.startswith("tu-") else None
    return config is not None and bool(config.fixed_input_size)
