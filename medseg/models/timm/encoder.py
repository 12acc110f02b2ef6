"""Timm: the networks of timm that yield features."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import ModelSpec
from medseg.models.timm import efficientnet, hub, probe, resnet
from medseg.weights.positions import Grids
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report

_MISFITS = (KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError)
"""What timm's renaming of a file raises when the file is not one that it knows."""


class Timm(Encoder):
    """A network of timm, without its classifier; 2D only.

    Features are grids ``[b, c, *s]``, whatever the network computes with; token sequences, prefix
    tokens first, of ViTs with class or register tokens. The last feature of each stride is taken; of a plain ViT,
    whose features are all of one stride, four at evenly spaced depths (blocks 2, 5, 8 and 11 of 12),
    normalised by its last layer, as DINOv2 does. Layers behind the last feature are left out.

    Image shapes are free, in multiples of ``divisor``, where the network permits: learned positions are
    interpolated, windows padded. Some networks (MaxViT, GC ViT, Hiera, EfficientFormer, …) are built for one
    shape; they are built for the patch, and take no other.

    Args:
        spec: Data and plan.
        name: Name of timm's network, with or without the tag of its weights (``vit_base_patch16_224.mae``).
        indices: Which features, counted as timm does, negative from the end; None for those above.
        norm: Whether each feature is normalised by the network's last layer; ``auto`` for those of plain
            transformers, where that layer keeps the width (SAM's neck does not).
        settings: Further arguments of timm's constructor, such as ``drop_path_rate``.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` are those that timm has under the name.

    Raises:
        InputError: Volumes, an unknown name or tag, a network without features on whole strides, or features
            that it lacks.

    References:
        Wightman, PyTorch Image Models, 2019.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        name: str,
        indices: Sequence[int] | None = None,
        norm: bool | str = "auto",
        settings: Mapping[str, object] | None = None,
        **loading: Any,
    ) -> None:
        check_axes(f"encoder {name} of timm", self.ndims, spec)
        hub.check_name(name)
        if norm not in (True, False, "auto"):
            raise InputError(f"model.encoder.norm={norm}: expected true, false or auto")
        build = probe.probe(spec, name, indices, norm, dict(settings or {}))
        super().__init__(spec, build.features, build.divisor, fixed_shape=build.fixed_shape, **loading)
        self.name, self._settings = name, dict(build.settings)
        self.net, self._selection = probe.create(name, spec.in_channels, build.settings, build.selection)
        self._stem = build.stem
        self._whole: dict[str, torch.Size] = {}  # tensors of the network with all its layers, once weights are read

    @property
    def indices(self) -> tuple[int, ...]:
        """Indices of the features, counted as timm does."""
        return self._selection.indices

    @property
    def norm(self) -> bool:
        """Whether features are normalised by the network's last layer."""
        return self._selection.norm

    @property
    def trunk(self) -> nn.Module:
        """The network as timm builds it, under timm's names."""
        return self.net

    @property
    def grids(self) -> Grids:
        """Tokens of the positions that the network holds: those of the size that it is built for."""
        size = getattr(getattr(self.net, "patch_embed", None), "grid_size", None)
        size = size or getattr(self.net, "tokens_spatial_shape", None)  # of Hiera
        return Grids(grid=None if size is None else tuple(size))

    @property
    def stem(self) -> str | tuple[str, ...] | None:
        """The kernels that take the image: one, or several of networks that add branches up (MobileOne)."""
        return self._stem

    def left_out(self, name: str) -> bool:
        """Layers behind the last feature."""
        return name in self._whole

    @property
    def upstream(self) -> Mapping[str, Sequence[int]]:
        """Shapes of timm's network with all its layers, once weights are read."""
        return self._whole

    def fetch(self, source: str) -> Pretrained:
        """Weights by the words of ``model.encoder.weights``; ``pretrained`` are timm's own.

        Raises:
            InputError: See ``Encoder.fetch``; timm has none under this name, or they can't be downloaded.
        """
        return hub.fetch(self.name) if source == "pretrained" else super().fetch(source)

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """As of every encoder; warns of a layer before the first block that only the network of the file has."""
        report = super().initialise(statistics)
        if report is None or not any(name.endswith("norm_pre.weight") for name in report.named("unexpected")):
            return report
        line = (
            f"the file normalises tokens before the first block, which {self.name} of timm does not: choose its "
            "variant of CLIP, such as vit_base_patch32_clip_224"
        )
        return replace(report, warnings=(*report.warnings, line))

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under timm's names.

        The file may be one of timm (a full classifier, or its ``features_only`` form), or one of the authors
        of the network, as far as timm can read it, or one of an EfficientNet or a ResNet as ``efficientnet.renamed``
        and ``resnet.renamed`` read them.
        Shapes stay as in the file, but for the tables of relative positions that timm fits to the windows.
        """
        with torch.device("meta"):  # whole, as timm's conversions ask for parts that are left out here
            whole = timm.create_model(self.name, pretrained=False, in_chans=len(self.channels), **self._settings)
        self._whole = {key: tensor.shape for key, tensor in whole.state_dict().items()}
        flat = {key.replace(".", "_", 1): key for key in self._whole}
        state = {flat.get(key, key): tensor for key, tensor in resnet.renamed(efficientnet.renamed(state)).items()}
        module = sys.modules[type(whole).__module__]
        convert = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
        if convert is None:
            return state
        try:
            renamed: dict[str, Tensor] = convert(dict(state), whole)
        except _MISFITS:
            return state
        return {key: _unless_resized(key, state.get(key), tensor) for key, tensor in renamed.items()}

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        return self._selection(self.net, image)


def _unless_resized(name: str, original: Tensor | None, converted: Tensor) -> Tensor:
    """Timm's conversion of a tensor; the original where it was resized, as fitting and reporting are done here."""
    resized = (
        original is not None and original.shape != converted.shape and not name.endswith("relative_position_bias_table")
    )
    return original if resized else converted  # type: ignore[return-value]
