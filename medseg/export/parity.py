"""Parity: the exported predictor next to the one that it was made of, on the same images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from medseg import formats
from medseg.data.layout.image_groups import names_within
from medseg.data.reading.masks import DateMask
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.export import runner
from medseg.facts import NUMBER, TAGS, CaseFacts, Fact
from medseg.geometry.grid import Grid
from medseg.prediction.file_predictor import FilePredictor, open_image
from medseg.prediction.image_groups import check_names
from medseg.sample import DataSpec
from medseg.sensors.formula import Formula

MOST_CASES = 3
"""Cases of a folder that are compared."""
_UTM = "EPSG:32633"


@dataclass(frozen=True)
class CaseParity:
    """One image predicted by both.

    Attributes:
        case: Its name.
        cells: Number of its cells.
        largest_difference: Of probabilities, also of the class of the case where the network gives it.
        cells_that_differ: In class.
        seconds_medseg: Of preprocessing, network and way back.
        seconds_runner: Of the same in the runner.
    """

    case: str
    cells: int
    largest_difference: float
    cells_that_differ: int
    seconds_medseg: float
    seconds_runner: float


def compare(
    predictor: FilePredictor, exported: runner.Predictor, cases: Sequence[tuple[str, runner.Files]]
) -> list[CaseParity]:
    """Predict cases with both.

    Args:
        predictor: In single precision, on the CPU.
        exported: The exported predictor.
        cases: Name and image files of each.
    """
    parity = []
    for name, files in cases:
        facts = drawn_facts(predictor.spec.facts)
        sample = replace(_opened(files, predictor).read(), facts=CaseFacts.of(facts, predictor.spec.facts))
        began = time.perf_counter()
        logits = predictor.arrays.logits(sample)
        index, prob = logits.index_and_prob(predictor.temperature)
        index = predictor.arrays.finished(index, sample.valid, sample.grid)
        between = time.perf_counter()
        exported.begin(facts)
        own_index, own_prob = exported.index_and_prob(_runner_case(files, exported))
        ended = time.perf_counter()
        differences = [np.abs(prob - own_prob)[:, sample.valid].max(initial=0)]
        if logits.case_prob is not None and exported.case_prob is not None:
            differences.append(np.abs(logits.case_prob - exported.case_prob).max())
        parity.append(
            CaseParity(
                name,
                int(index.size),
                float(max(differences)),
                int((index != own_index).sum()),
                round(between - began, 3),
                round(ended - between, 3),
            )
        )
    return parity


def drawn_facts(facts: Sequence[Fact]) -> dict[str, object]:
    """Facts of a case by name: numbers above the mean, the last word, the first tags; every fourth is missing."""
    values: dict[str, object] = {}
    for number, fact in enumerate(facts):
        present = fact.mean + 0.7 * fact.std if fact.kind == NUMBER else fact.values[-1]
        values[fact.name] = None if number % 4 == 3 else list(fact.values[:2]) if fact.kind == TAGS else present
    return values


def _opened(files: runner.Files, predictor: FilePredictor) -> CaseReader:
    """The image as the package reads it."""
    spec, reading = predictor.spec, predictor.layout.reading
    if not isinstance(files, Mapping):
        return open_image(files, spec=spec, reading=reading)
    names, absent = check_names(list(files), reading, [channel.name for channel in spec.channels], "input")
    groups = names if reading.image_groups else ()
    return open_image([files[n] for n in names], spec=spec, reading=reading, groups=groups, absent=absent)


def _runner_case(files: runner.Files, exported: runner.Predictor) -> runner.Case:
    """The image as the runner reads it."""
    if runner.ending(runner.first_of(files)) in runner.VOLUMES:
        return runner.read_volume(files, exported.settings)
    with runner.Scene(files, exported.settings) as scene:
        image, valid = scene.read(0, scene.grid.shape[0])
        return runner.Case(image, valid, scene.grid, scene.present)


def check_tolerance(parity: Sequence[CaseParity], tolerance: float) -> None:
    """Check that probabilities agree.

    Raises:
        InputError: They differ by more than ``tolerance`` in a case; names the worst one.
    """
    worst = max(parity, key=lambda one: one.largest_difference)
    if worst.largest_difference > tolerance:
        raise InputError(
            f"the exported predictor gives probabilities of case {worst.case} that differ by up to "
            f"{worst.largest_difference:.3g} ({worst.cells_that_differ} of {worst.cells} cells in class), expected at "
            f"most tolerance={tolerance:g}; nothing was written; raise tolerance, or try format=pt2"
        )


def drawn_cases(folder: Path, predictor: FilePredictor) -> list[tuple[str, runner.Files]]:
    """A random image; and the same without its first file, where the network has learned to do without some."""
    name, paths = draw_case(folder, predictor)
    reading = predictor.layout.reading
    names = reading.image_groups or tuple(channel.name for channel in predictor.spec.channels)
    if reading.absent != "allow" or len(paths) != len(names) or len(paths) < 2:
        return [(name, paths)]
    of_channels = {group for channel in predictor.spec.channels for group in (channel.name, *channel.groups)}
    gone = next(name for name in names if name in of_channels)  # not the folder of a band that masks the others
    return [(name, paths), (f"{name} without {gone}", {n: p for n, p in zip(names, paths) if n != gone})]


def draw_case(folder: Path, predictor: FilePredictor, seed: int = 0) -> tuple[str, list[Path]]:
    """Name and files of a random image of the training's channels, smooth and one and a half windows wide.

    A volume that is resampled runs towards left and inferior, with cells of 1.25 times the plan's spacing.

    Args:
        folder: Where its files go.
        predictor: Of the training.
        seed: Of the random numbers.
    """
    first, spec = predictor.arrays.members[0], predictor.spec
    rng = np.random.default_rng(seed)
    spacing = np.array(first.prepare.spacing or (1.0,) * spec.ndim)
    stretch = 1.25 if first.prepare.spacing else 1.0
    shape = [int(np.ceil(1.5 * w / stretch)) for w in first.tiling.window]
    rules = {c.name: rule for c, rule in zip(spec.channels, first.prepare.rules, strict=False)}
    if spec.ndim == 2:
        grid = _scene_grid(shape, spacing * stretch)
    else:
        grid = Grid(tuple(shape), np.diag([*(spacing * stretch * [-1, 1, -1]), 1.0]))
    paths = []
    for number, (group, bands) in enumerate(_files(spec, predictor.layout.reading)):
        names = [f"{group}.{band}" if group and band != group else band for band in bands]
        cells = np.stack([_drawn(rng, shape, rules.get(name)) for name in names])
        _draw_mask(rng, cells, names, predictor.layout.reading.date_masks)
        paths.append(_write(folder / f"drawn_{number:04d}", cells, grid, bands))
    return "drawn", paths


def _write(path: Path, cells: Float[np.ndarray, "c *s"], grid: Grid, bands: Sequence[str]) -> Path:
    """A scene with named bands, or a volume of one channel; the path with its ending."""
    target = path.with_suffix(".tif" if grid.ndim == 2 else ".nii.gz")
    if grid.ndim == 2:
        formats.write_image(target, cells, grid, names=bands)
    else:
        formats.write(target, cells[0], grid)
    return target


def _files(spec: DataSpec, reading: ReadOptions) -> list[tuple[str, list[str]]]:
    """Image group and bands of each file of a case; volumes have a file for each channel, or for each group."""
    used, groups = [*_bands(spec), *([reading.date_masks.band] if reading.date_masks else [])], reading.image_groups
    used = list(dict.fromkeys(used))
    if groups:
        own = [names_within(reading.bands, group, groups) or names_within(used, group, groups) for group in groups]
        return list(zip(groups, own, strict=True))
    return [("", list(reading.bands) or used)] if spec.ndim == 2 else [("", [name]) for name in used]


def _draw_mask(
    rng: np.random.Generator, cells: Float[np.ndarray, "c *s"], names: Sequence[str], mask: DateMask | None
) -> None:
    """Draw the band that masks the others in its place, if the file has it."""
    if mask is not None and mask.band in names:
        cells[names.index(mask.band)] = _drawn_mask(rng, cells.shape[1:], mask)


def _drawn_mask(rng: np.random.Generator, shape: Sequence[int], mask: DateMask) -> Float[np.ndarray, " *s"]:
    """A band that hides a part of the cells, of smooth outlines."""
    above = 0.0 if mask.above is None else mask.above + 1
    hiding = [*mask.drop, *(1 << bit for bit in mask.bits), *([] if mask.above is None else [above])]
    shown = next(value for value in range(1 << 16) if not mask.hides(np.array([float(value)])).any())
    hidden = ndimage.gaussian_filter(rng.standard_normal(shape), 2) > 0
    return np.where(hidden, np.float32(hiding[0]), np.float32(shown))


def _bands(spec: DataSpec) -> list[str]:
    names = [c.name for c in spec.channels if not c.formula]
    names += [name for c in spec.channels if c.formula for name in Formula.parse(c.formula).names]
    return list(dict.fromkeys(names))


def _scene_grid(shape: Sequence[int], spacing: np.ndarray) -> Grid:
    from rasterio.crs import CRS

    (down, across), wkt = spacing.tolist(), CRS.from_string(_UTM).to_wkt()
    affine = np.array([[0, across, 5e5 + across / 2], [-down, 0, 4.2e6 - down / 2], [0, 0, 1.0]])
    return Grid(tuple(shape), affine, wkt)


def _drawn(rng: np.random.Generator, shape: Sequence[int], rule: Any) -> Float[np.ndarray, " *s"]:
    """Smooth noise about the training's mean; colours from 0 to 255; positive where nothing is known."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 2)
    noise /= noise.std()
    if rule is not None and rule.scheme in ("ct", "standard"):
        return (rule.mean + rule.std * noise).astype(np.float32)
    if rule is not None and rule.scheme == "percentile":
        return (rule.low + (rule.high - rule.low) * (0.5 + 0.2 * noise)).astype(np.float32)
    return np.clip(128 + 40 * noise, 1, 255).round().astype(np.float32)
