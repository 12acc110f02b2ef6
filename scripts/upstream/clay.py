"""Clay next to the encoder of its authors: the package claymodel 1.5, whose modules import each other as ``src``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from types import ModuleType
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, spec

_CASES = (
    ("tiny", ("B2", "B3", "B4"), 10.0),
    ("small", ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"), 10.0),
    ("base", ("VV", "VH"), 20.0),
    ("large", ("B4", "B8", "VV", "VH"), 0.6),
)
_MICROMETRES = {
    "B2": 0.4927, "B3": 0.5598, "B4": 0.6646, "B5": 0.7041, "B6": 0.7405, "B7": 0.7828, "B8": 0.8328, "B8A": 0.8647,
    "B11": 1.6137, "B12": 2.2024, "VV": 3.5, "VH": 4.0,
}  # fmt: skip


def _encoder() -> Any:
    try:
        module = next(file for file in files("claymodel") or () if file.name == "model.py")
    except PackageNotFoundError as error:
        raise ModuleNotFoundError("no claymodel", name="claymodel") from error
    package = ModuleType("src")
    package.__path__ = [str(module.locate().parent)]  # type: ignore[union-attr]
    sys.modules["src"] = package
    from src.model import Encoder  # type: ignore[import-not-found]

    return Encoder


def rows() -> Iterator[Row]:
    """Each size, with wavelengths, size of a cell, week, hour and place; images are square there."""
    encoder_class = _encoder()
    shapes = {"tiny": (192, 6, 4, 48, 2), "small": (384, 6, 6, 64, 2), "base": (768, 12, 12, 64, 4)}
    for size, names, cell_m in _CASES:
        width, depth, heads, head, ratio = shapes.get(size, (1024, 24, 16, 64, 4))
        torch.manual_seed(0)
        upstream: Any = drawn(
            encoder_class(
                mask_ratio=0.0,
                patch_size=8,
                shuffle=False,
                dim=width,
                depth=depth,
                heads=heads,
                dim_head=head,
                mlp_ratio=ratio,
            )
        )
        state = {f"model.encoder.{name}": tensor for name, tensor in upstream.state_dict().items()}
        for shape, known in (((64, 64), True), ((32, 32), False)):
            settings = {"size": size, "cell_m": cell_m}
            if known:  # 2024-02-29, 6 o'clock
                settings |= {"day": 19782.25, "place": [11.5, 48.0]}
            encoder = build("clay", spec(names, shape), settings, state)
            image = noise(1, len(names), *shape)
            angles = torch.tensor([[9 / 52, 6 / 24, 48 / 360, 11.5 / 360]]) * 2 * torch.pi
            numbers = torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1) * known
            cube = {
                "pixels": image,
                "time": numbers[:, :4],
                "latlon": numbers[:, 4:],
                "gsd": torch.tensor(cell_m),
                "waves": torch.tensor([_MICROMETRES[name] for name in names]),
            }
            with torch.no_grad():
                given, (expected, *_) = encoder(image)[-1:], upstream(cube)
            compared = f"last feature{', week, hour and place' * known}, cells of {cell_m:g} m"
            yield compare(("clay", size, compared, " ".join(names)), shape, given, [expected])
