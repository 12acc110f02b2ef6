"""TerraMind: one transformer for tokens of several modalities of the same place, by its published names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.earth.grouped_vit import GroupedViT
from medseg.models.earth.groups import Group, assign
from medseg.models.encoders.vit import Size, sine_positions, sized
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.sensors.bands import bands_of
from medseg.weights.bands import colour, plain

SIZES = {"tiny": Size(192, 12, 3), "small": Size(384, 12, 6), "base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
GATED = ("base", "large")
"""Sizes whose layers between attentions are gated, and have no offsets."""
PATCH, GRID = 16, 14
"""Cells of a patch, and places of the positions, on each axis: of images of 224 cells."""
MERGES = ("mean", "max", "concat")
_S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
MODALITIES = {
    "S2L2A": Group(
        "untok_sen2l2a@224",
        bands_of([band for band in _S2 if band != "B10"], "sentinel-2"),
        (1390.458, 1503.317, 1718.197, 1853.91, 2199.1, 2779.975, 2987.011, 3083.234, 3132.22, 3162.988, 2424.884,
         1857.648),
        (2106.761, 2141.107, 2038.973, 2134.138, 2085.321, 1889.926, 1820.257, 1871.918, 1753.829, 1797.379, 1434.261,
         1334.311),
    ),
    "S2L1C": Group(
        "untok_sen2l1c@224",
        bands_of(_S2, "sentinel-2"),
        (2357.089, 2137.385, 2018.788, 2082.986, 2295.651, 2854.537, 3122.849, 3040.56, 3306.481, 1473.847, 506.07,
         2472.825, 1838.929),
        (1624.683, 1675.806, 1557.708, 1833.702, 1823.738, 1733.977, 1732.131, 1679.732, 1727.26, 1024.687, 442.165,
         1331.411, 1160.419),
    ),
    "RGB": Group(
        "untok_sen2rgb@224", (Channel("R"), Channel("G"), Channel("B")),
        (87.271, 80.931, 66.667), (58.767, 47.663, 42.631),
    ),
    "S1GRD": Group("untok_sen1grd@224", (Channel("VV"), Channel("VH")), (-12.599, -20.293), (5.195, 5.890)),
    "S1RTC": Group("untok_sen1rtc@224", (Channel("VV"), Channel("VH")), (-10.93, -17.329), (4.391, 4.459)),
    "DEM": Group("untok_dem@224", (Channel("DEM"),), (670.665,), (951.272,)),
}  # fmt: skip
"""Modalities of pixels, with mean and std of TerraMesh: reflectance x 10,000, 8 bits, decibels, metres."""
OPTICAL, RADAR = ("S2L2A", "S2L1C", "RGB"), ("S1GRD", "S1RTC")
_OFFSET = re.compile(r"norm\d?\.bias$")


class TerraMind(GroupedViT):
    """TerraMind 1.0: Sentinel-2, Sentinel-1 and elevation, by the names of the channels; 2D only.

    Each modality has a token for each patch; those of all modalities attend to each other. A feature is their mean at
    each place, their maximum, or all side by side; it has no class token. The feature of the last block is normalised
    by the last layer. Positions are sines, stretched from a grid of 14 x 14 to that of the image.

    Which bands of Sentinel-2 and which product of Sentinel-1 the data has, their names do not say: see ``optical`` and
    ``radar``. Land cover, vegetation index, coordinates and captions are modalities of whole numbers, which the
    authors' tokenizers make; they are not taken.

    Args:
        spec: Data and plan.
        size: ``tiny``, ``small``, ``base`` or ``large``, all published.
        optical: ``S2L2A`` (reflectance at the ground), ``S2L1C`` (at the top of the atmosphere) or ``RGB`` (8 bits);
            None for RGB of red, green and blue without wavelengths, S2L1C where there is cirrus (B10), else S2L2A.
        radar: ``S1GRD`` or ``S1RTC`` (corrected for terrain), in decibels.
        merge: ``mean``, ``max`` or ``concat``.
        embed_dim: Numbers in a token instead of the size's; a multiple of 4.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        settings: See ``PlainViT``; ``pretrained`` weights are those of the authors on the hub of Hugging Face.

    Raises:
        InputError: Volumes, an unknown size, modality or merge, or a channel of no modality.

    References:
        Jakubik et al., TerraMind: Large-Scale Generative Multimodality for Earth Observation, 2025.
    """

    family = "terramind"
    preparation = ""
    stem_layout = "last"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        optical: str | None = None,
        radar: str = "S1GRD",
        merge: str = "mean",
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        **settings: Any,
    ) -> None:
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        optical = optical or optical_kind(spec.channels)
        _check("optical", optical, OPTICAL)
        _check("radar", radar, RADAR)
        _check("merge", merge, MERGES)
        if shape.embed_dim % 4:
            raise InputError(f"model.encoder.embed_dim={shape.embed_dim}: expected a multiple of 4")
        groups = [MODALITIES[name] for name in (optical, radar, "DEM")]
        count = len(assign(groups, spec.channels, self.family)) if merge == "concat" else 1
        super().__init__(
            spec, groups, width=shape.embed_dim * count, depth=shape.depth, patch=PATCH, prefix=0, **settings
        )
        self.size, self.merge = size, merge
        counts = {name: len(places) for name, places in self.places.items()}
        last = self.depths[-1] + 1
        self.net: Any = _Net(shape._replace(depth=last), counts, gated=size in GATED, normalised=last == shape.depth)

    @property
    def stems(self) -> Mapping[str, str]:
        """The linear layer of each modality, on patches whose channels come last."""
        return {name: f"encoder_embeddings.{name}.proj.weight" for name in self.places}

    @property
    def files(self) -> Mapping[str, str]:
        """The authors' files."""
        return {size: f"hf-hub:ibm-esa-geospatial/TerraMind-1.0-{size}/TerraMind_v1_{size}.pt" for size in SIZES}

    def left_out(self, name: str) -> bool:
        """Blocks after the last feature, and modalities that the data has not."""
        block = re.match(r"encoder\.(\d+)\.", name)
        return name.startswith("encoder_embeddings.") or (block is not None and int(block[1]) < (self.full_depth or 0))

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without positions, which were computed, and without the offsets of normalisation, which are 0."""
        return {
            key: tensor
            for key, tensor in state.items()
            if not key.endswith("pos_emb") and not (_OFFSET.search(key) and not tensor.any())
        }

    def prepared(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Standardised channels are what the weights know."""
        return image

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Tokens of all places of the first modality, then of the next."""
        tokens = []
        positions = self._positions(self.grid(image), image.device)
        for name in self.places:
            embedding = self.net.encoder_embeddings[name]
            patches = self.of_group(image, name).unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # [b, c, h, w, p, p]
            placed = embedding.proj(patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2))
            tokens.append(placed + (positions + embedding.mod_emb).to(placed.dtype))
        return torch.cat(tokens, dim=1)

    def _positions(self, grid: tuple[int, int], device: torch.device) -> Float[Tensor, "1 n d"]:
        """Sines of row and then column on the grid of the weights, stretched to that of the image."""
        width = self.net.width
        places = torch.arange(GRID, dtype=torch.float32, device=device)
        trained = sine_positions(width, places, places).roll(width // 2, dims=1)  # rows ahead of columns
        if grid == (GRID, GRID):
            return trained[None]
        planes = trained.unflatten(0, (GRID, GRID)).permute(2, 0, 1)[None]
        return functional.interpolate(planes, grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)

    def layers(self, image: Float[Tensor, "b c h w"]) -> Iterable[Callable[[Tensor], Tensor]]:
        """The blocks in order; the last normalisation belongs to the last of them."""
        del image
        *blocks, last = self.net.encoder
        return [*blocks, nn.Sequential(last, self.net.encoder_norm)]

    def finish(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b m e"]:
        """Tokens of all modalities at each place as one."""
        by_modality = tokens.unflatten(1, (len(self.places), -1))
        if self.merge == "concat":
            return by_modality.transpose(1, 2).flatten(2)
        return by_modality.mean(1) if self.merge == "mean" else by_modality.amax(1)


def optical_kind(channels: Sequence[Channel]) -> str:
    """Which optical modality the channels are of, as far as their names and wavelengths say it.

    Example:
        >>> kinds = [("R", "G", "B", "DEM"), ("B4", "B10"), ("VV", "B4", "B3", "B2")]
        >>> [optical_kind([Channel(name) for name in names]) for names in kinds]
        ['RGB', 'S2L1C', 'S2L2A']
    """
    if any(plain(c.band) in ("B10", "CIRRUS") for c in channels):
        return "S2L1C"
    words = {colour(c) for c in channels if not re.match(r"B\d", plain(c.band))} - {None}
    spectral = any(c.wavelength_nm is not None for c in channels)
    return "RGB" if words == {"red", "green", "blue"} and not spectral else "S2L2A"


def _check(key: str, value: str, known: Sequence[str]) -> None:
    """Raise unless a setting has one of its values."""
    if value not in known:
        raise InputError(f"model.encoder.{key}={value}: expected {', '.join(known[:-1])} or {known[-1]}")


class _Net(nn.Module):
    """The parameters, under the names of the authors, of the modalities that there are.

    Args:
        size: With only the blocks that features depend on.
        counts: Channels of each modality.
        gated: See ``GATED``.
        normalised: Whether the last feature is that of the last block.
    """

    def __init__(self, size: Size, counts: Mapping[str, int], *, gated: bool, normalised: bool) -> None:
        super().__init__()
        self.width = size.embed_dim
        self.encoder_embeddings = nn.ModuleDict(
            {name: _Embedding(count, size.embed_dim) for name, count in counts.items()}
        )
        norm = partial(nn.LayerNorm, eps=1e-6, bias=False)
        further: dict[str, Any] = {"proj_bias": False, "mlp_layer": _Gated} if gated else {}
        self.encoder = nn.ModuleList(
            Block(size.embed_dim, size.num_heads, qkv_bias=not gated, norm_layer=norm, **further)
            for _ in range(size.depth)
        )
        self.encoder_norm = norm(size.embed_dim) if normalised else nn.Identity()


class _Embedding(nn.Module):
    """Patches of a modality as tokens, and what says which modality they are of."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels * PATCH**2, width, bias=False)
        self.mod_emb = nn.Parameter(0.02 * torch.randn(1, 1, width))


class _Gated(nn.Module):
    """SwiGLU: a layer times another one after SiLU, with two thirds of the numbers so that as many are learned.

    Args:
        in_features: Numbers in a token.
        hidden_features: Numbers between the layers, were there two of them.
        others: Of timm's layers of this kind; not used.
    """

    def __init__(self, in_features: int, hidden_features: int, **others: Any) -> None:
        super().__init__()
        del others
        hidden = 2 * hidden_features // 3
        self.fc1, self.fc3 = (nn.Linear(in_features, hidden, bias=False) for _ in range(2))
        self.fc2 = nn.Linear(hidden, in_features, bias=False)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens, each by itself."""
        return self.fc2(functional.silu(self.fc1(tokens)) * self.fc3(tokens))
