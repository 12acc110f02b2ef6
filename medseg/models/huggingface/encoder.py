"""Transformers: the vision encoders of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.vit import choose
from medseg.models.huggingface import config as hf_config
from medseg.models.huggingface import hooks, sam_names, state_names
from medseg.models.huggingface.features import FAMILIES, Family, blocks, sam, sam2
from medseg.models.huggingface.sizes import SIZES
from medseg.models.network import ModelSpec
from medseg.weights.pretrained import Pretrained, read

_PROBED = (384, 576)
"""Shape of the image on which strides are found; a multiple of every stride up to 64."""


class Transformers(Encoder):
    """An encoder of transformers, without its heads and necks; 2D only.

    The architecture is that of ``family`` and ``size``, of the config.json of ``weights``, or of ``config``. It
    is **never downloaded, but for the config.json of weights on the hub**; the result is in ``settled``, which a
    checkpoint stores, so that it rebuilds where folder and network are gone.

    Features are

    - of plain transformers, those after four evenly spaced blocks (blocks 2, 5, 8 and 11 of 12); blocks behind
      the last one are left out. DINOv2's and DINOv3's pass the last normalisation, as in their publications.
      They are tokens, with class token and registers ahead (``Feature.prefix``), of SAM and ViTDet grids;
    - of pyramids, those after each stage, from fine to coarse; of SAM 2 those of its Hiera, without the neck.

    Shapes are free in multiples of the patch, or of the coarsest stride: positions that are learnt for one size
    are interpolated, windows padded. The kernel that takes the image is built for the channels of the data.

    In training, DINOv3's positions are scaled at random, as in its pretraining (``config={pos_embed_rescale:
    null}`` leaves that out).

    Args:
        spec: Data and plan.
        family: ``model_type`` of transformers, one of ``FAMILIES``, or shorter: ``dinov3``, ``sam``, ``sam2``,
            ``clip``, ``siglip``; ``auto``: of the weights' config.json, else ``dinov2``.
        size: One of ``SIZES``, such as ``small`` or ``base``; ``auto``: of the weights' config.json, else the
            family's first.
        config: Settings of transformers' configuration that differ from these; or all of them, with
            ``model_type``.
        indices: Blocks of a plain transformer, or stages of a pyramid, after which features are taken, from 0,
            rising; None for those above.
        weights: A folder with config.json and model.safetensors, as ``save_pretrained`` writes it;
            ``hf-hub:owner/name``; or a file. A folder's may be of a larger network that holds the encoder.
        loading: See ``Encoder``.

    Raises:
        InputError: Volumes; settings that are unknown or contradict each other; weights that are unavailable.

    References:
        Wolf et al., Transformers, 2020. Oquab et al., DINOv2, 2023. Siméoni et al., DINOv3, 2025. Kirillov et
        al., Segment Anything, 2023. Ravi et al., SAM 2, 2024. Wu et al., CvT, 2021.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        family: str = "auto",
        size: str | int = "auto",
        config: Mapping[str, object] | None = None,
        indices: Sequence[int] | None = None,
        weights: str | None = None,
        **loading: Any,
    ) -> None:
        check_axes("an encoder of transformers", self.ndims, spec)
        described = hf_config.describe(SIZES, hf_config.Request("model.encoder", family, str(size), config, weights))
        name: str = described["model_type"]
        kind = FAMILIES[name]
        positions = _indices(hf_config.make(described, "model.encoder"), kind, indices)
        cut = {"num_hidden_layers": positions[-1] + 1} if kind.read in (blocks, sam) else {}
        prepared = kind.prepare(hf_config.make({**described, **cut}, "model.encoder"))
        prepared = state_names.with_channels(prepared, spec.in_channels)
        with hf_config.refusing("model.encoder", name):
            features, divisor = _declare(kind, prepared, positions, spec.in_channels)
            net = kind.build(prepared)
        super().__init__(spec, features, divisor, weights=weights, **loading)
        self.net = net
        self.kind, self.indices = kind, positions
        self._described = described
        if kind.plain:
            self.full_depth = getattr(hf_config.make(described, "model.encoder"), kind.depth)

    @property
    def settled(self) -> Mapping[str, object]:
        """The complete description, in place of ``config``."""
        return {"config": self._described}

    @property
    def trunk(self) -> nn.Module:
        """The network as transformers builds it, under its names."""
        return self.net

    @property
    def stem(self) -> str | None:
        """Its first convolution."""
        return hooks.first_convolution(self.net)

    def fetch(self, source: str) -> Pretrained:
        """Weights of a folder, of the hub or of a file, under the names that they have in ``trunk``.

        Raises:
            InputError: See ``weights.pretrained.read``.
        """
        pretrained = read(source)
        described = hf_config.saved(SIZES, source, self._described, "model.encoder")
        config = self.kind.prepare(hf_config.make(described, "model.encoder"))
        state = sam_names.renamed(pretrained.state)
        return pretrained.with_state(state_names.current(state, self.kind.source, config))

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        return self.kind.read(self.net, image, self.kind, self.indices)

    def __getstate__(self) -> object:
        hooks.release(self.net)
        return super().__getstate__()


def _indices(config: PreTrainedConfig, family: Family, indices: Sequence[int] | None) -> tuple[int, ...]:
    """Blocks or stages after which features are taken.

    Raises:
        InputError: Indices of no block or stage.
    """
    depth = getattr(config, family.depth)
    if family.plain:
        return choose(depth, indices, features=4)
    return choose(len(depth), indices, features=len(depth))


def _declare(
    family: Family, config: PreTrainedConfig, indices: Sequence[int], in_channels: int
) -> tuple[list[Feature], tuple[int, ...]]:
    """Features and divisor of a network: it is run on the meta device, without computing."""
    if family.plain:
        patch = _pair(config.patch_size)
        _run(family, config, indices, (in_channels, 2 * patch[0], 3 * patch[1]))  # raises if the settings do not fit
        prefix = family.prefix + getattr(config, "num_register_tokens", 0) if family.tokens else 0
        return [Feature(config.hidden_size, patch, tokens=family.tokens, prefix=prefix)] * len(indices), patch
    grids = _run(family, config, indices, (in_channels, *_PROBED))
    features = [Feature(grid.shape[1], _stride(grid)) for grid in grids]
    unit = config.patch_stride[0] * config.window_size_per_stage[0] if family.read is sam2 else 1
    return features, tuple(lcm(unit, *(int(f.stride[axis]) for f in features)) for axis in range(len(_PROBED)))


def _run(family: Family, config: PreTrainedConfig, indices: Sequence[int], shape: tuple[int, ...]) -> Sequence[Tensor]:
    """Features of an image ``[c, *s]`` of a shape, on the meta device."""
    with torch.no_grad(), torch.device("meta"):
        net = family.build(config).eval()
        return family.read(net, torch.empty(1, *shape), family, indices)


def _stride(grid: Tensor) -> tuple[int, ...]:
    """Stride of a feature of an image of the shape ``_PROBED``.

    Raises:
        InputError: A stride that is no whole number.
    """
    stride = tuple(s / n for s, n in zip(_PROBED, grid.shape[2:], strict=True))
    if any(s % 1 for s in stride):
        raise InputError(f"model.encoder.config: a feature has the stride {stride}, expected powers of 2")
    return tuple(int(s) for s in stride)


def _pair(size: Any) -> tuple[int, ...]:
    """A size on both axes."""
    return (size, size) if isinstance(size, int) else tuple(size)
