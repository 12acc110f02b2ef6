"""Compares features of encoders of satellite images with those of the authors' own networks, and prints a table.

Each upstream network is built small, with random tensors; its state is written to a file as the authors' are, loaded by
``model.encoder.weights``, and both networks see the same images. It needs terratorch (Prithvi, TerraMind) and claymodel
(Clay), which medseg does without; a family whose package is not installed is left out, with a line that says so.
A family is a file of scripts/upstream with a function ``rows``.

Usage: python scripts/check_upstream.py [FAMILY ...]
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.hydra_app.compose import compose
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.sensors.bands import bands_of


class Row(NamedTuple):
    """One comparison."""

    family: str
    size: str
    compared: str
    bands: str
    shape: str
    difference: float
    typical: float


def spec(names: Sequence[str], shape: Sequence[int], dates: int = 1) -> ModelSpec:
    """Data with these bands of Sentinel-2 or others, on cells of 10 m."""
    channels = tuple(channel for name in names for channel in bands_of([name], "sentinel-2")) * dates
    return of_channels(channels, shape, dates)


def of_channels(channels: Sequence[Channel], shape: Sequence[int], dates: int = 1) -> ModelSpec:
    """Data with these channels, on cells of 10 m."""
    return ModelSpec(len(channels), 3, tuple(shape), (10.0, 10.0), (), (), tuple(channels), dates)


def build(option: str, about: ModelSpec, settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> Encoder:
    """The encoder with the tensors of an upstream network, loaded from a file."""
    cfg = compose("train", ["model=encoder_decoder", f"model/encoder={option}"]).model.encoder
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upstream.pt"
        torch.save(dict(state), path)
        for key, value in {**settings, "weights": str(path)}.items():
            OmegaConf.update(cfg, key, value, force_add=True)
        encoder: Encoder = instantiate(cfg, _convert_="all")(about)
        report = encoder.initialise()
    if report is None or report.share < 1:
        raise SystemExit(f"{option}: {'' if report is None else report.table()}")
    return encoder.eval()


def drawn(net: nn.Module) -> nn.Module:
    """The network, in evaluation, with no parameter left at a zero or one that would hide it."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def noise(*shape: int) -> Tensor:
    """The images that both networks see."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def compare(
    labels: tuple[str, str, str, str], shape: Sequence[int], given: Sequence[Tensor], expected: Sequence[Tensor]
) -> Row:
    """The largest difference of all features, next to the typical size of a value."""
    pairs = list(zip(given, expected, strict=True))
    largest = max(float((one - other).abs().max()) for one, other in pairs)
    typical = float(torch.cat([other.flatten() for _, other in pairs]).std())
    return Row(*labels, "x".join(map(str, shape)), largest, typical)


def _in_file(name: str) -> Iterator[Row]:
    """The comparisons of a file of scripts/upstream."""
    rows: Iterator[Row] = importlib.import_module(f"upstream.{name}").rows()
    yield from rows


FAMILIES: Mapping[str, Callable[[], Iterator[Row]]] = {
    file.stem: partial(_in_file, file.stem) for file in sorted((Path(__file__).parent / "upstream").glob("*.py"))
}


def main() -> None:
    """Print the table of the named families, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []], help="of which; all if none is named")
    names = parser.parse_args().families or FAMILIES
    print("| family | size | what was compared | bands | image | largest difference | standard deviation of a value |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        try:
            for r in FAMILIES[name]():
                words = (r.family, r.size, r.compared, r.bands, r.shape, f"{r.difference:.1e}", f"{r.typical:.2f}")
                print(f"| {' | '.join(words)} |", flush=True)
        except ModuleNotFoundError as error:
            print(f"| {name} | | not compared: {error.name} is not installed | | | | |")


if __name__ == "__main__":
    main()
