"""GroupedViT: plain transformers that have a token for each group of bands at each place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.models.earth.groups import Group, assign, of_groups
from medseg.models.encoders.published import Published
from medseg.models.encoders.vit import PlainViT
from medseg.models.network import ModelSpec
from medseg.weights import load
from medseg.weights.fit import Inputs
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report

PREPARATION = "mean - 2 std of each channel to 0, mean + 2 std to 1"


class GroupedViT(PlainViT):
    """See ``PlainViT``; a feature is the mean over the groups at each place.

    Groups without a channel in the data have no tokens, so that they cost nothing. Each group has a kernel of its
    own, which is fitted to the channels that there are by ``adapt``: **missing bands are left out, not filled**.

    The pretraining mapped mean - 2 std of each band to 0 and mean + 2 std to 1. Channels arrive standardised here, and
    ``prepared`` does the rest; with ``plan.mean`` and ``plan.std`` of the pretraining, which the account of weights
    prints where they differ from the data's, values are those of the pretraining.

    Attributes:
        groups: Of the data's kind, in the order of the tokens.
        places: Channels of the data by group, of those that there are.
        net: The upstream's network.
        size: As asked for.

    Args:
        spec: Data and plan.
        groups: All that the family has for data of this kind.
        settings: See ``PlainViT``.

    Raises:
        InputError: Volumes; a channel of which the family has no kind.
    """

    family: ClassVar[str]
    """Its name in ``conf/model/encoder``."""
    preparation: ClassVar[str] = PREPARATION
    """How images were prepared for the weights, in words; empty where mean and std say it all."""
    stem_layout: ClassVar[Literal["first", "last"]] = "first"
    """Whether flattened patches hold their channels first or last, where kernels are linear."""
    net: Any
    size: str

    def __init__(self, spec: ModelSpec, groups: Sequence[Group], **settings: Any) -> None:
        super().__init__(spec, name=self.family, **settings)
        self.groups = tuple(groups)
        self.places = assign(groups, self.channels, self.family)

    @property
    @abstractmethod
    def stems(self) -> Mapping[str, str]:
        """Name in ``trunk`` of the kernel of each group that there is."""

    @property
    def files(self) -> Mapping[str, str]:
        """Published files on the hub, by size; see ``Published``."""
        return {}

    @property
    def trunk(self) -> nn.Module:
        """The upstream's network, of the groups that there are."""
        return self.net

    @property
    def stem(self) -> tuple[str, ...]:
        """The kernel of each group."""
        return tuple(self.stems.values())

    def prepared(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Standardised channels as the weights know them."""
        return image / 4 + 0.5

    def fetch(self, source: str) -> Pretrained:
        """A file, or what is published; see ``Published``."""
        seen = of_groups(self.groups, list(self.places))
        about = Published(self.files, seen.channels, seen.mean, seen.std, scale=1.0, normalisation=self.preparation)
        return about.fetch(source, self.size)

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """As of every encoder; each group's kernel has channels of its own."""
        if self.loading.weights is None:
            return None
        file = self.loading.describe(self.fetch(str(self.loading.weights)))
        return load.load(
            self.trunk,
            file.with_state(self.rename(file.state)),
            stem=self.stem,
            channels=self.channels,
            options=self.loading,
            statistics=statistics,
            stem_layout=self.stem_layout,
            inputs=self._inputs(file),
            left_out=self.left_out,
        )

    def _inputs(self, file: Pretrained) -> dict[str, Inputs]:
        """Channels of each kernel, of the weights and of the data."""
        trained = assign(self.groups, file.channels, self.family)
        return {
            name: Inputs(
                tuple(file.channels[i] for i in trained.get(group, ())),
                tuple(self.channels[i] for i in self.places[group]),
            )
            for group, name in self.stems.items()
        }

    def of_group(self, image: Float[Tensor, "b c h w"], group: str) -> Float[Tensor, "b k h w"]:
        """The channels of a group."""
        return image[:, list(self.places[group])]

    def finish(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        """A feature: tokens normalised by the last layer, then their mean over the groups of each place."""
        ahead, placed = self.net.norm(tokens).tensor_split([self.features[0].prefix], dim=1)
        return torch.cat((ahead, self.pooled(placed.unflatten(1, (len(self.places), -1)))), dim=1)

    def pooled(self, tokens: Float[Tensor, "b g n d"]) -> Float[Tensor, "b n d"]:
        """Mean over the groups."""
        return tokens.mean(dim=1)
