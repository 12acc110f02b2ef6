"""Presto: the authors' network as olmoearth-pretrain ships it, cell by cell."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from torch import Tensor

from medseg.models.earth.groups import of_groups
from medseg.models.earth.presto import GROUPS

_SENTINEL2 = ("S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR")
_CASES: Sequence[tuple[Sequence[str], int, tuple[float, float] | None]] = (
    (("S1", *_SENTINEL2, "NDVI"), 1, None),
    (("S1", *_SENTINEL2, "NDVI", "SRTM"), 4, (11.5, 48.0)),
    (("S1",), 3, None),
)
_SHAPE = (8, 12)


def _source() -> Any:
    """The file of the package, whose parents import what only training needs."""
    package = importlib.util.find_spec("olmoearth_pretrain")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("no olmoearth_pretrain", name="olmoearth_pretrain")
    path = Path(package.submodule_search_locations[0]) / "evals" / "models" / "presto" / "single_file_presto.py"
    spec = importlib.util.spec_from_file_location("single_file_presto", path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("no single_file_presto.py", name=path.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pooled(
    net: Any, bands: Any, image: Tensor, groups: Sequence[str], dates: int, place: tuple[float, float] | None
) -> Tensor:
    """What upstream gives for each cell; July and the months after it."""
    cells = image.unflatten(1, (dates, -1)).permute(0, 3, 4, 1, 2).flatten(0, 2)
    columns: list[int] = [i for name in groups for i in bands[name]]
    values, mask = torch.zeros(len(cells), dates, 17), torch.ones(len(cells), dates, 17)
    values[..., columns], mask[..., columns] = cells, 0.0
    world = torch.full((len(cells), dates), 9)  # missing
    where = None if place is None else torch.tensor([[place[1], place[0]]]).expand(len(cells), -1)
    with torch.no_grad():
        pooled: Tensor = net(values, world, where, mask, 6)
    return pooled.unflatten(0, (2, *_SHAPE)).movedim(3, 1)


def rows() -> Iterator[Row]:
    """Single images and series, with and without the place."""
    source = _source()
    for groups, dates, place in _CASES:
        torch.manual_seed(0)
        net: Any = source.Encoder()
        positions = net.pos_embed.data.clone()  # computed, and not trained
        drawn(net)
        net.pos_embed.data.copy_(positions)
        seen = of_groups(GROUPS, groups)
        state = {f"encoder.{name}": tensor for name, tensor in net.state_dict().items()}
        about = of_channels(list(seen.channels) * dates, _SHAPE, dates)
        encoder: Any = build("presto", about, {"place": None if place is None else list(place)}, state)
        image = noise(2, len(seen.channels) * dates, *_SHAPE)
        days = torch.tensor([[date(2023, 7 + i, 1).toordinal() - date(1970, 1, 1).toordinal() for i in range(dates)]])
        with torch.no_grad():
            ours = encoder(image, days=days.expand(2, -1))[-1]
        what = f"last feature, {dates} date{'s' * (dates > 1)}{', place' * (place is not None)}"
        names = [g.name for g in GROUPS if g.name in groups]
        expected = _pooled(net, source.BANDS_GROUPS_IDX, image, names, dates, place)
        yield compare(("presto", "base", what, " + ".join(names)), _SHAPE, [ours], [expected])
