"""nnU-Net's raw layout: imagesTr, labelsTr, imagesTs and a dataset.json of version 1 or 2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medseg import formats
from medseg.data.annotated import JSON_KEY, Annotated, with_annotated
from medseg.data.dataset import Case, Dataset, named_channels
from medseg.data.layout.pairing import pair
from medseg.data.reading.options import Nonfinite, ReadOptions
from medseg.data.splits.groups import grouped
from medseg.errors import InputError
from medseg.geometry.tolerance import GRID_TOLERANCE
from medseg.labels import LabelTable
from medseg.sample import DataSpec

_MOST_BYTES = 256 << 20  # of a dataset.json; the largest published ones list some thousand files in 1 MB


class NnunetDataset(Dataset):
    """A folder in nnU-Net's raw layout.

    ``dataset.json`` declares ``channel_names``, ``labels`` and ``file_ending`` (version 2), or
    ``modality`` and ``labels`` (version 1, files end in ``.nii.gz``). Its ``numTraining`` is not used:
    the files count. ``labelsTs``, where it exists, gives the test cases their labels.

    Args:
        root: The folder, with ``dataset.json`` in it.
        name: The dataset's name; the folder's name by default.
        pairs: (left, right) class names that a mirror across the body exchanges, see ``LabelTable.declare``.
        groups: Groups that splits keep together, see ``splits.groups.grouped``.
        annotated: Classes that cases annotate, where not all annotate every class; see ``data.annotated``.
            None takes ``annotated_classes`` of ``dataset.json``, if it has that key.
        absent: What to do with a case that lacks the files of some channels, see ``ReadOptions``.
        nonfinite: What to do with NaN voxels, see ``ReadOptions``.
        grid_tolerance: In voxels, see ``ReadOptions``.

    Raises:
        InputError: ``dataset.json`` is missing, malformed or incomplete.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        name: str | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        groups: str | None = None,
        annotated: Annotated = None,
        absent: Literal["error", "allow"] = "error",
        nonfinite: Nonfinite = "error",
        grid_tolerance: float = GRID_TOLERANCE,
    ) -> None:
        self.root = Path(root)
        self.name = name or self.root.name
        self.groups = groups
        self.reading = ReadOptions.from_config(nonfinite=nonfinite, grid_tolerance=grid_tolerance, absent=absent)
        path = self.root / "dataset.json"
        declared = read_declaration(path, ["labels"])
        if "modality" not in declared:
            require_keys(declared, ["channel_names", "file_ending"], path)
        self.file_ending: str = declared.get("file_ending", ".nii.gz")
        if self.file_ending not in formats.suffixes("volume"):
            raise InputError(
                f"{path}: file_ending is {self.file_ending!r}, expected one of {list(formats.suffixes('volume'))}; "
                "convert the files"
            )
        self._spec = declared_spec(declared, path, pairs)
        self._annotated = annotated_by(annotated, declared, path)

    @property
    def spec(self) -> DataSpec:
        """What ``dataset.json`` declares."""
        return self._spec

    def cases(self) -> list[Case]:
        """Pairs of imagesTr and labelsTr."""
        cases = grouped(self._pair("imagesTr", "labelsTr"), self.groups)
        return with_annotated(cases, **self._annotated, labels=self.spec.labels, further=self._tests)

    def test_cases(self) -> list[Case]:
        """Cases of imagesTs, with labelsTs where there is such a folder; empty without imagesTs."""
        return with_annotated(self._tests(), **self._annotated, labels=self.spec.labels)

    def _tests(self) -> list[Case]:
        if not (self.root / "imagesTs").is_dir():
            return []
        return self._pair("imagesTs", "labelsTs" if (self.root / "labelsTs").is_dir() else None)

    def _pair(self, images: str, labels: str | None) -> list[Case]:
        return pair(
            self.root / images,
            self.root / labels if labels else None,
            len(self.spec.channels),
            endings=[self.file_ending],
            absent=self.reading.absent == "allow",
        )


