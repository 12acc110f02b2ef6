"""TerraTorch: backbones of terratorch's registry, with medseg's account of their weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from medseg.models.axes import check_axes
from medseg.models.earth.prithvi import FIRST, SECOND
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import ModelSpec
from medseg.models.terratorch import registry
from medseg.models.terratorch.probe import SIDE, features_of, probe
from medseg.models.torchgeo import bands as of_torchgeo
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained


class TerraTorch(Encoder):
    """A backbone of terratorch by its name in the registry, for images of one date; 2D only.

    It is built for the channels of the data, by terratorch's names of bands. What it gives is found without values:
    grids or tokens, with their strides, and whether other shapes than 224 x 224 are taken. Backbones that need values
    for that, or give one vector, are refused. Families that medseg has itself (Prithvi with several dates, TerraMind,
    Clay) do more as ``model/encoder=prithvi``, ``terramind`` and ``clay``.

    Weights are loaded by medseg, so that other bands are fitted and every tensor is accounted for.

    Args:
        spec: Data and plan.
        name: In the registry, such as ``prithvi_eo_v2_300``.
        settings: Arguments of its constructor, such as ``{drop_path: 0.1}``.
        indices: Which of its features, from 0; None for four evenly spaced of one stride, else for all.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` are those that terratorch downloads.

    Raises:
        InputError: Volumes; terratorch is not installed; no such backbone, or none with features; settings that it does
            not take.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        name: str,
        settings: Mapping[str, Any] | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        check_axes(f"encoder {name} of terratorch", self.ndims, spec)
        channels = spec.channels or tuple(Channel(f"channel{i}") for i in range(spec.in_channels))
        given = dict(settings or {})
        net = registry.build(name, channels, given)
        taken, fixed = probe(name, net, spec.in_channels, indices, int(given.get("img_size", SIDE)))
        unit = max(int(stride) for t in taken for stride in t.feature.stride)
        super().__init__(spec, [t.feature for t in taken], fixed or (unit, unit), fixed_shape=fixed, **loading)
        self.name, self._given, self.taken, self.net = name, given, taken, net

    @property
    def trunk(self) -> nn.Module:
        """The backbone as terratorch builds it."""
        return self.net

    @property
    def stem(self) -> str | None:
        """The first kernel with as many inputs as there are channels."""
        count = len(self.channels)
        kernels = ((name, p) for name, p in self.trunk.named_parameters() if p.ndim in (4, 5))
        return next((name for name, p in kernels if p.shape[1] == count), None)

    def fetch(self, source: str) -> Pretrained:
        """A file, or the weights that terratorch downloads, with the bands that they were trained on."""
        family = FIRST if self.name.startswith("prithvi_eo_v1") else SECOND
        if self.name.startswith("prithvi"):
            published: dict[str, Any] = {
                "channels": family.channels,
                "mean": family.mean,
                "std": family.std,
                "scale": 1.0,
            }
        else:
            published = _of_weights(self.name)
        if source != "pretrained":
            found = super().fetch(source)
            return found if found.channels else Pretrained(**{**vars(found), **published})
        channels = published.get("channels") or self.channels
        net = registry.build(self.name, channels, self._given, pretrained=True)
        return Pretrained(net.state_dict(), f"{self.name} of terratorch", **published)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without what the backbone computes for its own grid, such as sine positions."""
        own = {name: buffer.shape for name, buffer in self.trunk.named_buffers()}

        def computed(key: str, tensor: Tensor) -> bool:
            return any(key.endswith(name) and shape != tensor.shape for name, shape in own.items())

        return {key: tensor for key, tensor in state.items() if not computed(key, tensor)}

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        outputs = features_of(self.net, image)
        return [taken(outputs) for taken in self.taken]


def _of_weights(name: str) -> dict[str, Any]:
    """Channels and statistics of the torchgeo weights that a backbone has by default; empty if it has none."""
    weight = inspect.signature(registry.constructor(name)).parameters.get("weights")
    if weight is None or not hasattr(weight.default, "meta"):
        return {}
    return {"channels": of_torchgeo.bands(weight.default), **of_torchgeo.preparation(weight.default)}
