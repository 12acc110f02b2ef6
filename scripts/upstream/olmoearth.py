"""OlmoEarth of olmoearth-pretrain, in its versions, on each sensor and on two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from olmoearth_pretrain.datatypes import MaskedOlmoEarthSample, MaskValue
from olmoearth_pretrain.nn.flexi_vit import EncoderConfig
from olmoearth_pretrain.nn.pooling import PoolingType, pool_spatially
from olmoearth_pretrain.nn.tokenization import ModalityTokenization, TokenizationConfig
from torch import Tensor

from medseg.models.earth.olmoearth import SIZES, groups_of

_MODALITIES = ("sentinel2_l2a", "sentinel1", "landsat", "worldcover", "srtm", "openstreetmap_raster",
               "wri_canopy_height_map", "cdl", "worldcereal")  # fmt: skip
_CASES = (
    ("v1", "nano", ("sentinel2_l2a",), 8, (32, 64)),
    ("v1", "tiny", ("sentinel2_l2a", "sentinel1"), 4, (16, 24)),
    ("v1", "nano", ("landsat",), 2, (16, 8)),
    ("v1", "base", ("sentinel1",), 8, (32, 64)),
    ("v1.1", "nano", ("sentinel2_l2a", "sentinel1"), 4, (16, 24)),
    ("v1.1", "tiny", ("landsat",), 8, (32, 64)),
    ("v1.2", "nano", ("sentinel2_l2a", "sentinel1"), 4, (16, 24)),
    ("v1.2", "small", ("sentinel2_l2a",), 8, (32, 64)),
)


def _upstream(version: str, size: str) -> Any:
    """With the settings that its official scripts have."""
    width, depth, heads = SIZES[size]
    single = {
        modality: ModalityTokenization(band_groups=[[_spelt(modality, c.name) for c in one.channels]])
        for modality in ("sentinel2_l2a", "landsat")
        for one in groups_of(modality, version)
    }
    later = {"tokenization_config": TokenizationConfig(overrides=single)} if version != "v1" else {}
    hidden = {"patch_embed_hidden_sizes": [12 if size == "nano" else 64]} if version != "v1" else {}
    turning = {
        "position_encoding": "rope_3d_mixed",
        "rope_mixed_base": 10000.0,
        "rope_temporal_coordinate_scale": 1 / 30,
    }
    config = EncoderConfig(
        supported_modality_names=list(_MODALITIES),
        embedding_size=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=4.0,
        use_linear_patch_embed=version != "v1",
        **later,
        **hidden,
        **(turning if version == "v1.2" else {}),
    )
    return drawn(config.build())


def _spelt(modality: str, name: str) -> str:
    digits = name.removeprefix("B")
    return f"B{digits.zfill(2)}" if modality == "sentinel2_l2a" else name


def _pooled(net: Any, values: dict[str, Tensor], patch: int, dates: int) -> Tensor:
    """What upstream gives for images in [0, 1], cells of 10 m: the mean at each place.

    Dates are the 15th of July and of the months after it; upstream counts months from 0.
    """
    fields = {}
    for modality, image in values.items():
        fields[modality] = image.unflatten(1, (dates, -1)).permute(0, 3, 4, 1, 2)
        sets = net.tokenization_config.get_num_bandsets(modality)
        fields[f"{modality}_mask"] = torch.full((*fields[modality].shape[:-1], sets), MaskValue.ONLINE_ENCODER.value)
    when = torch.tensor([[[15, 6 + i, 2023] for i in range(dates)]]).expand(2, -1, -1)
    with torch.no_grad():
        given = net(MaskedOlmoEarthSample(timestamps=when, **fields), patch_size=patch, fast_pass=True)
    return pool_spatially(given["tokens_and_masks"], PoolingType.MEAN).flatten(1, 2)


def rows() -> Iterator[Row]:
    """Each version, and each sensor; and series of dates."""
    for case in _CASES:
        yield _row(*case)
    for version in ("v1", "v1.1", "v1.2"):
        yield _row(version, "nano", ("sentinel2_l2a", "sentinel1"), 4, (16, 24), dates=3)


def _row(version: str, size: str, modalities: Sequence[str], patch: int, shape: tuple[int, int], dates: int = 1) -> Row:
    net = _upstream(version, size)
    channels = [c for modality in modalities for g in groups_of(modality, version) for c in g.channels]
    state = {f"encoder.{name}": tensor for name, tensor in net.state_dict().items()}
    settings = {"size": size, "version": version, "patch": patch}
    encoder: Any = build("olmoearth", of_channels(channels * dates, shape, dates), settings, state)
    image = noise(2, len(channels) * dates, *shape)
    days = torch.tensor([[date(2023, 7 + i, 15).toordinal() - date(1970, 1, 1).toordinal() for i in range(dates)]])
    with torch.no_grad():
        ours = encoder(image, days=days.expand(2, -1))[-1:]
    expected = _pooled(net, _split(image / 4 + 0.5, modalities, version, dates), patch, dates)
    series = f", {dates} dates" if dates > 1 else ""
    labels = ("olmoearth", f"{version} {size}", f"last feature, patch of {patch}{series}", " + ".join(modalities))
    return compare(labels, shape, ours, [expected])


def _split(image: Tensor, modalities: Sequence[str], version: str, dates: int) -> dict[str, Tensor]:
    counts = [sum(len(g.channels) for g in groups_of(modality, version)) for modality in modalities]
    parts = image.unflatten(1, (dates, -1)).split(counts, dim=2)
    return {modality: part.flatten(1, 2) for modality, part in zip(modalities, parts, strict=True)}
