"""Timm: the networks of timm that yield features."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import timm
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import BadInput
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.images_only import refuse_volumes
from medseg.models.network import Facts


class Timm(Encoder):
    """A network of timm, without its classifier; 2D only.

    Args:
        facts: Data and plan.
        name: Of timm, with or without the tag of its weights (``vit_base_patch16_224.mae``).
        indices: Which features; None for all of a pyramid.
        weights: See ``Encoder``; ``pretrained`` are those that timm has under the name.
        adapt: See ``Encoder``.
        least_share: See ``Encoder``.

    Raises:
        BadInput: Volumes, an unknown name, or a network without features.

    References:
        Wightman, PyTorch Image Models, 2019.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        name: str,
        indices: Sequence[int] | None = None,
        weights: str | None = None,
        adapt: str = "auto",
        least_share: float = 0.9,
    ) -> None:
        refuse_volumes(f"encoder {name} of timm", facts)
        if not timm.is_model(name):
            near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3, cutoff=0.0)
            raise BadInput(f"model.encoder.name={name} is no network of timm; the nearest are {', '.join(near)}")
        settings = {} if indices is None else {"out_indices": tuple(indices)}
        net = timm.create_model(name, pretrained=False, features_only=True, in_chans=facts.in_channels, **settings)
        strides = net.feature_info.reduction()
        features = [Feature(c, (s,) * facts.ndim) for c, s in zip(net.feature_info.channels(), strides, strict=True)]
        super().__init__(
            facts, features, (max(strides),) * facts.ndim, weights=weights, adapt=adapt, least_share=least_share
        )
        self.net = net

    @property
    def trunk(self) -> nn.Module:
        """The network as timm builds it."""
        return self.net

    @property
    def stem(self) -> str | None:
        """Its first convolution."""
        return next(key for key, p in self.net.named_parameters() if p.ndim == 4)

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        return self.net(image)
