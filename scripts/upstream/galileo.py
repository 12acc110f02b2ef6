"""Galileo: the authors' file ``single_file_galileo.py``, whose folder GALILEO names; and their nano weights, if there.

GALILEO is a folder with that file of github.com/nasaharvest/galileo and, if wanted, ``encoder.pt`` of data/models/nano.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from torch import Tensor

from medseg.models.earth.galileo import GROUPS, SIZES
from medseg.models.earth.groups import of_groups

_SPACE_TIME = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "NDVI")
_SENTINEL2 = ("S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR")
_CASES: Sequence[tuple[str, Sequence[str], int, tuple[int, int]]] = (
    ("nano", _SENTINEL2, 8, (32, 32)),
    ("tiny", ("S1", *_SENTINEL2, "NDVI"), 4, (24, 24)),
    ("nano", ("S1", *_SENTINEL2, "SRTM"), 2, (16, 16)),
    ("base", ("S1",), 8, (48, 48)),
)


def _source() -> Any:
    folder = Path(os.environ.get("GALILEO", "."))
    spec = importlib.util.spec_from_file_location("single_file_galileo", folder / "single_file_galileo.py")
    if spec is None or spec.loader is None or not (folder / "single_file_galileo.py").is_file():
        raise ModuleNotFoundError("no GALILEO/single_file_galileo.py", name="single_file_galileo.py in GALILEO")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _mean(net: Any, source: Any, image: Tensor, names: Sequence[str], groups: Sequence[str], patch: int) -> Tensor:
    """What upstream gives: the mean of the tokens at each place; July, cells of 10 m."""
    b, _, h, w = image.shape
    by_name = dict(zip(names, image.movedim(1, 0), strict=True))
    empty = torch.zeros(b, h, w)
    dated = torch.stack([by_name.get(name, empty) for name in _SPACE_TIME], dim=-1)[:, :, :, None]
    placed = torch.zeros(b, h, w, len(source.SPACE_BANDS))
    for i, name in enumerate(("elevation", "slope")):
        placed[..., i] = by_name.get(name, empty)
    masks = [
        torch.tensor([float(name not in groups) for name in kind]).expand(*shape, -1)
        for kind, shape in (
            (source.SPACE_TIME_BANDS_GROUPS_IDX, (b, h, w, 1)),
            (source.SPACE_BAND_GROUPS_IDX, (b, h, w)),
            (source.TIME_BAND_GROUPS_IDX, (b, 1)),
            (source.STATIC_BAND_GROUPS_IDX, (b,)),
        )
    ]
    others = torch.zeros(b, 1, len(source.TIME_BANDS)), torch.zeros(b, len(source.STATIC_BANDS))
    with torch.no_grad():
        given = net(dated, placed, *others, *masks, torch.full((b, 1), 6), patch_size=patch)
    mean: Tensor = net.apply_mask_and_average_tokens_per_patch(*given[:-1])
    return mean


def rows() -> Iterator[Row]:
    """Drawn tensors of each size; and those that the authors publish of nano."""
    source = _source()
    for size, groups, patch, shape in _CASES:
        width, depth, heads = SIZES[size]
        net = source.Encoder(embedding_size=width, depth=depth, num_heads=heads, mlp_ratio=4)
        dates = net.pos_embed.data.clone()  # computed, and not trained
        drawn(net)
        net.pos_embed.data.copy_(dates)
        yield _row(net, source, size, groups, patch, shape)
    file = Path(os.environ["GALILEO"]) / "encoder.pt"
    if file.is_file():
        net = source.Encoder(embedding_size=128, depth=4, num_heads=8, mlp_ratio=4).eval()
        net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        yield _row(net, source, "nano", ("S1", *_SENTINEL2, "NDVI"), 4, (32, 32), "published tensors, ")


def _row(
    net: Any, source: Any, size: str, groups: Sequence[str], patch: int, shape: tuple[int, int], what: str = ""
) -> Row:
    seen = of_groups(GROUPS, groups)
    names = [c.name for c in seen.channels]
    encoder = build("galileo", of_channels(seen.channels, shape), {"size": size, "patch": patch}, net.state_dict())
    image = noise(2, len(names), *shape)
    with torch.no_grad():
        found = encoder(image)[-1]
    values = image / 4 + 0.5
    if "NDVI" in names:
        place = names.index("NDVI")
        values[:, place] = image[:, place] * seen.std[place] + seen.mean[place]
    expected = _mean(net, source, values, names, groups, patch)
    return compare(
        ("galileo", size, f"{what}last feature, patch of {patch}", " + ".join(groups)), shape, [found], [expected]
    )