def read_declaration(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Content of a ``dataset.json`` that has at least these keys.

    Raises:
        InputError: No such file, no JSON object, or a key is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; set data.root to a folder with a dataset.json, or use data=volumes")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES} bytes")
        declared = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); fix the file") from error
    if not isinstance(declared, dict):
        raise InputError(f"{path}: holds a {type(declared).__name__}, expected an object with the keys {list(keys)}")
    require_keys(declared, keys, path)
    return declared


def require_keys(declared: Mapping[str, Any], keys: Sequence[str], path: Path) -> None:
    """Raise ``InputError`` with the keys that are missing, if any are."""
    missing = [key for key in keys if key not in declared]
    if missing:
        raise InputError(f"{path}: missing keys {missing}, found {sorted(declared)}; add them")


def declared_spec(declared: Mapping[str, Any], path: Path, pairs: Sequence[Sequence[str]] | None = None) -> DataSpec:
    """Channels and label table of a ``dataset.json`` of either version.

    Args:
        declared: Channel names by number under ``channel_names`` or ``modality``; ``labels`` as name to
            value or values (with ``regions_class_order`` if any has several), or as value to name; ``codes``, if
            any, as ``LabelTable.with_codes`` takes them.
        path: Named in errors.
        pairs: (left, right) class names, see ``LabelTable.declare``.

    Raises:
        InputError: Channels not numbered 0, 1, ..., or labels that are no integers.
    """
    names = declared.get("channel_names", declared.get("modality"))
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))) or not names:
        raise InputError(f'{path}: channels are {names}, expected {{"0": name, "1": name, ...}} without a gap')
    values = _values(declared["labels"], path)
    order = declared.get("regions_class_order")
    if order is not None and not (isinstance(order, list) and all(map(_is_value, order))):
        raise InputError(f"{path}: regions_class_order is {str(order)[:200]}, expected a list of integers")
    table = LabelTable.declare(values, regions_class_order=order, pairs=pairs)
    table = table.with_codes(declared.get("codes"), f"{path}: codes")
    channels = named_channels([str(names[str(i)]) for i in range(len(names))])
    return DataSpec(channels=channels, labels=table, ndim=3)


def annotated_by(annotated: Annotated, declared: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Arguments of ``with_annotated``: the setting, else that of a ``dataset.json``.

    Args:
        annotated: The setting.
        declared: Content of the file.
        path: The file, named in errors.
    """
    if annotated is not None or JSON_KEY not in declared:
        return {"annotated": annotated}
    return {"annotated": declared[JSON_KEY], "key": f"{path}: {JSON_KEY}"}


def _values(labels: object, path: Path) -> dict[str, int | list[int]]:
    """Value or values by class name, of ``labels`` in either direction."""
    wrong = InputError(f"{path}: labels are {str(labels)[:200]}, expected class names with integer values")
    if not isinstance(labels, dict) or not labels:
        raise wrong
    try:
        values = {str(name): _integers(value) for name, value in _by_name(labels).items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error
    if not all(map(_are_values, values.values())):
        raise wrong
    return values


def _by_name(labels: Mapping[object, object]) -> Mapping[object, object]:
    """Value by name, of a mapping in either direction.

    Raises:
        TypeError: A value with something else than a name.
    """
    if not all(str(key).lstrip("-").isdigit() for key in labels):
        return labels
    if not all(isinstance(name, str) for name in labels.values()):
        raise TypeError("a name that is no text")
    return {name: value for value, name in labels.items()}


def _integers(value: Any) -> int | list[int]:
    """A value or a list of values as integers."""
    return [int(v) for v in value] if isinstance(value, list) else int(value)


def _are_values(value: int | list[int]) -> bool:
    """Whether a label file may hold a value, or each value of a list that is not empty."""
    return bool(value) and all(map(_is_value, value)) if isinstance(value, list) else _is_value(value)


def _is_value(value: object) -> bool:
    """Whether a label file may hold this value."""
    return isinstance(value, int) and -(1 << 31) <= value < 1 << 31
