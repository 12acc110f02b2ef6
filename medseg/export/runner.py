"""Stand-alone predictor: image files to label files, by the networks and settings that lie in the folder of this file.

    python runner.py INPUT [INPUT ...] OUTPUT [--facts FACTS.json] [--probabilities] [--threads N]

INPUT is a file, a folder of files, or the files of one case in the order of their channels; a volume with several
channels is named case_0000.nii.gz, case_0001.nii.gz and so on. OUTPUT is a folder, or the label file of a single case.
Label files lie on the grid of the image. Cases that cannot be read are listed at the end; the exit code is then 2.
FACTS.json has the facts of each case for networks that take them, ``{"case_1": {"age": 54, "sex": "F"}}``; what is left
out is missing, and ``--facts none`` says that all are. Networks that classify cases write ``case_labels.csv``.

Needs numpy, onnxruntime, and nibabel for volumes (.nii, .nii.gz) or rasterio for scenes (.tif) and images (.png, .jpg).
A network that was exported as network.pt2 alone needs torch instead of onnxruntime. In Python::

    predictor = Predictor("exported")
    predictor.file(["case_0000.nii.gz"], "case.nii.gz")

``predictor.json`` holds everything but the weights. Images larger than memory stream through by rows where they are
GeoTIFF files on their own cells; volumes are held whole, with the logits of all classes.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
"""Version of ``predictor.json`` that this file reads."""
VOLUMES, SCENES, IMAGES = (".nii.gz", ".nii"), (".tif", ".tiff"), (".png", ".jpg", ".jpeg")
MISSING = ("", "na", "n/a", "nan")
"""What a fact is that is not known, in small letters."""
TIE = 1e-6
"""Shares of classes that differ by less are equal."""
PROBABILITY_STEPS = 254
"""A probability p is written as the nearest integer to ``254 p``."""

_EARTH_RADIUS_M = 6_371_009.0
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # codes of metre and micron in xyzt_units of NIfTI
_GEOMETRY = (
    "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
_MARGIN = 12  # cells repeated beyond a border before a cubic fit
_POLE = 3**0.5 - 2  # of the cubic B-spline filter
_BLOCK = 2**22  # cells of a scene that are read at a time for its statistics

Array = npt.NDArray[Any]
Settings = Mapping[str, Any]
Files = Sequence[Path] | Mapping[str, Path]
"""Files of a case: one that holds every channel, or those of all channels (or image groups) in order, or by name."""
Network = Callable[[Array], Array]
"""Maps images ``[b, c, *w]`` to logits ``[b, k, *w]``."""
Program = Callable[..., Sequence[Array]]
"""Maps images, and facts ``[b, f]`` if it takes them, to logits, and to logits ``[b, m]`` of the class of the case."""


class Refusal(Exception):
    """Input that cannot be predicted; the message is one line for the user."""


# Geometry


@dataclass(frozen=True)
class Grid:
    """Cells on a regular lattice.

    Attributes:
        shape: Cells on each axis.
        affine: Maps an index (cell centres) to world coordinates, ``[d + 1, d + 1]``.
        unit: ``mm``, ``m`` or ``px``.
        scale: World units times this are ``unit``; None for degrees of a geographic CRS.
    """

    shape: tuple[int, ...]
    affine: Array
    unit: str
    scale: float | None = 1.0

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring cells on each axis, in ``unit``."""
        if self.scale is None:
            centre = self.affine[:-1, :-1] @ ((np.array(self.shape) - 1) / 2) + self.affine[:-1, -1]
            metres = np.deg2rad(1) * _EARTH_RADIUS_M
            factors = np.array([metres * np.cos(np.deg2rad(centre[1])), metres])
        else:
            factors = np.full(len(self.shape), self.scale)
        return tuple(float(v) for v in np.linalg.norm(self.affine[:-1, :-1] * factors[:, None], axis=0))

    def canonical(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Order and flips of the axes of a volume that run right, anterior, superior afterwards."""
        ndim = len(self.shape)
        if self.unit != "mm":
            return tuple(range(ndim)), (False,) * ndim
        cosines = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0)
        strength = np.abs(cosines)
        axes = [-1] * ndim
        for _ in range(ndim):
            world, array = np.unravel_index(np.argmax(strength), strength.shape)
            axes[int(world)] = int(array)
            strength[world, :] = strength[:, array] = -1
        return tuple(axes), tuple(bool(cosines[w, a] < 0) for w, a in enumerate(axes))

    def reorient(self, axes: Sequence[int], flips: Sequence[bool]) -> Grid:
        """Grid of ``reorient(array, axes, flips)``."""
        shape = tuple(self.shape[a] for a in axes)
        step = np.zeros_like(self.affine)
        step[-1, -1] = 1
        for new, (old, flip) in enumerate(zip(axes, flips)):
            step[old, new] = -1 if flip else 1
            step[old, -1] = shape[new] - 1 if flip else 0
        return replace(self, shape=shape, affine=self.affine @ step)

    def crop(self, box: Sequence[slice]) -> Grid:
        """Grid of the cells of a box."""
        affine = self.affine.copy()
        affine[:-1, -1] += affine[:-1, :-1] @ np.array([cut.start for cut in box], dtype=np.float64)
        return replace(self, shape=tuple(cut.stop - cut.start for cut in box), affine=affine)

    def resized(self, shape: Sequence[int]) -> Grid:
        """Grid over the same extent with this many cells."""
        scale = np.asarray(self.shape) / np.asarray(shape)
        step = np.diag([*scale, 1.0])
        step[:-1, -1] = (scale - 1) / 2
        return replace(self, shape=tuple(shape), affine=self.affine @ step)

    def resampled(self, spacing: Sequence[float]) -> Grid:
        """Grid over the same extent with about this spacing."""
        ratio = np.asarray(self.spacing) / np.asarray(spacing, dtype=np.float64)
        return self.resized([max(1, int(n)) for n in np.round(ratio * self.shape)])

    def offset_from(self, other: Grid) -> float:
        """Largest displacement of corresponding corners, in cells; infinite for other shapes."""
        if self.shape != other.shape:
            return float("inf")
        corners = np.array(list(product(*[(0, max(n - 1, 1)) for n in self.shape], (1,))), dtype=np.float64)
        moved = np.linalg.solve(self.affine, other.affine @ corners.T).T - corners
        return float(np.linalg.norm(moved[:, :-1], axis=1).max())


def reorient(array: Array, axes: Sequence[int], flips: Sequence[bool]) -> Array:
    """The last axes of an array in another order, some of them flipped."""
    lead = array.ndim - len(axes)
    moved = array.transpose([*range(lead), *(lead + a for a in axes)])
    return np.flip(moved, tuple(lead + i for i, flip in enumerate(flips) if flip))


def reorient_back(array: Array, axes: Sequence[int], flips: Sequence[bool]) -> Array:
    """Undo ``reorient``."""
    lead = array.ndim - len(axes)
    unflipped = np.flip(array, tuple(lead + i for i, flip in enumerate(flips) if flip))
    return unflipped.transpose([*range(lead), *(lead + int(a) for a in np.argsort(axes))])


def bounding_box(mask: Array) -> tuple[slice, ...]:
    """Smallest box around the true cells; the whole array where there are none."""
    box = []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hits[0]), int(hits[-1]) + 1) if len(hits) else slice(0, mask.shape[axis]))
    return tuple(box)


# Resampling


def resample(image: Array, source: Grid, shape: Sequence[int], order: int, anisotropic: float) -> Array:
    """Channels ``[c, *s]`` on ``source.resized(shape)``: splines axis by axis, clipped to the range of each channel.

    Args:
        image: Finite values on the cells of ``source``.
        source: Grid of the image.
        shape: New number of cells on each axis.
        order: 0 nearest, 1 linear, 3 cubic.
        anisotropic: Ratio of spacings above which the axis of the largest one takes the nearest cell.
    """
    if tuple(shape) == source.shape:
        return image.astype(np.float32, copy=False)
    coarse = coarse_axis(source.spacing, source.resized(shape).spacing, anisotropic)
    changed = [a for a, n in enumerate(source.shape) if n != shape[a]]
    resized = np.empty((len(image), *shape), dtype=np.float32)
    for target, channel in zip(resized, image):
        cells = channel.astype(np.float32, copy=False)
        low, high = cells.min(), cells.max()
        for axis in sorted(changed, key=lambda a: shape[a] / source.shape[a]):
            own = 0 if axis == coarse else order
            index, weight = _taps(source.shape[axis], shape[axis], own)
            cells = _interpolate(_spline_coefficients(cells, axis) if own == 3 else cells, axis, index, weight)
        np.clip(cells, low, high, out=target)
    return resized


def resample_classes(numbers: Array, source: Grid, shape: Sequence[int], anisotropic: float) -> Array:
    """Class numbers ``[*s]`` on ``source.resized(shape)``: of the largest linear share, of equal ones the largest."""
    if tuple(shape) == source.shape:
        return numbers
    resized, best = np.zeros(shape, dtype=np.float32), np.full(shape, 2 * TIE, dtype=np.float32)
    for number in np.unique(numbers):
        share = resample((numbers == number)[None], source, shape, 1, anisotropic)[0]
        wins = share > best - np.float32(TIE)
        resized[wins], best[wins] = number, share[wins]
    return resized


def coarse_axis(current: Sequence[float], new: Sequence[float], anisotropic: float) -> int | None:
    """Axis of a volume along which slices lie too far apart for interpolation; None if there is none."""
    for spacing in (np.asarray(current), np.asarray(new)):
        if len(spacing) == 3 and spacing.max() > anisotropic * spacing.min():
            coarse = np.flatnonzero(np.isclose(spacing, spacing.max(), rtol=1e-3))
            return int(coarse[0]) if len(coarse) == 1 else None
    return None


def _taps(old: int, new: int, order: int) -> tuple[Array, Array]:
    """Index and weight of the neighbours that make each new cell of an axis."""
    i = np.arange(new)
    if order == 0:
        return ((2 * i + 1) * old // (2 * new))[:, None], np.ones((new, 1), dtype=np.float32)
    centre = (i + 0.5) * old / new - 0.5
    below = np.floor(centre).astype(np.int64)
    f = centre - below
    if order == 1:
        index = np.clip(np.stack([below, below + 1], axis=1), 0, old - 1)
        return index, np.stack([1 - f, f], axis=1).astype(np.float32)
    g = 1 - f
    weight = np.stack([g**3, 4 - 6 * f**2 + 3 * f**3, 4 - 6 * g**2 + 3 * g**3, f**3], axis=1) / 6
    return below[:, None] + np.arange(-1, 3) + _MARGIN, weight.astype(np.float32)


def _spline_coefficients(cells: Array, axis: int) -> Array:
    """Coefficients of the cubic B-spline through the cells of an axis, ``_MARGIN`` more at either end (recursive)."""
    ends = [(_MARGIN, _MARGIN) if a == axis else (0, 0) for a in range(cells.ndim)]
    c = np.moveaxis(np.pad(cells, ends, mode="edge"), axis, 0).astype(np.float64)
    c *= (1 - _POLE) * (1 - 1 / _POLE)
    n, first = len(c), c[0].copy()
    power = _POLE ** np.arange(1, n + 1)
    total = c[0] + power[-1] * c[-1]  # the cells mirrored at the border, again and again
    for i in range(1, n):
        total = total + power[i - 1] * (c[i] + power[-1] * c[n - 1 - i])
    c[0] = total * (_POLE / (1 - power[-1] ** 2)) + first
    for i in range(1, n):
        c[i] += _POLE * c[i - 1]
    c[-1] *= _POLE / (_POLE - 1)
    for i in range(n - 2, -1, -1):
        c[i] = _POLE * (c[i + 1] - c[i])
    return np.moveaxis(c.astype(np.float32), 0, axis)


def _interpolate(cells: Array, axis: int, index: Array, weight: Array) -> Array:
    along = tuple(-1 if a == axis else 1 for a in range(cells.ndim))
    total = np.take(cells, index[:, 0], axis=axis) * weight[:, 0].reshape(along)
    for tap in range(1, index.shape[1]):
        total += np.take(cells, index[:, tap], axis=axis) * weight[:, tap].reshape(along)
    return total


# Normalisation


@dataclass(frozen=True)
class Statistics:
    """Of one channel of one image, over the cells that count."""

    count: int
    mean: float
    std: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, cells: Array) -> Statistics:
        """Of these values; neutral where there are none."""
        if not cells.size:
            return cls(0, 0.0, 1.0, 0.0, 1.0)
        exact = cells.astype(np.float64)
        return cls(exact.size, float(exact.mean()), float(exact.std()), float(exact.min()), float(exact.max()))

    @classmethod
    def pooled(cls, parts: Sequence[Statistics]) -> Statistics:
        """Of the union of parts."""
        parts = [part for part in parts if part.count]
        n = sum(part.count for part in parts)
        if not n:
            return cls.of(np.empty(0))
        mean = sum(part.count * part.mean for part in parts) / n
        variance = sum(part.count * (part.std**2 + (part.mean - mean) ** 2) for part in parts) / n
        return cls(n, mean, variance**0.5, min(p.minimum for p in parts), max(p.maximum for p in parts))


def per_image(rules: Sequence[Settings]) -> bool:
    """Whether any rule needs statistics of the whole image."""
    return any(rule["scheme"] in ("zscore", "unit_range") for rule in rules)


def normalise(
    image: Array,
    counted: Array,
    rules: Sequence[Settings],
    statistics: Sequence[Statistics] | None = None,
    present: Array | None = None,
) -> Array:
    """Channels ``[c, *s]`` by their rules; cells that do not count, and channels that are absent, become 0.

    Args:
        image: Raw values.
        counted: Cells that enter the statistics and keep a value.
        rules: One a channel.
        statistics: Of the whole image, of which this is a window; None takes those of ``image``.
        present: Which channels there are; None for all.
    """
    normal = np.zeros(image.shape, dtype=np.float32)
    if counted.any():
        for number, (target, channel, rule) in enumerate(zip(normal, image, rules)):
            if present is not None and not present[number]:
                continue
            cells = channel[counted]
            of_image = (statistics[number] if statistics else Statistics.of(cells)) if per_image([rule]) else None
            target[counted] = _normalised(cells, rule, of_image)
    return normal


def _normalised(cells: Array, rule: Settings, own: Statistics | None) -> Array:
    """Values of one channel by its rule."""
    scheme, std = rule["scheme"], max(rule.get("std", 1.0), 1e-8)
    low, high = rule.get("low", -np.inf), rule.get("high", np.inf)
    if own is not None:
        least, extent = (own.mean, own.std) if scheme == "zscore" else (own.minimum, own.maximum - own.minimum)
        return (cells.astype(np.float64) - least) / max(extent, 1e-8)
    if scheme == "standard":
        return (cells - np.float32(rule["mean"])) * np.float32(1 / std)
    if scheme == "ct":
        return (np.clip(cells.astype(np.float64), low, high) - rule["mean"]) / std
    if scheme == "percentile":
        return (np.clip(cells, low, high) - low) / max(high - low, 1e-8)
    if scheme == "rgb":
        if cells.min() < 0 or cells.max() > 255:
            raise Refusal(f"got values {cells.min():g} to {cells.max():g}, expected colours of 0 to 255")
        return cells / 255
    return cells


# Components and post-processing


def components(cells: Array, *, corners: bool) -> Array:
    """Number of the component of each cell, from 1 in the order of their first cells; 0 where ``cells`` is 0.

    Args:
        cells: Cells of equal values that touch are connected.
        corners: Whether cells that touch at a corner are connected; else faces count only.
    """
    lines = np.pad(cells.reshape(-1, cells.shape[-1]), ((0, 0), (1, 1)))
    flat, width = lines.ravel(), lines.shape[1]
    start = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))  # runs along the last axis
    length = np.diff(np.append(start, flat.size))
    runs = np.flatnonzero(flat[start] != 0)
    first, stop, value = start[runs], start[runs] + length[runs], flat[start[runs]]
    pairs = [_touching(first, stop, value, o, cells.shape[:-1], width, corners) for o in _offsets(cells.ndim, corners)]
    root = np.arange(len(runs))
    if pairs:
        one, other = (np.concatenate(side) for side in zip(*pairs))
        while len(one):
            np.minimum.at(root, np.maximum(root[one], root[other]), np.minimum(root[one], root[other]))
            while (further := root[root]).tobytes() != root.tobytes():
                root = further
            apart = root[one] != root[other]
            one, other = one[apart], other[apart]
    number = np.zeros(len(start), dtype=np.int64)
    number[runs] = np.unique(root, return_inverse=True)[1] + 1
    return np.repeat(number, length).reshape(lines.shape)[:, 1:-1].reshape(cells.shape)


def _offsets(ndim: int, corners: bool) -> list[tuple[int, ...]]:
    """Of the lines along the last axis that touch a line and follow it."""
    offsets = [o for o in product((-1, 0, 1), repeat=ndim - 1) if o > (0,) * (ndim - 1)]
    return offsets if corners else [o for o in offsets if sum(map(abs, o)) == 1]


def _touching(
    first: Array, stop: Array, value: Array, offset: Sequence[int], lines: Sequence[int], width: int, corners: bool
) -> tuple[Array, Array]:
    """Pairs of runs of one value that touch, the second one in the line ``offset`` from that of the first one."""
    place = np.array(np.unravel_index(first // width, lines)) + np.array(offset)[:, None]
    inside = np.flatnonzero(((place >= 0) & (place < np.array(lines)[:, None])).all(axis=0))
    shift = (np.ravel_multi_index(tuple(place[:, inside]), tuple(lines)) - first[inside] // width) * width
    low = np.searchsorted(stop, first[inside] + shift - corners, side="right")
    high = np.searchsorted(first, stop[inside] + shift + corners, side="left")
    many = np.maximum(high - low, 0)
    one = np.repeat(inside, many)
    other = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many) + np.repeat(low, many)
    same = value[one] == value[other]
    return one[same], other[same]


def holes(mask: Array, outside: Array) -> Array:
    """Holes of a mask, numbered from 1: parts of the other cells that reach neither a border nor ``outside``."""
    parts = components((~mask).astype(np.uint8), corners=False)
    is_hole = np.ones(int(parts.max(initial=0)) + 1, dtype=bool)
    is_hole[0] = False
    for axis in (a for a in range(mask.ndim) if mask.shape[a] > 1):
        is_hole[np.take(parts, [0, -1], axis=axis)] = False
    is_hole[parts[outside]] = False
    return np.where(is_hole, np.cumsum(is_hole), 0)[parts]


def post_process(index: Array, steps: Sequence[Settings], grid: Grid, n_classes: int) -> Array:
    """The class of each cell of a case after all steps; cells of -1 are not known, and stay."""
    for step in steps:
        size = step.get("size", 0)
        if step.get("unit", "px") != "px":
            if step["unit"] != f"{grid.unit}{len(grid.shape)}":
                raise Refusal(f"post-processing: a size in {step['unit']}, the image has cells in {grid.unit}")
            size = size / float(np.prod(grid.spacing)) * (1 - 1e-9)
        if step["step"] == "sieve":
            index = _sieved(index, size)
        for structure in step.get("structures", ()):
            index = _changed(index, step["step"], structure, size, n_classes)
    return index


def _changed(index: Array, step: str, structure: Settings, size: float, n_classes: int) -> Array:
    """After a step on one structure: members, class of what is filled (None: of most faces), of what is removed."""
    mask = np.isin(index, structure["members"])
    if step == "fill_holes":
        parts = holes(mask, index == -1)
        free = (parts > 0) & ((index == 0) | (index == structure["removed"]))
        filled = structure["filled"]
        around = _surrounding(index, parts, n_classes)[parts] if filled is None else filled
        return np.where(free, around, index)
    parts = components(mask.astype(np.uint8), corners=True)
    sizes = np.bincount(parts.ravel())
    if step == "keep_largest":
        stays = np.arange(len(sizes)) == (np.argmax(sizes[1:]) + 1 if len(sizes) > 1 else 0)
    else:
        stays = sizes >= size
    stays[0] = False
    return np.where(mask & ~stays[parts], structure["removed"], index)


def _surrounding(index: Array, parts: Array, n_classes: int) -> Array:
    """The class of most faces around each part."""
    faces = np.zeros((int(parts.max(initial=0)) + 1, n_classes), dtype=np.int64)
    for part, other in _faces(parts, index):
        met = (part > 0) & (other > 0)
        np.add.at(faces, (part[met], other[met]), 1)
    return np.argmax(faces, axis=1)


def _sieved(index: Array, least: float) -> Array:
    """Patches of fewer cells than ``least`` with the class of their largest neighbour."""
    labelled, result = index != -1, index.copy()
    while True:
        parts = components(np.where(labelled, result + 1, 0), corners=False)
        sizes = np.bincount(parts.ravel())
        n = len(sizes)
        order = np.lexsort((-np.arange(n), sizes))
        rank = np.empty(n, dtype=np.int64)
        rank[order] = np.arange(n)
        best = rank.copy()
        for part, other in _faces(parts, parts):
            met = (part != other) & (part > 0) & (other > 0)
            np.maximum.at(best, part[met], rank[other[met]])
        target = np.where(sizes < least, order[best], np.arange(n))
        if (target == np.arange(n)).all():
            return result
        while (further := target[target]).tobytes() != target.tobytes():
            target = further
        classes = np.zeros(n, dtype=index.dtype)
        classes[parts.ravel()] = result.ravel()
        result = np.where(labelled, classes[target][parts], index)


def _faces(first: Array, second: Array) -> Iterator[tuple[Array, Array]]:
    """Values of ``first`` and ``second`` in the two cells of each face, in both orders."""
    for axis in range(first.ndim):
        front = tuple(slice(None, -1) if a == axis else slice(None) for a in range(first.ndim))
        back = tuple(slice(1, None) if a == axis else slice(None) for a in range(first.ndim))
        yield first[front], second[back]
        yield first[back], second[front]


# Networks and windows


def load_network(path: Path, threads: int = 0) -> Program:
    """A network of a file; ``threads`` of 0 takes one for each core.

    Raises:
        Refusal: The file is absent or damaged, or the library that runs it is not installed.
    """
    if not path.is_file():
        raise Refusal(f"{path}: no such file; copy the exported folder as a whole")
    if path.suffix == ".pt2":
        return _torch_network(path, threads)
    try:
        import onnxruntime
    except ImportError:
        raise Refusal(f"{path.name} needs onnxruntime: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    places = [
        p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in onnxruntime.get_available_providers()
    ]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=places)
    except Exception as error:  # onnxruntime has no exception that all of its own derive from
        raise Refusal(f"{path}: not a network that onnxruntime runs ({' '.join(str(error).split())[:200]})") from error
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: [np.asarray(o, dtype=np.float32) for o in session.run(None, dict(zip(names, inputs)))]


def _torch_network(path: Path, threads: int) -> Program:
    try:
        import torch
    except ImportError:
        raise Refusal(f"{path.name} needs torch: pip install torch") from None
    if threads:
        torch.set_num_threads(threads)
    module = torch.export.load(path).module()

    def run(*inputs: Array) -> Sequence[Array]:
        with torch.no_grad():
            outputs = module(*map(torch.from_numpy, inputs))
        every = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return [np.asarray(output.numpy(), dtype=np.float32) for output in every]

    return run


class CaseNetwork:
    """A network for the windows of one case after the other.

    Attributes:
        case_logits: Of the class of the case, of every window and mirror since ``begin``.

    Args:
        program: The network.
        facts: Facts that it takes; none of one that takes none.
        classifies: Whether its second output is the class of the case.
    """

    def __init__(self, program: Program, facts: Sequence[Settings] = (), *, classifies: bool = False) -> None:
        self._program, self._facts, self._classifies = program, list(facts), classifies
        self._encoded: Array | None = None
        self.case_logits: list[Array] = []

    def begin(self, facts: Settings | None) -> None:
        """Take the facts of the next case by name, of which some may be missing; None where none are given."""
        self._encoded, self.case_logits = None, []
        if facts is not None:
            numbers = [number for fact in self._facts for number in encoded(fact, facts.get(fact["name"]))]
            self._encoded = np.array(numbers, dtype=np.float32)

    def __call__(self, image: Array) -> Array:
        """Logits of images."""
        further: list[Array] = []
        if self._facts:
            if self._encoded is None:
                names = ", ".join(fact["name"] for fact in self._facts)
                raise Refusal(
                    f"the network takes facts of each case, {names}; give --facts FACTS.json, or --facts none"
                )
            further = [np.repeat(self._encoded[None], len(image), axis=0)]
        logits, *of_case = self._program(image, *further)
        if self._classifies:
            self.case_logits += of_case
        return logits

    def case_prob(self) -> Array:
        """Probability of each class of the case: the mean over windows and mirrors."""
        logits = np.concatenate(self.case_logits)
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray((e / e.sum(axis=1, keepdims=True)).mean(axis=0))


def encoded(fact: Settings, value: Any) -> list[float]:
    """The numbers that encode a fact: its standardised value, or an indicator of each word; then whether it is missing.

    Raises:
        Refusal: A number that is none.
    """
    text = _as_text(value)
    missing = text.strip().lower() in MISSING
    if fact["kind"] == "number":
        return [0.0, 1.0] if missing else [(_number(fact["name"], text) - fact["mean"]) / fact["std"], 0.0]
    parts = [] if missing else [text]
    if fact["kind"] == "tags":
        parts = [part.strip() for one in parts for part in one.split(";") if part.strip()]
    indicators = [float(one in parts) for one in fact["values"]]
    return [*indicators, float(missing or (bool(parts) and not any(indicators)))]


def _as_text(value: Any) -> str:
    """A value as a cell of a table has it."""
    if isinstance(value, (list, tuple)):
        return ";".join(map(str, value)) or ";"
    return "" if value is None else str(value)


def _number(name: str, text: str) -> float:
    """A finite number."""
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise Refusal(f"facts: {name} is {text!r}, expected a number, or null where it is missing")
    return number


def mirrored(network: Network, tiling: Settings) -> Network:
    """The network averaged over images mirrored along ``flip_axes``, left and right exchanged back."""
    axes, swap, sides = tiling["flip_axes"], tiling["swap"], tiling.get("mirror_classes")
    if not axes:
        return network
    subsets = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))

    def averaged(image: Array) -> Array:
        every = []
        for subset in subsets:
            dims = tuple(axis + 2 for axis in subset)
            turned = np.ascontiguousarray(np.flip(image, dims))
            if sides and tiling["lateral_axis"] in subset:  # of the class numbers that a first network found
                turned[:, -1] = np.array(sides, dtype=np.float32)[turned[:, -1].astype(int)]
            logits = np.flip(network(turned), dims)
            every.append(logits[:, swap] if swap and tiling["lateral_axis"] in subset else logits)
        return np.asarray(np.mean(every, axis=0, dtype=np.float32))

    return averaged


class Strip:
    """The rows of an image that windows need now; every row is read once.

    Args:
        read: Gives the rows from ``first`` to ``stop``, ready for the network, and where they are valid.
        shape: Of the image.
        skip: Whether windows without a valid cell are left out.
    """

    def __init__(self, read: Callable[[int, int], tuple[Array, Array]], shape: Sequence[int], *, skip: bool) -> None:
        self._read, self._shape, self._skip = read, tuple(shape), skip
        self._image, self._counts = read(0, 0)
        self._first = 0
        self._valid, self._valid_first = self._counts, 0

    def window(self, start: Sequence[int], size: Sequence[int]) -> Array | None:
        """Image of a window, 0 outside the image; None for one to be left out. Rows before it are forgotten."""
        low = [max(a, 0) for a in start]
        high = [min(a + n, s) for a, n, s in zip(start, size, self._shape)]
        self._load(low[0], high[0])
        inside = (slice(low[0] - self._first, high[0] - self._first), *map(slice, low[1:], high[1:]))
        if self._skip and not self._counts[inside].any():
            return None
        window = np.zeros((len(self._image), *size), dtype=np.float32)
        window[(slice(None), *(slice(a - s, b - s) for a, b, s in zip(low, high, start)))] = self._image[
            (slice(None), *inside)
        ]
        return window

    def valid(self, first: int, stop: int) -> Array:
        """Which cells of these rows are valid; asked in order."""
        rows = self._valid[first - self._valid_first : stop - self._valid_first]
        self._valid, self._valid_first = self._valid[stop - self._valid_first :], stop
        return rows

    def _load(self, first: int, stop: int) -> None:
        held = self._first + self._image.shape[1]
        if stop > held:
            image, counts = self._read(held, stop)
            self._image = np.concatenate([self._image[:, first - self._first :], image], axis=1)
            self._counts = np.concatenate([self._counts[first - self._first :], counts])
            self._valid = np.concatenate([self._valid, counts])
            self._first = first


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """First cells of the windows along one axis, evenly spread from border to border."""
    if size <= window:
        return [-((window - size) // 2)]
    step = max(1, int(window * (1 - overlap)))
    count = -(-(size - window) // step) + 1
    return [round(i * (size - window) / (count - 1)) for i in range(count)]


def gaussian_weight(window: Sequence[int], blending: Settings) -> Array:
    """Weight of each cell of a window in the blend."""
    weight: Array = np.ones((), dtype=np.float32)
    for size in window:
        place = (np.arange(size) - (size - 1) / 2).astype(np.float32)
        weight = weight[..., None] * np.exp(np.float32(-0.5) * (place / np.float32(size * blending["sigma"])) ** 2)
    return np.maximum(weight, np.float32(blending["least"]))


def blended_rows(
    strip: Strip, shape: Sequence[int], network: Network, settings: Settings, n_outputs: int
) -> Iterator[tuple[int, Array]]:
    """First row and blended logits ``[k, r, *rest]`` of a few rows at a time, as soon as no window changes them.

    Args:
        strip: Gives windows.
        shape: Of the image.
        network: Takes batches of windows.
        settings: ``tiling`` and ``blending`` of a member.
        n_outputs: Number of logits.
    """
    window, least = settings["tiling"]["window"], np.float32(settings["blending"]["least"])
    weight = gaussian_weight(window, settings["blending"])
    logits = np.zeros((n_outputs, min(window[0], shape[0]), *shape[1:]), dtype=np.float32)
    total, first = np.zeros(logits.shape[1:], dtype=np.float32), 0
    for start, result in _window_logits(strip, shape, network, settings["tiling"]):
        done = max(start[0], 0) - first
        if done > 0:
            yield first, logits[:, :done] / np.maximum(total[:done], least)
            _forget(logits.swapaxes(0, 1), done)
            _forget(total, done)
            first += done
        if result is not None:
            inside = [slice(max(a, 0), min(a + w, s)) for a, w, s in zip(start, window, shape)]
            cut = tuple(slice(i.start - a, i.stop - a) for i, a in zip(inside, start))
            place = (slice(inside[0].start - first, inside[0].stop - first), *inside[1:])
            logits[(slice(None), *place)] += result[(slice(None), *cut)] * weight[cut]
            total[place] += weight[cut]
    rows = shape[0] - first
    yield first, logits[:, :rows] / np.maximum(total[:rows], least)


def _window_logits(
    strip: Strip, shape: Sequence[int], network: Network, tiling: Settings
) -> Iterator[tuple[tuple[int, ...], Array | None]]:
    """First cells and logits of each window, in order; None where it is left out."""
    window, many = tiling["window"], tiling["batch_size"]
    starts = list(product(*[window_starts(s, w, tiling["overlap"]) for s, w in zip(shape, window)]))
    for batch in (starts[i : i + many] for i in range(0, len(starts), many)):
        images = [strip.window(start, window) for start in batch]
        present = [image for image in images if image is not None]
        results = iter(network(np.stack(present)) if present else ())
        for start, image in zip(batch, images):
            yield start, None if image is None else next(results)


def _forget(sums: Array, done: int) -> None:
    """Move the rows after the first ``done`` to the front, and set what follows them to 0."""
    sums[:-done] = sums[done:].copy()
    sums[-done:] = 0


def in_step(
    members: Sequence[Iterator[tuple[int, Array, Array]]], height: int
) -> Iterator[tuple[int, list[Array], Array]]:
    """First row, logits of each member and valid cells: as many rows at a time as all members have."""
    waiting = [next(rows) for rows in members]
    done = 0
    while done < height:
        stop = min(first + logits.shape[1] for first, logits, _ in waiting)
        first, _, valid = waiting[0]
        yield done, [part[:, done - row : stop - row] for row, part, _ in waiting], valid[done - first : stop - first]
        done = stop
        waiting = [
            next(rows, part) if part[0] + part[1].shape[1] == done else part for rows, part in zip(members, waiting)
        ]


# Cases


@dataclass
class Case:
    """An image in memory.

    Attributes:
        image: Channels ``[c, *s]`` float32, 0 where not valid.
        valid: Cells with data.
        grid: Of the cells.
        present: Which channels there are; the others are 0. None for all.
    """

    image: Array
    valid: Array
    grid: Grid
    present: Array | None = None


class Member:
    """One network with its preprocessing, windows and way back.

    Attributes:
        first: Of the second network of a cascade, the first one; None without a cascade.

    Args:
        settings: An entry of ``members``.
        regions: Of the labels, which overlap; empty where the outputs are classes.
        n_outputs: Number of outputs.
        network: The network.
        temperature: What logits are divided by for probabilities.
    """

    def __init__(
        self,
        settings: Settings,
        regions: Sequence[Settings],
        n_outputs: int,
        network: Network,
        temperature: float = 1.0,
    ) -> None:
        self.settings, self.regions, self.n_outputs = settings, regions, n_outputs
        self.first: Member | None = None
        self.of_case = network if isinstance(network, CaseNetwork) else None
        self.temperature = np.float32(temperature)
        self.network = mirrored(network, settings["tiling"])
        self.spacing = settings["preprocessing"]["spacing"]
        self.rules = settings["preprocessing"]["normalisation"]

    def begin(self, facts: Settings | None) -> None:
        """Take the facts of the next case, see ``CaseNetwork.begin``."""
        if self.first is not None:
            self.first.begin(facts)
        if self.of_case is not None:
            self.of_case.begin(facts)

    def logits(self, case: Case) -> tuple[Array, Callable[[Array, float], Array]]:
        """Logits on the case's own spacing, cropped and reoriented, and the function that puts cells in their place."""
        if self.spacing is None:
            normal = normalise(case.image, case.valid, self.rules, present=case.present)
            return self._run(normal), lambda cells, fill: cells
        case = self._seen(case)
        grid, resampling = case.grid, self.settings["resampling"]
        axes, flips = grid.canonical()
        image, valid, turned = reorient(case.image, axes, flips), reorient(case.valid, axes, flips), grid
        turned = grid.reorient(axes, flips)
        box = bounding_box((image != 0).any(axis=0))
        image, valid, cut = image[(slice(None), *box)], valid[box], turned.crop(box)
        counted = valid & _content(image) if self.settings["preprocessing"]["masked"] else valid
        new = cut.resampled(self.spacing)
        normal = normalise(image, counted, self.rules, present=case.present)
        anisotropic = resampling["anisotropic"]
        quantities = normal if self.first is None else normal[:-1]
        ready = resample(quantities, cut, new.shape, resampling["image"], anisotropic)
        if self.first is not None:
            classes = resample_classes(normal[-1], cut, new.shape, anisotropic)
            ready = np.concatenate([ready, classes[None]])
        if new.shape != cut.shape:
            share = resample(valid[None], cut, new.shape, resampling["valid"], resampling["anisotropic"])
            valid = share[0] > 0.5
        logits = self._run(np.where(valid, ready, np.float32(0)))
        back = resample(logits, new, cut.shape, resampling["logits"], resampling["anisotropic"])

        def place(cells: Array, fill: float) -> Array:
            whole = np.full(turned.shape, fill, dtype=cells.dtype)
            whole[box] = cells
            return np.ascontiguousarray(reorient_back(whole, axes, flips))

        return back, place

    def _seen(self, case: Case) -> Case:
        """What the network sees of a case: with the classes that a first network finds as a further channel."""
        if self.first is None:
            return case
        logits, place = self.first.logits(case)
        classes = np.where(case.valid, place(decided(logits, self.regions, 0.0), 0), 0)
        image = np.concatenate([case.image, classes[None].astype(np.float32)])
        return Case(image, case.valid, case.grid, None if case.present is None else np.append(case.present, True))

    def _run(self, image: Array) -> Array:
        everywhere = np.ones(image.shape[1:], dtype=bool)
        rows = self.rows(
            lambda first, stop: (image[:, first:stop], everywhere[first:stop]), image.shape[1:], skip=False
        )
        return np.concatenate([logits for _, logits, _ in rows], axis=1)

    def rows(
        self, read: Callable[[int, int], tuple[Array, Array]], shape: Sequence[int], *, skip: bool = True
    ) -> Iterator[tuple[int, Array, Array]]:
        """First row, logits and valid cells of an image on its own cells, a few rows at a time."""
        strip = Strip(read, shape, skip=skip)
        for first, logits in blended_rows(strip, shape, self.network, self.settings, self.n_outputs):
            if not np.isfinite(logits).all():
                raise Refusal("the network gives values that are not finite")
            yield first, logits, strip.valid(first, first + logits.shape[1])

    def prob(self, logits: Array) -> Array:
        """Softmax, or with regions the sigmoid, of logits ``[k, ...]`` at the temperature."""
        logits = logits / self.temperature
        if self.regions:
            e = np.exp(-np.abs(logits))
            return np.where(logits >= 0, 1, e) / (1 + e)
        e = np.exp(logits - logits.max(axis=0))
        return e / e.sum(axis=0)


def decided(scores: Array, regions: Sequence[Settings], threshold: float) -> Array:
    """Class index of each cell: of the largest score; or of the last region above the threshold."""
    if not regions:
        return np.asarray(scores.argmax(axis=0).astype(np.int16))
    index = np.zeros(scores.shape[1:], dtype=np.int16)
    for region, score in zip(regions, scores):
        index[score > threshold] = region["paint"]
    return index


def _content(image: Array) -> Array:
    """Cells where any channel is not zero, holes filled."""
    mask = (image != 0).any(axis=0)
    return mask if mask.all() else mask | (holes(mask, np.zeros_like(mask)) > 0)


class Predictor:
    """The predictor of an exported folder.

    Args:
        folder: With ``predictor.json`` and the networks that it names.
        threads: Of the networks; 0 takes one for each core.

    Raises:
        Refusal: A file that is missing, damaged or of a newer format.
    """

    def __init__(self, folder: Path | str, threads: int = 0) -> None:
        path = Path(folder) / "predictor.json"
        try:
            self.settings: Settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refusal(f"{path}: not a file that can be read ({error})") from error
        if self.settings.get("format") != FORMAT:
            raise Refusal(
                f"{path}: format {self.settings.get('format')}, expected {FORMAT}; take the runner next to it"
            )
        self.labels = self.settings["labels"]
        self.regions: list[Settings] = self.labels["regions"]
        self.output_names = [output["name"] for output in self.regions or self.labels["classes"]]
        self.n_outputs = len(self.output_names)
        temperature = self.settings.get("temperature", 1.0)
        self.case_label: Settings | None = self.settings.get("case_label")
        networks = [self._network(path.parent, entry, threads) for entry in self.settings["members"]]
        self.members = [
            Member(entry, self.regions, self.n_outputs, network, temperature)
            for entry, network in zip(self.settings["members"], networks)
        ]
        for member, entry in zip(self.members, self.settings["members"]):
            if before := entry.get("first_stage"):
                network = self._network(path.parent, before, threads)
                member.first = Member(before, self.regions, self.n_outputs, network)

    def _network(self, folder: Path, entry: Settings, threads: int) -> CaseNetwork:
        program = load_network(folder / entry["network"], threads)
        return CaseNetwork(program, entry.get("facts", ()), classifies=self.case_label is not None)

    def begin(self, facts: Settings | None = None) -> None:
        """Take the facts of the next case by name, and forget the class of the last one.

        Raises:
            Refusal: A name that is no fact, or a number that is none.
        """
        names = {fact["name"] for entry in self.settings["members"] for fact in entry.get("facts", ())}
        if unknown := sorted(set(facts or ()) - names):
            raise Refusal(f"facts: got {unknown[0]}, the network takes {', '.join(sorted(names)) or 'none'}")
        for member in self.members:
            member.begin(facts)

    @property
    def case_prob(self) -> Array | None:
        """Probability of each class of the last case, the mean over networks; None if they classify no cases."""
        of_cases = [member.of_case for member in self.members if member.of_case is not None]
        probs = [network.case_prob() for network in of_cases if network.case_logits]
        return np.asarray(np.mean(probs, axis=0)) if probs else None

    def index_and_prob(self, case: Case) -> tuple[Array, Array]:
        """Class index of each cell, and probability of each output, on the case's own grid."""
        outside = [0.0] * self.n_outputs if self.regions else [1.0] + [0.0] * (self.n_outputs - 1)
        total: Array = np.zeros(())
        index: Array = np.zeros(())
        for member in self.members:
            logits, place = member.logits(case)
            total = total + np.stack([place(p, fill) for p, fill in zip(member.prob(logits), outside)])
            index = place(self.decide(logits, 0.0), 0) if len(self.members) == 1 else index
        prob = total / np.float32(len(self.members))
        index = index if index.ndim else self.decide(prob, 0.5)
        return self._finished(index, case.valid, case.grid), prob

    def decide(self, scores: Array, threshold: float) -> Array:
        """Class index of each cell: of the largest score; or of the last region above the threshold."""
        return decided(scores, self.regions, threshold)

    def _finished(self, index: Array, valid: Array, grid: Grid) -> Array:
        """After post-processing; 0 where cells are not valid."""
        steps = self.settings["postprocessing"]
        if steps:
            labelled = np.where(valid, index, np.int16(-1))
            index = post_process(labelled, steps, grid, len(self.labels["classes"]))
        return np.where(valid, index, 0)

    def saved(self, index: Array) -> Array:
        """Values that label files hold."""
        return np.array([c["saved"] for c in self.labels["classes"]], dtype=self.labels["saved_dtype"])[index]

    def file(
        self,
        sources: Sequence[Path | str] | Mapping[str, Path | str],
        target: Path | str,
        *,
        probabilities: bool = False,
        facts: Settings | None = None,
    ) -> Path:
        """Predict one case from its files, one or one for each channel, into a label file.

        Args:
            sources: The files; by name of the channel or image group, some may be missing if the training allowed it.
            target: The label file.
            probabilities: Write a file of probabilities as well.
            facts: Facts of the case by name, for networks that take them; those that are left out are missing.

        Raises:
            Refusal: The files are not what the network takes; names them.
        """
        by_name = {name: Path(path) for name, path in sources.items()} if isinstance(sources, Mapping) else None
        files: Files = by_name or [Path(source) for source in sources]
        target = Path(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.begin(facts)
            if ending(first_of(files)) in VOLUMES:
                self._volume(files, target, probabilities)
            else:
                self._scene(files, target, probabilities)
        except Refusal as error:
            raise Refusal(f"{first_of(files)}: {error}") from error
        return target

    def _volume(self, files: Files, target: Path, probabilities: bool) -> None:
        case = read_volume(files, self.settings)
        index, prob = self.index_and_prob(case)
        write_volume(target, self.saved(index), in_order(files, self.settings)[0][0])
        if probabilities:
            steps = np.round(prob * np.float32(PROBABILITY_STEPS)).astype(np.uint8)
            steps = np.where(case.valid, steps, np.uint8(255))
            like = in_order(files, self.settings)[0][0]
            write_volume(_beside(target, ".nii.gz"), np.moveaxis(steps, 0, -1), like, names=self.output_names)

    def _scene(self, files: Files, target: Path, probabilities: bool) -> None:
        with Scene(files, self.settings) as scene:
            native = all(member.spacing is None for member in self.members)
            parts = self._native_rows(scene) if native else self._whole(scene)
            rows = self._labels_alone(parts, scene, target, probabilities)
            if native and ending(target) in SCENES and not self.settings["postprocessing"]:
                with scene.label_file(target, self._with_nodata, self.labels) as write:
                    for first, index, valid in rows:
                        write(first, self._marked(index, valid)[None])
            else:
                self._write_whole(scene, target, list(rows), native)

    def _labels_alone(
        self, parts: Iterator[tuple[int, Array, Array, Array]], scene: Scene, target: Path, probabilities: bool
    ) -> Iterator[tuple[int, Array, Array]]:
        """The same rows without their probabilities, which are written where they are asked for."""
        with self._probability_file(scene, target) if probabilities else nullcontext() as write:
            for first, index, valid, prob in parts:
                if write is not None:
                    steps = np.round(prob * np.float32(PROBABILITY_STEPS)).astype(np.uint8)
                    write(first, np.where(valid, steps, np.uint8(255)))
                yield first, index, valid

    @property
    def _with_nodata(self) -> np.dtype[Any]:
        """Type of saved values and nodata."""
        return np.promote_types(self.labels["saved_dtype"], np.min_scalar_type(self.labels["nodata"]))

    def _marked(self, index: Array, valid: Array) -> Array:
        """Saved values, nodata where cells are not valid."""
        return np.where(valid, self.saved(index).astype(self._with_nodata), self.labels["nodata"])

    def _write_whole(self, scene: Scene, target: Path, rows: Sequence[tuple[int, Array, Array]], native: bool) -> None:
        index, valid = (np.concatenate([row[part] for row in rows]) for part in (1, 2))
        index = self._finished(index, valid, scene.grid) if native else index
        cells, nodata = self.saved(index), None
        if ending(target) in SCENES and (native or not valid.all()):
            cells, nodata = self._marked(index, valid), self.labels["nodata"]
        with scene.label_file(target, cells.dtype, {**self.labels, "nodata": nodata}) as write:
            write(0, cells[None])

    def _probability_file(self, scene: Scene, target: Path) -> Any:
        suffix = target.suffix if ending(target) in SCENES else ".tif"
        return scene.raster(_beside(target, suffix), np.uint8, names=self.output_names, nodata=255)

    def _native_rows(self, scene: Scene) -> Iterator[tuple[int, Array, Array, Array]]:
        """First row, index, valid cells and probabilities of a scene on its own cells, a few rows at a time."""
        rows = [member.rows(scene.ready(member.rules), scene.grid.shape) for member in self.members]
        for first, logits, valid in in_step(rows, scene.grid.shape[0]):
            probs = [member.prob(part) for member, part in zip(self.members, logits)]
            prob = sum(probs[1:], probs[0]) / np.float32(len(probs))
            index = self.decide(logits[0], 0.0) if len(logits) == 1 else self.decide(prob, 0.5)
            yield first, index, valid, prob

    def _whole(self, scene: Scene) -> Iterator[tuple[int, Array, Array, Array]]:
        image, valid = scene.read(0, scene.grid.shape[0])
        index, prob = self.index_and_prob(Case(image, valid, scene.grid, scene.present))
        yield 0, index, valid, prob


def _beside(target: Path, suffix: str) -> Path:
    """The file of probabilities of a label file."""
    folder = target.parent / "probabilities"
    folder.mkdir(exist_ok=True)
    return folder / f"{target.name[: -len(ending(target))]}{suffix}"


# Files


def ending(path: Path) -> str:
    """Suffix of an image file, in lower case."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A file next to the target, which becomes the target in one rename where nothing fails."""
    path = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        yield path
        os.replace(path, target)
    finally:
        path.unlink(missing_ok=True)


def masked(image: Array, valid: Array, reading: Settings) -> tuple[Array, Array]:
    """Image and valid cells where values that are not finite are left out, and 0 outside.

    Raises:
        Refusal: There are such values, and the settings of the training reject them.
    """
    finite = np.isfinite(image)
    if not finite.all():
        if reading["nonfinite"] != "mask" and (~finite & valid).any():
            raise Refusal(f"{int((~finite & valid).sum())} NaN or infinite values; fix the file")
        valid = valid & finite.all(axis=0)
    return np.where(valid, image, np.float32(0)), valid


def hidden(cells: Array, mask: Settings) -> Array:
    """Which cells a band says have no data: by its values, by its bits, or above a threshold."""
    gone = np.isin(cells, mask["drop"])
    if mask["bits"]:
        flags = sum(1 << bit for bit in mask["bits"])
        gone |= (np.nan_to_num(cells).astype(np.int64) & flags) != 0
    return gone if mask["above"] is None else gone | (cells > mask["above"])


def in_order(files: Files, settings: Settings) -> tuple[list[Path], list[str]]:
    """Files in the order of the training, and the image group or channel of each, as far as it is known.

    Raises:
        Refusal: Names that the training did not have, or fewer where it had all.
    """
    groups = image_groups(settings)
    if not isinstance(files, Mapping):
        if groups and len(groups) != len(files):
            raise Refusal(f"got {len(files)} files, expected one for each image group: {', '.join(groups)}")
        return list(files), groups
    names = groups or [channel["name"] for channel in settings["channels"]]
    there = [name for name in names if name in files]
    if len(there) != len(files) or (len(there) < len(names) and not may_lack(settings)):
        raise Refusal(f"got files of {', '.join(files)}, expected one of each of {', '.join(names)}")
    return [files[name] for name in there], there


def may_lack(settings: Settings) -> bool:
    """Whether the network has learned to do without some channels."""
    return settings["reading"].get("absent") == "allow"


def first_of(files: Files) -> Path:
    """One of the files of a case, by which messages and label files are named."""
    return next(iter(files.values())) if isinstance(files, Mapping) else files[0]


def read_volume(files: Files, settings: Settings) -> Case:
    """The volume of one file, or of one file for each channel.

    Raises:
        Refusal: No NIfTI files, other channels than the network takes, or files on different grids.
    """
    nib = _library("nibabel", "volumes")
    images, grids = [], []
    paths, held = in_order(files, settings)
    for path in paths:
        try:
            opened = nib.load(path)
            cells = np.asarray(opened.dataobj)
        except Exception as error:
            raise Refusal(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from error
        grids.append(_volume_grid(opened, cells.shape))
        images.append(np.moveaxis(cells.reshape(*grids[-1].shape, -1), -1, 0).astype(np.float32))
    image = np.concatenate(images) if len(images) > 1 else images[0]
    image, present = _in_channels(image, held, settings)
    off = max(grid.offset_from(grids[0]) for grid in grids)
    if off > settings["reading"]["grid_tolerance"]:
        raise Refusal(f"its channels lie on different grids, up to {off:.3g} voxels apart; resample them onto one")
    image, valid = masked(image, np.ones(image.shape[1:], dtype=bool), settings["reading"])
    return Case(image, valid, grids[0], None if present.all() else present)


def _in_channels(image: Array, held: Sequence[str], settings: Settings) -> tuple[Array, Array]:
    """Channels of files as those of the network, 0 where there is none, and which there are."""
    names = [channel["name"] for channel in settings["channels"]]
    if not held:
        _check_channels(len(image), names)
        return image, np.ones(len(names), dtype=bool)
    owners = [name.partition(".")[0] for name in names] if image_groups(settings) else names
    present = np.array([owner in held for owner in owners])
    there = [held.index(owner) for owner in owners if owner in held]
    _check_channels(len(image), [name for name, here in zip(names, present) if here])
    whole = np.zeros((len(names), *image.shape[1:]), dtype=np.float32)
    whole[present] = image[np.argsort(np.argsort(there, kind="stable"))]
    return whole, present


def _volume_grid(opened: Any, shape: Sequence[int]) -> Grid:
    """Grid of a NIfTI file in millimetres; an image of two axes is a slice."""
    affine = np.array(opened.affine, dtype=np.float64)
    affine[:3] *= _MM_PER_UNIT.get(int(opened.header["xyzt_units"]) & 7, 1.0)
    return Grid(tuple((*shape, 1)[:3]), affine, "mm")


def write_volume(target: Path, cells: Array, like: Path, *, names: Sequence[str] = ()) -> None:
    """Write a volume with the geometry of another file, bit for bit; with names, one of probabilities."""
    nib = _library("nibabel", "volumes")
    model = nib.load(like)
    cells = cells[:, :, 0] if len(model.shape) == 2 and not names else cells
    kind = nib.Nifti2Image if isinstance(model, nib.Nifti2Image) else nib.Nifti1Image
    header = kind.header_class()
    header.set_data_shape(cells.shape)
    for field in _GEOMETRY:
        header[field] = model.header[field]
    header["pixdim"][:4] = model.header["pixdim"][:4]
    image = kind(cells, None, header, dtype=cells.dtype)
    if names:
        image.header["descrip"] = ", ".join(names).encode()[:79]
        image.header.set_slope_inter(1 / PROBABILITY_STEPS, 0)
    with draft(target) as path:
        image.to_filename(path)


class Scene:
    """A scene or image of one file, or of files that hold some of the bands each.

    Attributes:
        present: Which channels there are; None for all.

    Args:
        files: The files, all on one grid.
        settings: Content of ``predictor.json``.

    Raises:
        Refusal: Files that cannot be read, on different grids, or without the bands of the training.
    """

    def __init__(self, files: Files, settings: Settings) -> None:
        self._rasterio = _library("rasterio", "scenes and images")
        self._settings, self._reading = settings, settings["reading"]
        self._open = ExitStack()
        paths, self._held = in_order(files, settings)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of files without a georeference
                self._files = [self._open.enter_context(self._rasterio.open(path)) for path in paths]
        except self._rasterio.errors.RasterioError as error:
            raise Refusal(f"cannot be read ({' '.join(str(error).split())[:200]})") from error
        first = self._files[0]
        if any(file.shape != first.shape for file in self._files):
            raise Refusal(f"its files have the shapes {[file.shape for file in self._files]}, expected one")
        self.crs, self.transform = first.crs, first.transform
        self.grid = _scene_grid(first)
        self._bands = self._find_bands()
        self._mask = self._bands.pop(self._reading["mask"]["band"], None) if "mask" in self._reading else None
        there = np.array([set(needed) <= set(self._bands) for needed in self._bands_of.values()])
        if not there.any():
            raise Refusal(f"no band of the channels {self._channels}; the file has {list(self._bands)}")
        self.present = None if there.all() else there

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _find_bands(self) -> dict[str, tuple[Any, int]]:
        """File and number of each band that a channel needs, by name."""
        needed, bands = self._needed(), self._file_bands()
        names = self._band_names(bands, needed)
        missing = [name for name in needed if name not in names]
        masking = self._masking()
        if any(name in masking for name in missing):
            raise Refusal(f"no band {masking[0]}, which says where there are no data; the file has {names}")
        if missing and not may_lack(self._settings):
            raise Refusal(f"no band {', '.join(missing)}; the file has {names}")
        return {name: bands[names.index(name)] for name in needed if name in names}

    def _file_bands(self) -> list[tuple[Any, int]]:
        """File and number of every band but alpha; GDAL takes the last of four for alpha, unless the file states it."""
        alpha = self._rasterio.enums.ColorInterp.alpha
        bands = [(f, b) for f in self._files for b, kind in zip(f.indexes, f.colorinterp) if kind != alpha]
        own = [c for c in self._settings["channels"] if not c["formula"]]
        if len(bands) == (len(self._reading["bands"]) or len(own)) - 1:
            return [(f, b) for f in self._files for b in f.indexes]
        return bands

    def _band_names(self, bands: Sequence[tuple[Any, int]], needed: Sequence[str]) -> list[str]:
        """Name of each band: of the settings, of the files, or by position those of the channels."""
        if self._held and not image_groups(self._settings):
            return self._names_of_channels()
        described = [self._described(file, band, needed) for file, band in bands]
        distinct = described if len(set(described) - {""}) == len(described) else []
        names = list(filter(self._may_hold, self._reading["bands"])) or distinct
        if len(names) == len(bands) and (self._programs or set(needed) & set(names)):
            return names
        if self._programs or len(bands) != len(self._channels):
            raise Refusal(f"got {len(bands)} bands {described}, expected {needed}")
        return self._channels

    def _described(self, file: Any, band: int, needed: Sequence[str]) -> str:
        """Name of a band in its file; with image groups that of the group in front, without a name by position."""
        name, groups = str(file.descriptions[band - 1] or "").strip(), image_groups(self._settings)
        if not groups:
            return name
        group = self._held[self._files.index(file)]
        own = [title for title in needed if title.partition(".")[0] == group]
        by_position = own[band - 1] if file.count == len(own) else ""
        return by_position if not name or own == [group] else f"{group}.{name}"

    def _names_of_channels(self) -> list[str]:
        """Name of each band, where files are named by channels and so have a band each."""
        names = [name for name, file in zip(self._held, self._files) for _ in file.indexes]
        if len(names) != len(self._held):
            raise Refusal(f"got {len(names)} bands in files of {', '.join(self._held)}, expected one in each")
        return names

    def _may_hold(self, band: str) -> bool:
        """Whether the files hold a band, as far as their image groups say."""
        return not image_groups(self._settings) or band.partition(".")[0] in self._held

    @property
    def _bands_of(self) -> dict[str, list[str]]:
        """Bands that each channel needs."""
        programs = self._programs
        return {n: [s["band"] for s in programs[n] if "band" in s] if n in programs else [n] for n in self._channels}

    @property
    def _channels(self) -> list[str]:
        return [c["name"] for c in self._settings["channels"]]

    @property
    def _programs(self) -> dict[str, list[Any]]:
        return {c["name"]: c["program"] for c in self._settings["channels"] if c["formula"]}

    def _needed(self) -> list[str]:
        names = [c["name"] for c in self._settings["channels"] if not c["formula"]]
        return list(dict.fromkeys([*names, *chain.from_iterable(self._bands_of.values()), *self._masking()]))

    def _masking(self) -> list[str]:
        """The band that masks cells, if there has to be one: not with its image group gone, which has channels too."""
        band = self._reading.get("mask", {}).get("band")
        if band is None or self._may_hold(band):
            return [] if band is None else [band]
        group = band.partition(".")[0]
        return [] if any(name.partition(".")[0] == group for name in chain(*self._bands_of.values())) else [band]

    def read(self, first: int, stop: int) -> tuple[Array, Array]:
        """Channels of some rows, and which of their cells have data."""
        width, cells = self.grid.shape[1], {}
        valid = np.ones((stop - first, width), dtype=bool)
        if stop == first:
            return np.zeros((len(self._settings["channels"]), 0, width), dtype=np.float32), valid
        window = self._rasterio.windows.Window(0, first, width, stop - first)
        for name, (file, band) in self._bands.items():
            stored = file.read(band, window=window)
            valid &= file.read_masks(band, window=window) > 0
            scale, offset = file.scales[band - 1], file.offsets[band - 1]
            cells[name] = (stored if (scale, offset) == (1, 0) else stored * scale + offset).astype(np.float32)
        if self._mask is not None:
            file, band = self._mask
            valid &= file.read_masks(band, window=window) > 0
            scaled = file.read(band, window=window) * file.scales[band - 1] + file.offsets[band - 1]
            valid &= ~hidden(scaled, self._reading["mask"])
        if self._reading["nodata"] is not None:
            valid &= np.any([band != self._reading["nodata"] for band in cells.values()], axis=0)
        programs, nothing = self._programs, np.zeros(valid.shape, dtype=np.float32)
        channels = []
        for number, name in enumerate(self._channels):
            if self.present is not None and not self.present[number]:
                channels.append(nothing)
            else:
                channels.append(evaluate(programs[name], cells) if name in programs else cells[name])
        image = np.stack(channels)
        return masked(image, valid, self._reading)

    def ready(self, rules: Sequence[Settings]) -> Callable[[int, int], tuple[Array, Array]]:
        """Function that reads rows as a network takes them; takes statistics of the whole scene first, if needed."""
        statistics: list[Statistics] | None = None
        if per_image(rules):
            height, width = self.grid.shape
            step = max(1, _BLOCK // width)
            parts = [self.read(row, min(row + step, height)) for row in range(0, height, step)]
            statistics = [Statistics.pooled([Statistics.of(i[c][v]) for i, v in parts]) for c in range(len(rules))]

        def read(first: int, stop: int) -> tuple[Array, Array]:
            image, valid = self.read(first, stop)
            return normalise(image, valid, rules, statistics, self.present), valid

        return read

    @contextmanager
    def label_file(
        self, target: Path, dtype: np.dtype[Any], labels: Settings
    ) -> Iterator[Callable[[int, Array], None]]:
        """A label file on the grid of the scene: a function that writes rows ``[1, r, w]`` from a first one on."""
        tags = {"CLASS_NAMES": json.dumps({str(c["saved"]): c["name"] for c in labels["classes"]})}
        colours = {c["saved"]: (*c["colour"], 255) for c in labels["classes"]}
        colours = colours if dtype == np.uint8 else {}
        with self.raster(target, dtype, nodata=labels["nodata"], tags=tags, colours=colours) as write:
            yield write

    @contextmanager
    def raster(
        self,
        target: Path,
        dtype: npt.DTypeLike,
        *,
        nodata: int | None,
        names: Sequence[str] = ("",),
        tags: Mapping[str, str] | None = None,
        colours: Mapping[int, tuple[int, ...]] | None = None,
    ) -> Iterator[Callable[[int, Array], None]]:
        """A file on the grid of the scene, with a band for each name: a function that writes rows ``[n, r, w]``."""
        profile: dict[str, Any] = {"driver": "PNG"}
        if ending(target) in SCENES:
            profile = {
                "driver": "GTiff", "compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256,
                "crs": self.crs, "transform": self.transform, "bigtiff": "IF_SAFER", "nodata": nodata,
                "photometric": "MINISBLACK",
            }  # fmt: skip
        height, width = self.grid.shape
        with draft(target) as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size = {"height": height, "width": width, "count": len(names), "dtype": np.dtype(dtype).name}
            with self._rasterio.open(path, "w", **profile, **size) as file:
                if ending(target) in SCENES:
                    file.update_tags(**(tags or {}))
                if colours:
                    file.write_colormap(1, colours)
                for band, name in enumerate(names, start=1):
                    if name:
                        file.set_band_description(band, name)
                if len(names) > 1:
                    file.scales = [1 / PROBABILITY_STEPS] * len(names)
                yield lambda first, cells: file.write(
                    cells, window=self._rasterio.windows.Window(0, first, width, cells.shape[1])
                )
            path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name)
    for name in (
        "add", "subtract", "multiply", "divide", "power", "negative", "sqrt", "log", "exp", "absolute", "minimum",
        "maximum", "clip",
    )
}  # fmt: skip


def evaluate(program: Sequence[Settings], bands: Mapping[str, Array]) -> Array:
    """A channel of its formula: a program in postfix order of bands, numbers and functions of the last n results.

    Where a band is not finite it is NaN; where only the result is not, as 0 / 0, it is 0.
    """
    stack: list[Any] = []
    with np.errstate(all="ignore"):
        for step in program:
            if "function" in step:
                n = step["arguments"]
                stack[-n:] = [_FUNCTIONS[step["function"]](*stack[-n:])]
            else:
                stack.append(bands[step["band"]] if "band" in step else np.float32(step["number"]))
    value = np.where(np.isfinite(stack[0]), stack[0], np.float32(0))
    for step in program:
        if "band" in step:
            value[~np.isfinite(bands[step["band"]])] = np.nan
    return np.asarray(value)


def _scene_grid(file: Any) -> Grid:
    """Grid of (row, column) cells; of an image without a world the index itself."""
    a, b, c, d, e, f = file.transform[:6]
    if not file.crs and (a, b, c, d, e, f) == (1, 0, 0, 0, 1, 0):
        return Grid(file.shape, np.eye(3), "px")
    affine = np.array([[b, a, c + 0.5 * a + 0.5 * b], [e, d, f + 0.5 * d + 0.5 * e], [0, 0, 1]])
    if not file.crs:
        return Grid(file.shape, affine, "px")
    return Grid(file.shape, affine, "m", None if file.crs.is_geographic else float(file.crs.linear_units_factor[1]))


def _check_channels(got: int, names: Sequence[str]) -> None:
    if got != len(names):
        raise Refusal(f"got {got} channels, expected {len(names)} {names}")


def _library(name: str, what: str) -> Any:
    try:
        return __import__(name, fromlist=["windows"]) if name != "rasterio" else _rasterio()
    except ImportError:
        raise Refusal(f"{what} need {name}: pip install {name}") from None


def _rasterio() -> Any:
    import rasterio
    import rasterio.enums
    import rasterio.errors
    import rasterio.windows

    return rasterio


# Command line


def find_cases(inputs: Sequence[Path], settings: Settings) -> list[tuple[str, Files]]:
    """Name and files of each case.

    Args:
        inputs: A folder, a file, or the files of one case in the order of their channels.
        settings: Content of ``predictor.json``.

    Raises:
        Refusal: Nothing that the network takes.
    """
    endings = VOLUMES if settings["ndim"] == 3 else SCENES + IMAGES
    for path in inputs:
        if not path.exists():
            raise Refusal(f"{path}: no such file or folder")
        if not path.is_dir() and ending(path) not in endings:
            raise Refusal(f"{path}: is no image of the kinds {', '.join(endings)}")
    if inputs[0].is_dir():
        if image_groups(settings):
            return list(_of_image_groups(inputs[0], endings, settings).items())
        return [(name, _by_channel(files, settings)) for name, files in _groups(inputs[0], endings, settings).items()]
    name, channel = _case(inputs[0], settings)
    if len(inputs) > 1 or channel is None:
        return [(name, list(inputs))]
    return [(name, _by_channel(_groups(inputs[0].parent, endings, settings)[name], settings))]


def _by_channel(files: list[Path], settings: Settings) -> Files:
    """Files of a case; by name of the channel where it may lack some and does."""
    names = [channel["name"] for channel in settings["channels"]]
    numbers = [_case(path, settings)[1] for path in files]
    of_channels = [number for number in numbers if number is not None and number < len(names)]
    if not may_lack(settings) or len(of_channels) != len(files) or len(files) == len(names):
        return files
    return {names[number]: path for number, path in zip(of_channels, files)}


def image_groups(settings: Settings) -> list[str]:
    """Names of the image groups, of which a case has a file each; empty where images have none."""
    return list(settings["reading"].get("image_groups", ()))


def _of_image_groups(folder: Path, endings: Sequence[str], settings: Settings) -> dict[str, Files]:
    """Files of each case in the sub-folders of the image groups, in the order of these; by group if it lacks some."""
    groups, enough = image_groups(settings), any if may_lack(settings) else all
    for names in (settings["reading"]["folders"], groups):
        parts = [(group, folder / name) for group, name in zip(groups, names)]
        if enough(part.is_dir() for _, part in parts):
            cases = _of_groups({group: _groups(part, endings, settings) for group, part in parts if part.is_dir()})
            if not may_lack(settings):
                _check_complete(cases, groups, folder, names)
            return {case: files if len(files) < len(groups) else list(files.values()) for case, files in cases.items()}
    raise Refusal(f"{folder}: expected the sub-folders {', '.join(settings['reading']['folders'])}")


def _check_complete(cases: Mapping[str, Files], groups: Sequence[str], folder: Path, names: Sequence[str]) -> None:
    lacking = [case for case, files in cases.items() if len(files) < len(groups)]
    if lacking:
        raise Refusal(f"{folder}: {', '.join(lacking)} not in each of {', '.join(names)}")


def _of_groups(by_group: Mapping[str, Mapping[str, Sequence[Path]]]) -> dict[str, dict[str, Path]]:
    """File of each image group by case, of the cases by group."""
    cases: dict[str, dict[str, Path]] = {}
    for group, files in by_group.items():
        for case, paths in files.items():
            cases.setdefault(case, {})[group] = paths[0]
    return dict(sorted(cases.items()))


def _groups(folder: Path, endings: Sequence[str], settings: Settings) -> dict[str, list[Path]]:
    """Files of each case of a folder, in the order of their channels."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if ending(path) in endings and not path.name.startswith("."):
            groups.setdefault(_case(path, settings)[0], []).append(path)
    if not groups:
        raise Refusal(f"{folder}: holds no image of the kinds {', '.join(endings)}")
    return groups


def _case(path: Path, settings: Settings) -> tuple[str, int | None]:
    """Case of a file, and the number of its channel where its name has one."""
    stem = path.name[: -len(ending(path))]
    match = re.fullmatch(r"(.+)_(\d{4})", stem) if settings["ndim"] == 3 else None
    if match and (len(settings["channels"]) > 1 or match[2] == "0000"):
        return match[1], int(match[2])
    return stem, None


def label_name(name: str, image: Path) -> str:
    """Name of the label file of a case."""
    return f"{name}.png" if ending(image) in IMAGES else f"{name}{ending(image)}"


def read_facts(setting: str | None, cases: Sequence[str]) -> Mapping[str, Settings | None]:
    """Facts of each case, of a file or ``none``; None where nothing is given.

    Raises:
        Refusal: No such file, or one without some of the cases.
    """
    if setting is None or setting == "none":
        return dict.fromkeys(cases, None if setting is None else {})
    try:
        held = json.loads(Path(setting).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"--facts {setting}: not a JSON file that can be read ({error})") from error
    if not isinstance(held, dict) or not all(isinstance(held.get(case), dict) for case in cases):
        absent = [case for case in cases if not isinstance(held, dict) or not isinstance(held.get(case), dict)]
        raise Refusal(f'--facts {setting}: has no facts of {absent[0]}; expected {{"{absent[0]}": {{"age": 54}}}}')
    return held


def write_case_labels(folder: Path, label: Settings | None, probs: Mapping[str, Array | None]) -> None:
    """Write the most probable class of each case, and the probability of each class, if the networks give these."""
    if label is None:
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["case", label["name"], *(f"p({name})" for name in label["values"])])
    for case, prob in ((case, prob) for case, prob in probs.items() if prob is not None):
        rows.writerow([case, label["values"][int(prob.argmax())], *(round(float(p), 6) for p in prob)])
    with draft(folder / "case_labels.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")


def run(arguments: Sequence[str]) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("paths", nargs="+", metavar="INPUT OUTPUT", help="image files or a folder, then the output")
    parser.add_argument("--probabilities", action="store_true", help="write files of probabilities as well")
    parser.add_argument("--facts", help="JSON file with the facts of each case by name, or none")
    parser.add_argument("--threads", type=int, default=0, help="of the network; 0: one for each core")
    options = parser.parse_args(arguments)
    if len(options.paths) < 2:
        parser.error("expected INPUT and OUTPUT")
    *inputs, output = [Path(path) for path in options.paths]
    predictor = Predictor(Path(__file__).parent, options.threads)
    cases = find_cases(inputs, predictor.settings)
    single = len(cases) == 1 and ending(output) in VOLUMES + SCENES + (".png",)
    facts = read_facts(options.facts, [name for name, _ in cases])
    failed, probs = [], {}
    for name, files in cases:
        target = output if single else output / label_name(name, first_of(files))
        try:
            written = predictor.file(files, target, probabilities=options.probabilities, facts=facts[name])
            sys.stdout.write(f"{written}\n")
            probs[name] = predictor.case_prob
        except Refusal as error:
            failed.append(str(error))
    write_case_labels(output.parent if single else output, predictor.case_label, probs)
    for line in failed:
        sys.stderr.write(f"error: {line}\n")
    return 2 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except Refusal as problem:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(2)
