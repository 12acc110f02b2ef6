"""Croma: vision transformers for radar and for optical images, and one that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchgeo.models.croma import CROMA

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.vit import Size, choose, sized
from medseg.models.network import ModelSpec
from medseg.models.torchgeo import bands
from medseg.models.torchgeo.weights import fetch_published
from medseg.sample import Channel
from medseg.sensors.radar import polarisation
from medseg.weights import load
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report

HEADS = 16
"""Of attention, in every size: torchgeo's transformers of one modality have no others."""
SIZES = {"base": Size(768, 12, HEADS), "large": Size(1024, 24, HEADS)}
PUBLISHED = {"base": "CROMABase_Weights.CROMA_VIT", "large": "CROMALarge_Weights.CROMA_VIT"}
PATCH = 8
_PARTS = {"radar": "s1_encoder", "optical": "s2_encoder"}
_JOINT = "joint_encoder"
_PREPARATION = "mean - 2 std of each channel to 0, mean + 2 std to 1, clipped"
TRAINED = {
    "radar": (Channel("VV"), Channel("VH")),
    "optical": tuple(Channel(n, wavelength_nm=nm) for n, nm in bands.SENSORS["SENTINEL2"].items() if n != "B10"),
}
"""Channels of the weights of each modality, in order."""


class Croma(Encoder):
    """CROMA: transformers of Sentinel-1, of Sentinel-2, or of both and their cross-attention; 2D only.

    Channels called ``VV``, ``VH``, ``HV`` or ``HH`` (``VV_dB``, ...) are radar, all others optical; which
    transformers are built follows from what there is. Each takes any channels: the first layer of the weights,
    of 2 and of 12 bands (all of Sentinel-2 but B10), is fitted to them by ``adapt`` like a first kernel, so
    that **missing bands are left out, not filled**. Features are those of the modality's transformer, or, of
    both, of the one that joins them (whose tokens are the radar's); no class token, and no learned positions:
    attention falls with distance in patches, on a grid of any shape. It is written out, so that memory grows with
    the square of the patches: 16 heads on 256 x 256 cells take 67 MB in each block, for each image.

    The weights were trained on images whose channels were mapped so that mean - 2 std is 0 and mean + 2 std is
    1, and clipped: ``plan.mean`` and ``plan.std`` of mean - 2 std and 4 std come near.

    Args:
        spec: Data and plan.
        size: ``base`` or ``large``, both published.
        embed_dim: Numbers in a token instead of the size's; a multiple of 16.
        depth: Blocks of the optical transformer, likewise; the others have half as many.
        indices: Blocks after which features are taken; None for four evenly spaced. Each is normalised by the
            last layer.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` are torchgeo's.

    Raises:
        InputError: Volumes, an unknown size, or a width that the heads can't share.

    References:
        Fuller et al., CROMA: Remote Sensing Representations with Contrastive Radar-Optical Masked Autoencoders, 2023.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        embed_dim: int | None = None,
        depth: int | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        check_axes("encoder croma", self.ndims, spec)
        chosen = sized(SIZES, size, embed_dim, depth, HEADS)
        if chosen.embed_dim % HEADS:
            raise InputError(f"model.encoder.embed_dim={chosen.embed_dim}: expected a multiple of {HEADS}")
        places = split(spec.channels) or {"optical": tuple(range(spec.in_channels))}
        depths = choose(chosen.depth if "radar" not in places else chosen.depth // 2, indices)
        features = [Feature(chosen.embed_dim, (PATCH, PATCH), tokens=True)] * len(depths)
        super().__init__(spec, features, (PATCH, PATCH), **loading)
        self.size, self.places, self.depths = size, places, depths
        self.net: Any = _build(chosen, places)
        self._last.layers = self._last.layers[: depths[-1] + 1]
        self.full_depth = chosen.depth

    @property
    def trunk(self) -> nn.Module:
        """The ``CROMA`` of torchgeo, without what pools an image to one vector."""
        return self.net

    @property
    def stem(self) -> str | tuple[str, ...] | None:
        """The first layer of each modality's transformer, which takes flattened patches, channels first."""
        names = tuple(f"{_PARTS[modality]}.linear_input.weight" for modality in self.places)
        return names if len(names) > 1 else names[0]

    @property
    def _last(self) -> Any:
        """The transformer that gives the features."""
        *_, name = self.parts
        return self.net.get_submodule(name if name == _JOINT else f"{name}.transformer")

    @property
    def parts(self) -> dict[str, str]:
        """Names of the transformers in ``trunk``, each with its modality, which is empty for the joining one."""
        own = {_PARTS[modality]: modality for modality in self.places}
        return own if len(own) == 1 else own | {_JOINT: ""}

    def fetch(self, source: str) -> Pretrained:
        """A file, or torchgeo's weights; names begin with those of the transformers, which the file may nest."""
        found = fetch_published(source, PUBLISHED, self.size, _PREPARATION)
        if any(f"{name}." in key for key in found.state for name in self.parts):
            return found
        nested = {name: read(f"{source}::{name}").state for name in self.parts}
        return found.with_state({f"{name}.{key}": t for name, state in nested.items() for key, t in state.items()})

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of each transformer by itself, since each has channels of its own; one account of all."""
        del statistics  # of the images that the weights were trained on, nothing is known to compare
        if self.loading.weights is None:
            return None
        found = self.fetch(str(self.loading.weights))
        reports = {
            name: load.load(
                self.net.get_submodule(name),
                _part(found, name, modality),
                stem="linear_input.weight" if modality else None,
                channels=[self.channels[i] for i in self.places[modality]] if modality else (),
                options=self.loading,
                left_out=self.left_out,
            )
            for name, modality in self.parts.items()
        }
        return _of_all(found, reports)

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        bias = distance_bias(image.shape[2] // PATCH, image.shape[3] // PATCH, image.device)
        seen = {modality: self._patches(image, modality) for modality in self.places}
        if len(seen) == 1:
            return self._through(next(iter(seen.values())), bias, None)
        radar, optical = (
            self.net.get_submodule(_PARTS[modality]).transformer(tokens, bias) for modality, tokens in seen.items()
        )
        return self._through(radar, bias, optical)

    def _patches(self, image: Tensor, modality: str) -> Float[Tensor, "b n d"]:
        """Tokens of the channels of a modality; a patch is flattened with its channels first."""
        taken = image[:, list(self.places[modality])]
        patches = nn.functional.unfold(taken, PATCH, stride=PATCH).transpose(1, 2)
        return self.net.get_submodule(_PARTS[modality]).linear_input(patches)

    def _through(self, tokens: Tensor, bias: Tensor, context: Tensor | None) -> list[Tensor]:
        """Features of the last transformer; ``context`` is what the joining one attends to."""
        kept = []
        for depth, (attend, *others, feed) in enumerate(self._last.layers):
            tokens = tokens + attend(tokens, bias)
            for cross in others:
                tokens = tokens + cross(tokens, context, bias)
            tokens = tokens + feed(tokens)
            if depth in self.depths:
                kept.append(self._last.norm_out(tokens))
        return kept


def split(channels: Sequence[Channel]) -> dict[str, tuple[int, ...]]:
    """Places of the radar and of the optical channels; only modalities that there are.

    Example:
        >>> split([Channel("B2"), Channel("VV"), Channel("B3")])
        {'radar': (1,), 'optical': (0, 2)}
    """
    radar = tuple(i for i, channel in enumerate(channels) if polarisation(channel.band))
    optical = tuple(i for i in range(len(channels)) if i not in radar)
    return {name: places for name, places in (("radar", radar), ("optical", optical)) if places}


def distance_bias(rows: int, columns: int, device: torch.device) -> Float[Tensor, "1 16 n n"]:
    r"""What attention loses with distance, for each head: :math:`-2^{-h / 2} |p - q|`, h from 1, distance in patches.

    Args:
        rows: Patches along the first axis.
        columns: Patches along the second.
        device: Where it is needed.

    References:
        Press et al., Train Short, Test Long (ALiBi), 2022, in two dimensions.
    """
    places = torch.cartesian_prod(
        torch.arange(rows, dtype=torch.float32, device=device),
        torch.arange(columns, dtype=torch.float32, device=device),
    )
    slopes = 2 ** (-8 / HEADS * torch.arange(1, HEADS + 1, dtype=torch.float32, device=device))
    return -slopes[None, :, None, None] * torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")


def _build(size: Size, places: Mapping[str, Sequence[int]]) -> object:
    """The ``CROMA`` of torchgeo for the channels there are."""
    modalities = ["sar" if modality == "radar" else modality for modality in places]
    net = CROMA(modalities, size.embed_dim, size.depth, HEADS, PATCH, image_size=PATCH)
    for modality, taken in places.items():
        net.get_submodule(_PARTS[modality]).linear_input = nn.Linear(len(taken) * PATCH**2, size.embed_dim)
    for name in ("s1_GAP_FFN", "s2_GAP_FFN", "attn_bias"):  # the bias is computed for the grid in each pass
        if hasattr(net, name):
            delattr(net, name)
    return net


def _of_all(found: Pretrained, reports: Mapping[str, Report]) -> Report:
    """One account of the accounts of several parts, by their names."""
    return Report(
        found.source,
        tuple(replace(row, name=f"{name}.{row.name}") for name, report in reports.items() for row in report.rows),
        channels=tuple(pair for report in reports.values() for pair in report.channels),
        warnings=tuple(f"{name}: {line}" for name, report in reports.items() for line in report.warnings),
        normalisation=found.normalisation,
    )


def _part(found: Pretrained, name: str, modality: str) -> Pretrained:
    """The tensors of one transformer, and the channels that it was trained on."""
    state = {key.partition(f"{name}.")[2]: tensor for key, tensor in found.state.items() if f"{name}." in key}
    channels = TRAINED.get(modality, ())
    if found.channels:  # of a training with medseg
        channels = tuple(found.channels[i] for i in split(found.channels).get(modality, ()))
    return replace(found, state=state, channels=channels, mean=(), std=())
