"""Fix: a corrected copy of a dataset; what is ambiguous is left to a person, and the source is never touched."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg.data.dataset import Dataset
from medseg.doctor.finding import Finding, Repair
from medseg.doctor.survey import CaseFacts, Survey, root_of
from medseg.errors import InputError
from medseg.geometry.grid import reorient

_LEFT_OUT = ("unreadable",)
"""Checks whose cases are not copied, as nothing can be read there."""


def write_fixed(dataset: Dataset, survey: Survey, findings: Sequence[Finding], target: Path) -> Path:
    """Copy the complete cases of a dataset, each file corrected as the findings say.

    Files that are not of a case (orphans) and cases that can't be read are left out; ``dataset.json`` and tables
    at the top of the folder are copied.

    Args:
        dataset: The dataset, which has a folder.
        survey: Its facts.
        findings: The findings, with repairs.
        target: Folder of the copy, which must be empty or absent.

    Raises:
        InputError: The dataset has no folder, the target is not empty, or inside the dataset.
    """
    root = _checked_root(dataset, target)
    lost = {case for f in findings if f.check in _LEFT_OUT for case in f.cases}
    remaining = [facts for facts in survey.cases if facts.id not in lost]
    repairs: dict[Path, list[Repair]] = defaultdict(list)
    for repair in chain.from_iterable(finding.repairs for finding in findings):
        repairs[repair.path].append(repair)
    for path in _files(root, remaining):
        copy = target / path.relative_to(root)
        _copy(path, copy)
        for repair in repairs[path]:
            _KINDS[repair.kind](copy, **repair.settings)
    return target


def _checked_root(dataset: Dataset, target: Path) -> Path:
    """Folder of the dataset, if it can be copied to the target."""
    root = root_of(dataset)
    if root is None or not root.is_dir():
        raise InputError("fix=true copies the files below data.root, and this dataset has none; choose another data=")
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{target}: the copy needs an empty folder; delete it, or choose another output=DIR")
    if target.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{target}: is inside the dataset; choose an output=DIR outside of {root}")
    return root


def _copy(path: Path, copy: Path) -> None:
    """A file, or a folder that holds one volume."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, copy)
    else:
        shutil.copy2(path, copy)


def _files(root: Path, remaining: Iterable[CaseFacts]) -> list[Path]:
    """Files of the cases, and those at the top of the folder that are no images."""
    of_cases = {path for facts in remaining for path in facts.case.files}
    outside = [path for path in of_cases if not path.is_relative_to(root)]
    if outside:
        raise InputError(f"{outside[0]}: is outside of {root}, so fix=true can't copy it; move it there")
    others = [p for p in root.iterdir() if p.is_file() and p.suffix.lower() in (".json", ".csv", ".txt", ".md")]
    return sorted(of_cases | set(others))


def _round(path: Path) -> None:
    """Whole numbers in a small integer type."""
    source = formats.open(path)
    values = np.rint(source.read()[0]).astype(np.int64)
    _rewrite(path, values, like=path)


def _remap(path: Path, *, values: Mapping[str, int]) -> None:
    """Other values for some."""
    raw = formats.open(path).read()[0].astype(np.int64)
    cells = raw.copy()
    for old, new in values.items():
        cells[raw == int(old)] = int(new)
    _rewrite(path, cells, like=path)


def _geometry(path: Path, *, like: str) -> None:
    """The geometry of another file of the same shape."""
    source = formats.open(path)
    _rewrite(path, source.read()[0], like=Path(like))


def _reorient(path: Path, *, axes: Sequence[int], flips: Sequence[bool], like: str) -> None:
    """The cells in the order of another file."""
    source = formats.open(path)
    cells = np.ascontiguousarray(reorient(source.read(), axes, flips)[0])
    _rewrite(path, cells, like=Path(like))


def _rewrite(path: Path, values: np.ndarray, *, like: Path) -> None:
    """Write one channel on the grid of ``like``, integers in the smallest type of 8 bits or more that holds them."""
    if values.dtype.kind in "iu" and values.dtype.itemsize > 1:
        kinds = (np.uint8, np.int16, np.uint16, np.int32)
        low, high = int(values.min()), int(values.max())
        values = values.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))
    formats.write(path, values, formats.open(like).grid, like=like)


def _nodata(path: Path, *, value: float | str) -> None:
    """The tag of a GeoTIFF that names its nodata value; no cell changes."""
    import rasterio

    with rasterio.open(path, "r+") as scene:
        scene.nodata = float(value)


def _qform(path: Path) -> None:
    """The sform as the qform too; where its axes are skewed, which a qform can't hold, the qform is dropped."""
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError

    image: Any = nib.load(path, mmap=False)
    header, affine = image.header.copy(), image.affine
    code = int(header["sform_code"])
    try:
        header.set_qform(affine, code=code, strip_shears=False)
    except HeaderDataError:
        header.set_qform(None, code=0)
    stored = np.asanyarray(image.dataobj.get_unscaled())
    slope, inter = image.dataobj.slope, image.dataobj.inter
    header.set_slope_inter(slope, inter)
    part = path.with_name(f".{path.name}")
    fixed = type(image)(stored, None, header, dtype=stored.dtype)
    fixed.header.set_slope_inter(slope, inter)
    fixed.to_filename(part)
    part.replace(path)


_KINDS: dict[str, Callable[..., None]] = {
    "round": _round, "remap": _remap, "geometry": _geometry, "reorient": _reorient, "nodata": _nodata, "qform": _qform,
}  # fmt: skip
