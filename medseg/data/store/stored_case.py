"""Patch store: preprocessed cases as chunked, compressed arrays from which windows are read.

A case is a folder: ``image.b2nd`` ``[c, *s]`` (of a time series ``[t, c, *s]``) float32, ``label.b2nd`` ``[*s]``
int16, ``votes.b2nd`` ``[r, *s]`` int16 (labels of several observers, only where patches take them), ``valid.b2nd``
``[*s]`` (only where some cell is invalid), ``cells.npz`` (cells by class, ``cell_index``) and ``case.json`` (grid,
trace, group, counts, days, absent channels, checksums of the arrays). The folder's name ends in a
key of the source files' content and of the preprocessing settings, and it appears by one rename: a case is there whole,
or not at all. A case that is read from its files while training has the folder without the three arrays.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import blosc2
import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.data.case import Observers
from medseg.data.preprocessing.preprocess import PreprocessTrace
from medseg.data.store.cell_index import CellIndex, valid_share
from medseg.data.store.checked_array import CheckedArray, record_of
from medseg.errors import InputError
from medseg.facts import CaseFacts
from medseg.geometry.box import Box, read_padded
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE
from medseg.runtime.atomic import atomic_folder
from medseg.runtime.disk import naming
from medseg.sample import Sample

DRAFT = ".building-"
"""Beginning of the names of folders that are being written."""


class DamagedEntry(InputError):
    """A prepared case whose files can't be read as they were written; the store is only a cache of it.

    A loader process hands it on with its traceback in front, of which the line is left here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("DamagedEntry: ")[2].strip())


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Around all that reads an entry of the store.

    Raises:
        DamagedEntry: A file is missing, cut short or altered.
    """
    try:
        yield
    except DamagedEntry:
        raise
    except (
        FileNotFoundError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        ArithmeticError,
        SyntaxError,  # blosc2 parses the type of cells
        EOFError,
        BadZipFile,
        zlib.error,
    ) as error:
        raise DamagedEntry(
            f"{folder}: the prepared case is damaged ({type(error).__name__}); delete this folder, which is "
            "only a cache, and repeat the command (a training with ckpt_path=last)"
        ) from error


@dataclass(frozen=True)
class StoredCase:
    """One case of the store; arrays open when first read.

    Attributes:
        folder: Folder of the case.
        facts: What a table says about the case, which is not stored with its cells; None without a table.
        observers: Whose labels are stored too; None where patches take the joined one.
    """

    folder: Path
    facts: CaseFacts | None = None
    observers: Observers | None = None

    @cached_property
    def stored(self) -> dict[str, Any]:
        """The content of ``case.json``."""
        with _reading(self.folder):
            stored: dict[str, Any] = json.loads((self.folder / "case.json").read_text(encoding="utf-8"))
            if stored.pop("crc32", None) != _checksum(stored):
                raise ValueError("case.json differs from its checksum")
            return stored

    @property
    def case(self) -> str:
        """Case identifier."""
        return str(self.stored["case"])

    @property
    def group(self) -> str:
        """What splits may not tear apart."""
        return str(self.stored["group"])

    def __reduce__(self) -> tuple[object, ...]:
        return StoredCase, (self.folder, self.facts, self.observers)  # open arrays are not sent to another process

    @cached_property
    def grid(self) -> Grid:
        """Geometry of the whole case."""
        return Grid.from_dict(self.stored["grid"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return self.grid.shape

    @cached_property
    def trace(self) -> PreprocessTrace:
        """What preprocessing did to the case's geometry."""
        return PreprocessTrace.from_dict(self.stored["trace"])

    @property
    def n_valid(self) -> int:
        """Number of valid cells."""
        return int(self.stored["n_valid"])

    @property
    def counts(self) -> dict[str, int]:
        """Valid cells of each scored class or region; ``annotated`` ones too, where some are not."""
        return dict(self.stored["counts"])

    @cached_property
    def annotated(self) -> npt.NDArray[np.bool_] | None:
        """Which outputs of a network the label annotates; None for all."""
        flags = self.stored.get("annotated")
        return None if flags is None else np.array(flags, dtype=bool)

    @cached_property
    def _index(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        path = self.folder / "cells.npz"
        # opened here, as numpy leaves a file open that is no archive
        with _reading(self.folder), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    @cached_property
    def cells(self) -> dict[str, npt.NDArray[np.int32]]:
        """Cells ``[n, d]`` by class or region, drawn evenly from all; only those that have any."""
        return {n.removeprefix("of "): v for n, v in self._index.items() if n.startswith("of ") and len(v)}

    def valid_share(self, box: Box) -> float:
        """About which share of the cells of ``box`` is valid, in [0, 1]; exact where every cell of the case is."""
        return valid_share(self._index["valid"], self.shape, box)

    @cached_property
    def _image(self) -> Any:
        return self._opened("image")

    @cached_property
    def _label(self) -> Any:
        return self._opened("label")

    @cached_property
    def _votes(self) -> Any:
        return self._opened("votes") if "votes" in self.stored["arrays"] else None

    @cached_property
    def _valid(self) -> Any:
        return self._opened("valid") if "valid" in self.stored["arrays"] else None

    def _opened(self, name: str) -> CheckedArray:
        with _reading(self.folder):
            return CheckedArray(self.folder / f"{name}.b2nd", self.stored["arrays"][name])

    def check(self, *, arrays: bool = True) -> None:
        """Read what is small, and open the arrays, whose cells are not decoded.

        Args:
            arrays: Whether the case has arrays.

        Raises:
            DamagedEntry: A file is missing, cut short or altered.
        """
        with _reading(self.folder):
            _ = self._index, self.grid, self.trace, self.n_valid, self.counts
            if not arrays:
                return
            for array in (self._image, self._label, self._votes, self._valid):
                if array is not None and tuple(array.shape[-len(self.shape) :]) != self.shape:
                    raise ValueError(f"an array has the shape {tuple(array.shape)}, expected {self.shape}")

    def read(self, box: Box | None = None, *, votes: Sequence[int] = ()) -> Sample:
        """The window ``box`` of the case (or all of it); outside the case, image 0 and not valid.

        Only the chunks that the window touches are decoded, and only the observers that are asked for.

        Args:
            box: See above.
            votes: Numbers of observers whose labels are read too.
        """
        box = box or Box.whole(self.shape)
        series: dict[str, Any] = {}
        if (days := self.stored.get("days")) is not None:
            there = np.array([day is not None for day in days])
            series["present"] = np.repeat(there[:, None], self._image.shape[1], axis=1)
            series["days"] = np.array([day or 0 for day in days], dtype=np.int64)
        if (present := self.stored.get("present")) is not None:
            series["present"] = np.array(present, dtype=bool)
        if (annotated := self.annotated) is not None:
            series["annotated"] = annotated
        with _reading(self.folder):
            image, label = read_padded(self._image, box, 0), read_padded(self._label, box, IGNORE)
            series["votes"] = self._read_votes(box, votes)
            valid = within(box, self.shape) if self._valid is None else read_padded(self._valid, box, 0).astype(bool)
        return Sample(
            image=image,
            label=label,
            valid=valid,
            grid=self.grid if box == Box.whole(self.shape) else self.grid.crop(box),
            case=self.case,
            group=self.group,
            facts=self.facts,
            **series,
        )

    def _read_votes(self, box: Box, votes: Sequence[int]) -> npt.NDArray[np.int16] | None:
        """Labels of some of the observers in a window; None of none."""
        own = [read_padded(_Row(self._votes, i), box, IGNORE)[0] for i in votes]
        return np.stack(own) if own else None


class _Row:
    """One row of an array ``[r, *s]``, as an array ``[1, *s]``: others are not decoded."""

    def __init__(self, array: CheckedArray, row: int) -> None:
        self._array, self._row = array, slice(row, row + 1)
        self.shape = (1, *array.shape[1:])

    def __getitem__(self, window: tuple[slice, ...]) -> Shaped[np.ndarray, "..."]:
        return self._array[(self._row, *window[1:])]


def _checksum(facts: dict[str, object]) -> int:
    """Of the content of ``case.json`` without itself."""
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def within(box: Box, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Cells of a box that lie inside an array of this shape."""
    inside = np.zeros(box.shape, dtype=bool)
    inside[box.clip(shape).shift([-a for a in box.start]).slices] = True
    return inside


def write_case(
    folder: Path,
    windows: Iterable[tuple[Box, Sample]],
    grid: Grid,
    trace: PreprocessTrace,
    targets: Iterable[tuple[str, tuple[int, ...]]],
    patch: tuple[int, ...],
    *,
    arrays: bool = True,
) -> StoredCase:
    """Write a preprocessed case into ``folder`` in one rename, chunked for windows of about ``patch``.

    Args:
        folder: Appears when all is written.
        windows: Boxes that cover the case without overlap, with the prepared sample of each; one is
            held in memory at a time. Boxes should begin at multiples of ``patch``.
        grid: Grid of the case.
        trace: Changes of its geometry by preprocessing.
        targets: Scored structures, whose cells are listed.
        patch: Cells of a training patch.
        arrays: Store the cells themselves; if not, only what is known about them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, DRAFT) as building:
        index = CellIndex(grid.shape, targets)
        file = _Arrays(building, grid.shape, patch) if arrays else None
        case, group, labelled, series = "", "", False, {}
        for box, sample in windows:
            labelled = sample.label is not None
            label = np.full(box.shape, IGNORE, np.int16) if sample.label is None else sample.label.astype(np.int16)
            index.add(box, np.where(sample.valid, label, np.int16(IGNORE)), sample.valid)
            if file:
                file.add(box, sample, label)
            case, group, series = sample.case, sample.group, _presence(sample) | _annotation(sample)
        with naming(folder):
            np.savez(building / "cells.npz", **index.arrays())  # type: ignore[arg-type]
        metadata = {
            "case": case,
            "group": group,
            "grid": grid.to_dict(),
            "trace": trace.to_dict(),
            "labelled": labelled,
            "n_valid": index.n_valid,
            "counts": index.counts,
            **series,
        }
        metadata["arrays"] = {name: record_of(array) for name, array in file.made.items()} if file else {}
        metadata["crc32"] = _checksum(metadata)
        (building / "case.json").write_text(json.dumps(metadata))
    return StoredCase(folder)


def _annotation(sample: Sample) -> dict[str, Any]:
    """Which outputs the label annotates, if not all."""
    return {} if sample.annotated is None else {"annotated": sample.annotated.tolist()}


def _presence(sample: Sample) -> dict[str, Any]:
    """The dates of a time series, None for slots without one; which channels an image has, if it lacks some."""
    if sample.present is None:
        return {}
    if sample.days is None:
        return {"present": sample.present.tolist()}
    there = [bool(here.any()) for here in sample.present]
    days = [int(day) if here else None for day, here in zip(sample.days, there, strict=True)]
    partly = bool((sample.present.any(axis=1) & ~sample.present.all(axis=1)).any())
    return {"days": days, **({"present": sample.present.tolist()} if partly else {})}


class _Arrays:
    """The arrays of a case, filled window by window.

    A chunk is decoded by blocks. blosc2 would make them of whole rows of the chunk, of which a window that lies
    across chunks needs a part: windows of 256 x 256 of a scene take a third less time from blocks of 64 x 64, and
    those of 64 x 128 x 128 of a volume from blocks of 32 x 32 x 32.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
        self.folder, self.shape = folder, shape
        self.chunks = tuple(min(p, s) for p, s in zip(patch, shape, strict=True))
        self.blocks = tuple(_even_part(n, 64 if len(shape) == 2 else 32) for n in self.chunks)
        self.made: dict[str, Any] = {}

    def add(self, box: Box, sample: Sample, label: npt.NDArray[np.int16]) -> None:
        self._put("image", sample.image, box, 0)
        self._put("label", label, box, 0)
        if sample.votes is not None:
            self._put("votes", sample.votes.astype(np.int16), box, 0)
        if "valid" in self.made or not sample.valid.all():
            self._put("valid", sample.valid.astype(np.uint8), box, 1)

    def _put(self, name: str, cells: Shaped[np.ndarray, "..."], box: Box, fill: int) -> None:
        lead = cells.shape[: cells.ndim - len(self.shape)]
        if name not in self.made:
            self.made[name] = blosc2.full(
                (*lead, *self.shape),
                fill,
                dtype=cells.dtype,
                urlpath=str(self.folder / f"{name}.b2nd"),
                chunks=(*(1 for _ in lead), *self.chunks),
                blocks=(*(1 for _ in lead), *self.blocks),
                cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1},
            )
        self.made[name][(*(slice(None) for _ in lead), *box.slices)] = np.ascontiguousarray(cells)


def _even_part(n: int, most: int) -> int:
    """Cells of each of the fewest equal parts of ``n`` cells that have at most ``most``; the last may be smaller.

    Example:
        >>> _even_part(256, 64), _even_part(40, 32), _even_part(5, 32)
        (64, 20, 5)
    """
    return -(-n // -(-n // most))
