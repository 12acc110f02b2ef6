"""Galileo: a vision transformer over groups of bands of Sentinel-1 and Sentinel-2, vegetation index and terrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.earth import quarters
from medseg.models.earth.blocks import Block
from medseg.models.earth.dated_vit import DatedViT
from medseg.models.earth.groups import group
from medseg.models.encoders.vit import Size, sized
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.sensors.bands import bands_of

SIZES = {"nano": Size(128, 4, 8), "tiny": Size(192, 12, 3), "base": Size(768, 12, 12)}
BASE = 8
"""Cells of the published kernels on each axis."""
_STATISTICS = {
    "VV": (-11.7287, 4.8871), "VH": (-18.8556, 5.7303), "B2": (1395.34, 917.704), "B3": (1338.40, 913.299),
    "B4": (1343.10, 1092.68), "B5": (1543.86, 1047.22), "B6": (2186.20, 1048.01), "B7": (2525.09, 1143.69),
    "B8": (2410.34, 1098.98), "B8A": (2750.29, 1204.47), "B11": (2234.91, 1145.98), "B12": (1474.53, 980.243),
    "NDVI": (0.289212, 0.272094), "elevation": (673.015, 983.07), "slope": (5.93009, 8.16741),
}  # fmt: skip
"""Mean and std of each band in the pretraining; radar in dB, reflectances times 10,000, metres, degrees."""
_OF_DATES = {
    "S1": ("VV", "VH"), "S2_RGB": ("B2", "B3", "B4"), "S2_Red_Edge": ("B5", "B6", "B7"), "S2_NIR_10m": ("B8",),
    "S2_NIR_20m": ("B8A",), "S2_SWIR": ("B11", "B12"), "NDVI": ("NDVI",),
}  # fmt: skip
_OF_PLACES = {"SRTM": ("elevation", "slope"), "DW": (), "WC": ()}
"""Groups that are the same on all dates; of Dynamic World and WorldCereal, only the number is of use here."""
GROUPS = tuple(
    group(
        name,
        [Channel(b) if b in ("NDVI", "elevation", "slope") else bands_of([b], "sentinel-2")[0] for b in bands],
        _STATISTICS,
    )
    for name, bands in (_OF_DATES | _OF_PLACES).items()
    if bands
)
_RAW = "NDVI"
"""The group whose values the pretraining left as they are."""


class Galileo(DatedViT):
    """Galileo: any of Sentinel-1 (dB), Sentinel-2, ``NDVI``, ``elevation`` and ``slope``; 2D only.

    A token each for radar, visible, red edge, the two near infrared and short-wave infrared bands, the vegetation
    index and the terrain. Patches have 1 to 8 cells; for less than 8 the kernels are resampled (FlexiViT), as upstream
    does. Places are encoded by their distance on the ground, so that any shape is taken. One date, or with
    ``temporal=native`` a series. Upstream's weather, maps of land cover and location have no place here.

    A feature is the mean over the tokens of a place, of all dates, normalised by the last layer.

    Args:
        spec: Data and plan.
        size: ``nano``, ``tiny`` or ``base``, all published.
        patch: Cells of a patch on each axis.
        month: Of single images, from 1 to 12.
        cell_m: Cells on the ground, in metres; None for the spacing of the data.
        embed_dim: Numbers in a token instead of the size's; a multiple of 16.
        depth: Blocks instead of the size's.
        num_heads: Heads of attention instead of the size's.
        settings: See ``PlainViT``; for ``weights``, ``pretrained`` are those of the authors on the hub.

    Raises:
        InputError: Volumes, an unknown size or band, a patch or month out of range.

    References:
        Tseng et al., Galileo: Learning Global and Local Features in Pretrained Remote Sensing Models, 2025;
        Beyer et al., FlexiViT: One Model for All Patch Sizes, 2023.
    """

    family = "galileo"
    static = _OF_PLACES

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        patch: int = 4,
        month: int = 7,
        cell_m: float | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        **settings: Any,
    ) -> None:
        if not 1 <= patch <= BASE:
            raise InputError(f"model.encoder.patch={patch}: expected 1 to {BASE} cells")
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        size_of = {"width": shape.embed_dim, "depth": shape.depth}
        super().__init__(spec, GROUPS, patch=patch, month=month, cell_m=cell_m, **size_of, **settings)
        self.size = size
        counts = {name: len(places) for name, places in self.places.items()}
        self.net: Any = _Net(shape._replace(depth=self.depths[-1] + 1), counts)
        self.register_buffer("resample", resampling(patch), persistent=False)

    @property
    def stems(self) -> Mapping[str, str]:
        """The kernel of each group."""
        return {name: f"{_room(name)}.{name}.proj.weight" for name in self.places}

    @property
    def files(self) -> Mapping[str, str]:
        """Of the authors."""
        return {size: f"hf-hub:nasaharvest/galileo/models/{size}/encoder.pt" for size in SIZES}

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the positions of dates, which were computed; some files have one more part in each name."""
        return {key.replace(".backbone", ""): t for key, t in state.items() if not key.endswith("pos_embed")}

    def patches(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b g n d"]:
        """Tokens of each group at each place of single images."""
        return torch.stack([self._patches(image, name) for name in self.places], dim=1)

    def _patches(self, image: Float[Tensor, "b c h w"], name: str) -> Float[Tensor, "b n d"]:
        """Tokens of one group, by its kernel in the size of the patch."""
        values = self.of_group(image, name)
        if name == _RAW:
            mean, std = _STATISTICS[_RAW]
            values = values * std + mean
        else:
            values = self.prepared(values)
        layer, patch = self.net.get_submodule(_room(name))[name].proj, self.divisor[0]
        kernel = (layer.weight.flatten(2) @ self.resample.to(layer.weight)).unflatten(2, (patch, patch))
        return functional.conv2d(values, kernel, layer.bias, stride=patch).flatten(2).transpose(1, 2)

    def encoding(self, grid: Sequence[int], months: Int[Tensor, "b t"]) -> Float[Tensor, "b t g n d"]:
        """Of group, date, month and place; what is the same on all dates has neither number of date nor month."""
        net = self.net
        by_month = net.month_embed.weight[months]
        by_place = quarters.of_places(grid, self.steps, by_month.shape[-1], months.device)
        dated = [net.s_t_channel_embed[i] for i, name in enumerate(_OF_DATES) if name in self.places]
        placed = [net.sp_channel_embed[i] for i, name in enumerate(_OF_PLACES) if name in self.places]
        parts = [quarters.encoding(torch.stack(dated), by_month, by_place)] if dated else []
        if placed:
            never = torch.zeros_like(by_month)
            parts.append(quarters.encoding(torch.stack(placed), never, by_place, slots=False))
        return torch.cat(parts, dim=2)


class _Net(nn.Module):
    """The upstream's encoder under its own names, of the groups that there are.

    Args:
        size: With only the blocks that features depend on.
        counts: Channels of each group.
    """

    def __init__(self, size: Size, counts: Mapping[str, int]) -> None:
        super().__init__()
        width = size.embed_dim
        self.blocks = nn.ModuleList(Block(width, size.num_heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width)
        self.month_embed = quarters.Months(width // 4)
        for room, learned, names in (
            ("space_time_embed", "s_t_channel_embed", _OF_DATES),
            ("space_embed", "sp_channel_embed", _OF_PLACES),
        ):
            used = [name for name in names if name in counts]
            if used:
                self.register_parameter(learned, nn.Parameter(0.02 * torch.randn(len(names), width // 4)))
                kernels = {name: nn.ModuleDict({"proj": nn.Conv2d(counts[name], width, BASE, BASE)}) for name in used}
                self.add_module(room, nn.ModuleDict(kernels))


def resampling(patch: int) -> Float[Tensor, "k p"]:
    """What makes flattened kernels of ``BASE`` cells into those of patches of another size.

    It is the transposed pseudo-inverse of the resizing of images, so that a resized patch and the resampled kernel
    give what patch and kernel gave, as near as can be.
    """
    cells = torch.eye(BASE**2, device="cpu").view(BASE**2, 1, BASE, BASE)
    if patch == BASE:
        return cells.flatten(1)
    resized = functional.interpolate(cells, (patch, patch), mode="bicubic", antialias=True).flatten(1)
    return torch.linalg.pinv(resized).transpose(0, 1)


def _room(name: str) -> str:
    return "space_time_embed" if name in _OF_DATES else "space_embed"
