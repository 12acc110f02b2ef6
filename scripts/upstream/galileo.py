"""Galileo: the authors' file ``single_file_galileo.py``, whose folder GALILEO names; and their nano weights, if there.

GALILEO is a folder with that file of github.com/nasaharvest/galileo and, if wanted, ``encoder.pt`` of data/models/nano.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from torch import Tensor

from medseg.models.earth.galileo import GROUPS, SIZES
from medseg.models.earth.groups import of_groups

_SPACE_TIME = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "NDVI")
_SENTINEL2 = ("S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR")
_CASES: Sequence[tuple[str, Sequence[str], int, tuple[int, int], int]] = (
    ("nano", _SENTINEL2, 8, (32, 32), 1),
    ("tiny", ("S1", *_SENTINEL2, "NDVI"), 4, (24, 24), 1),
    ("nano", ("S1", *_SENTINEL2, "SRTM"), 2, (16, 16), 1),
    ("base", ("S1",), 8, (48, 48), 1),
    ("nano", ("S1", *_SENTINEL2), 4, (16, 16), 3),
)


def _source() -> Any:
    folder = Path(os.environ.get("GALILEO", "."))
    spec = importlib.util.spec_from_file_location("single_file_galileo", folder / "single_file_galileo.py")
    if spec is None or spec.loader is None or not (folder / "single_file_galileo.py").is_file():
        raise ModuleNotFoundError("no GALILEO/single_file_galileo.py", name="single_file_galileo.py in GALILEO")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _mean(
    net: Any, source: Any, image: Tensor, names: Sequence[str], groups: Sequence[str], patch: int, dates: int
) -> Tensor:
    """What upstream gives: the mean of the tokens at each place; July and the months after it, cells of 10 m."""
    series = image.unflatten(1, (dates, -1))
    b, h, w = len(image), *image.shape[2:]
    by_name = {name: series[:, :, i].permute(0, 2, 3, 1) for i, name in enumerate(names)}
    empty = torch.zeros(b, h, w, dates)
    dated = torch.stack([by_name.get(name, empty) for name in _SPACE_TIME], dim=-1)
    placed = torch.zeros(b, h, w, len(source.SPACE_BANDS))
    for i, name in enumerate(("elevation", "slope")):
        placed[..., i] = by_name.get(name, empty)[..., 0]
    masks = [
        torch.tensor([float(name not in groups) for name in kind]).expand(*shape, -1)
        for kind, shape in (
            (source.SPACE_TIME_BANDS_GROUPS_IDX, (b, h, w, dates)),
            (source.SPACE_BAND_GROUPS_IDX, (b, h, w)),
            (source.TIME_BAND_GROUPS_IDX, (b, dates)),
            (source.STATIC_BAND_GROUPS_IDX, (b,)),
        )
    ]
    others = torch.zeros(b, dates, len(source.TIME_BANDS)), torch.zeros(b, len(source.STATIC_BANDS))
    months = torch.arange(6, 6 + dates).expand(b, -1)
    with torch.no_grad():
        given = net(dated, placed, *others, *masks, months, patch_size=patch)
    mean: Tensor = net.apply_mask_and_average_tokens_per_patch(*given[:-1])
    return mean


def rows() -> Iterator[Row]:
    """Drawn tensors of each size; and those that the authors publish of nano."""
    source = _source()
    for size, groups, patch, shape, dates in _CASES:
        width, depth, heads = SIZES[size]
        net = source.Encoder(embedding_size=width, depth=depth, num_heads=heads, mlp_ratio=4)
        positions = net.pos_embed.data.clone()  # computed, and not trained
        drawn(net)
        net.pos_embed.data.copy_(positions)
        yield _row(net, source, size, groups, patch, shape, dates)
    file = Path(os.environ["GALILEO"]) / "encoder.pt"
    if file.is_file():
        net = source.Encoder(embedding_size=128, depth=4, num_heads=8, mlp_ratio=4).eval()
        net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        yield _row(net, source, "nano", ("S1", *_SENTINEL2, "NDVI"), 4, (32, 32), what="published tensors, ")


def _row(
    net: Any, source: Any, size: str, groups: Sequence[str], patch: int, shape: tuple[int, int], dates: int = 1,
    what: str = "",
) -> Row:  # fmt: skip
    seen = of_groups(GROUPS, groups)
    names = [c.name for c in seen.channels]
    about = of_channels(list(seen.channels) * dates, shape, dates)
    encoder: Any = build("galileo", about, {"size": size, "patch": patch}, net.state_dict())
    image = noise(2, len(names) * dates, *shape)
    days = torch.tensor([[date(2023, 7 + i, 1).toordinal() - date(1970, 1, 1).toordinal() for i in range(dates)]])
    with torch.no_grad():
        ours = encoder(image, days=days.expand(2, -1))[-1]
    values = (image / 4 + 0.5).unflatten(1, (dates, -1))
    if "NDVI" in names:
        place = names.index("NDVI")
        values[:, :, place] = image.unflatten(1, (dates, -1))[:, :, place] * seen.std[place] + seen.mean[place]
    expected = _mean(net, source, values.flatten(1, 2), names, groups, patch, dates)
    series = f", {dates} dates" if dates > 1 else ""
    labels = ("galileo", size, f"{what}last feature, patch of {patch}{series}", " + ".join(groups))
    return compare(labels, shape, [ours], [expected])
