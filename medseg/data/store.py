"""Patch store: preprocessed cases as chunked, compressed arrays from which windows are read.

A case is a folder: ``image.b2nd`` ``[c, *s]`` float32, ``label.b2nd`` ``[*s]`` int16, ``valid.b2nd``
``[*s]`` (only where some cell is invalid), ``cells.npz`` (foreground cells by class) and ``case.json``
(grid, trace, group). The folder's name ends in a key of the source files' content and of the
preprocessing settings, and it appears by one rename: a case is there whole, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from medseg.data.preprocess import Trace
from medseg.geometry.box import Box, read_padded
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE
from medseg.sample import Sample

_VERSION = 1
_CELLS_SEED = 1234


def content_key(files: Iterable[Path], settings: Mapping[str, Any], *, memory: dict[str, str] | None = None) -> str:
    """Hexadecimal key of the files' bytes and of JSON-able settings.

    Args:
        files: Files or folders (a DICOM series), in an order that matters.
        settings: What else the result depends on.
        memory: Digests of files already read, by path, size and modification time; filled here.
    """
    known = {} if memory is None else memory
    total = hashlib.blake2b(json.dumps([_VERSION, settings], sort_keys=True).encode(), digest_size=16)
    for path in files:
        for part in sorted(path.iterdir()) if path.is_dir() else [path]:
            stat = part.stat()
            name = f"{part.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
            if name not in known:
                with part.open("rb") as stream:
                    known[name] = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(known[name].encode())
    return total.hexdigest()


class Digests:
    """Content digests of files already read, kept in one JSON file of the store.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def save(self) -> None:
        """Write the file in one rename."""
        write_whole(self.path, json.dumps(self.memory))


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one rename, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.write_text(text)
    os.replace(building, path)


def foreground_cells(
    label: npt.NDArray[np.integer[Any]], targets: Iterable[tuple[str, tuple[int, ...]]]
) -> dict[str, npt.NDArray[np.int32]]:
    """Cells of each scored class or region, as indices ``[n, d]``.

    Of N cells, ``max(min(10000, N), ceil(N / 100))`` are kept, drawn without replacement with a fixed
    seed (nnU-Net 4.5). ``annotated`` holds cells that are not ``IGNORE``, where some are.
    """
    rng = np.random.default_rng(_CELLS_SEED)
    found = {}
    masks = [(name, np.isin(label, members)) for name, members in targets]
    if (label == IGNORE).any():
        masks.append(("annotated", label != IGNORE))
    for name, mask in masks:
        flat = np.flatnonzero(mask)
        kept = max(min(10_000, len(flat)), -(-len(flat) // 100))
        flat = rng.choice(flat, size=kept, replace=False) if kept < len(flat) else flat
        found[name] = np.stack(np.unravel_index(flat, label.shape), axis=1).astype(np.int32)
    return found


@dataclass(frozen=True)
class StoredCase:
    """One case of the store; arrays open when first read.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The content of ``case.json``."""
        stored: dict[str, Any] = json.loads((self.folder / "case.json").read_text())
        return stored

    @property
    def case(self) -> str:
        """Case identifier."""
        return str(self.facts["case"])

    @cached_property
    def grid(self) -> Grid:
        """Geometry of the whole case."""
        return Grid.from_dict(self.facts["grid"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return self.grid.shape

    @cached_property
    def trace(self) -> Trace:
        """What preprocessing did to the case's geometry."""
        return Trace.from_dict(self.facts["trace"])

    @cached_property
    def cells(self) -> dict[str, npt.NDArray[np.int32]]:
        """Foreground cells ``[n, d]`` by class or region; only those that have any."""
        with np.load(self.folder / "cells.npz", allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if len(stored[name])}

    @cached_property
    def _image(self) -> Any:
        return blosc2.open(str(self.folder / "image.b2nd"), mode="r")

    @cached_property
    def _label(self) -> Any:
        return blosc2.open(str(self.folder / "label.b2nd"), mode="r")

    @cached_property
    def _valid(self) -> Any:
        path = self.folder / "valid.b2nd"
        return blosc2.open(str(path), mode="r") if path.exists() else None

    def read(self, box: Box | None = None) -> Sample:
        """The window ``box`` of the case (or all of it); outside the case, image 0 and not valid.

        Only the chunks that the window touches are decoded.
        """
        box = box or Box.whole(self.shape)
        if self._valid is None:
            inside = np.zeros(box.shape, dtype=bool)
            inner = box.clip(self.shape)
            inside[inner.shift([-a for a in box.start]).slices] = True
        else:
            inside = read_padded(self._valid, box, 0).astype(bool)
        return Sample(
            image=read_padded(self._image, box, 0),
            label=read_padded(self._label, box, IGNORE),
            valid=inside,
            grid=self.grid if box == Box.whole(self.shape) else self.grid.crop(box),
            case=self.case,
            group=str(self.facts["group"]),
        )


def write_case(
    folder: Path, sample: Sample, trace: Trace, targets: Iterable[tuple[str, tuple[int, ...]]], patch: tuple[int, ...]
) -> StoredCase:
    """Write a preprocessed case into ``folder`` in one rename, chunked for windows of about ``patch``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    label = np.full(sample.grid.shape, IGNORE, np.int16) if sample.label is None else sample.label.astype(np.int16)
    chunks = tuple(min(p, s) for p, s in zip(patch, sample.grid.shape, strict=True))
    arrays = {"image": (sample.image, (1, *chunks)), "label": (label, chunks)}
    if not sample.valid.all():
        arrays["valid"] = (sample.valid.astype(np.uint8), chunks)
    try:
        for name, (array, chunk) in arrays.items():
            blosc2.asarray(
                np.ascontiguousarray(array),
                urlpath=str(building / f"{name}.b2nd"),
                chunks=chunk,
                cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1},
            )
        np.savez(building / "cells.npz", **foreground_cells(np.where(sample.valid, label, IGNORE), targets))  # type: ignore[arg-type]
        facts = {
            "case": sample.case,
            "group": sample.group,
            "grid": sample.grid.to_dict(),
            "trace": trace.to_dict(),
            "labelled": sample.label is not None,
        }
        (building / "case.json").write_text(json.dumps(facts))
        try:
            os.rename(building, folder)
        except OSError:
            if not folder.is_dir():  # else another process wrote the same content first
                raise
            shutil.rmtree(building)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return StoredCase(folder)
