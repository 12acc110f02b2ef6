"""FilePatterns: which files of a folder tree are the image, label and field of view of a case."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from medseg.data.case import ABSENT_HINT, Case, refuse
from medseg.errors import InputError

_Files = dict[str, Path]
"""File of each case."""


@dataclass(frozen=True)
class FilePatterns:
    r"""Patterns for the files of cases, so that a dataset is read in the layout in which it is published.

    Each is a regular expression for the whole path of a file below the dataset's folder, with ``/`` between
    names. Its group ``case`` is the case's id, with ``_`` for each ``/``; a group ``part`` is put before it,
    as in ``training_scan1``, so that ``split.val_cases=[validation_*]`` keeps a published split. Files without a
    pattern are ignored, like hidden ones and those in hidden folders.

    Attributes:
        image: A pattern for each file of a case, in the order of its channels.
        label: Pattern of the label; None for cases without labels.
        valid: Pattern of the validity mask (field of view), 0 where cells do not count; None for none.
        test_image: A pattern for each file of a case of the test set; empty for none.
        test_label: Pattern of the label in the test set; None for none.
        test_valid: Pattern of the validity mask in the test set; None for none.

    Example:
        >>> FilePatterns.from_config({"image": r"(?P<case>case_\d+)/imaging\.nii\.gz"}).image
        ('(?P<case>case_\\d+)/imaging\\.nii\\.gz',)
    """

    image: tuple[str, ...]
    label: str | None = None
    valid: str | None = None
    test_image: tuple[str, ...] = ()
    test_label: str | None = None
    test_valid: str | None = None

    @classmethod
    def from_config(cls, settings: Mapping[str, str | Sequence[str] | None]) -> FilePatterns:
        """Patterns of ``data.names``.

        Raises:
            InputError: Unknown keys, no pattern for images, or an invalid pattern.
        """
        names = [f.name for f in fields(cls)]
        if unknown := sorted(set(settings) - set(names)):
            raise InputError(f"data.names: got {unknown}, expected some of {names}")
        patterns = {key: value for key, value in settings.items() if value}
        if "image" not in patterns:
            raise InputError("data.names: image is missing; give the pattern of images, such as '(?P<case>.+)\\.tif'")
        return cls(**{key: _checked(key, value) for key, value in patterns.items()})

    def cases(self, root: Path, *, test: bool = False, absent: bool = False) -> list[Case]:
        """Cases of the files below ``root``, sorted by id, each its own group; those of the test set with ``test``.

        Args:
            root: Folder of the dataset.
            test: Whether those of the test set are wanted.
            absent: Whether a case may lack files of some patterns of images.

        Raises:
            InputError: No such folder, a pattern without a file, two files of a case for one pattern, or a case
                without one of its files.
        """
        prefix = "test_" if test else ""
        images = self.test_image if test else self.image
        if not images:
            return []
        paths, image_key = _below(root), f"{prefix}image"
        channels = [_matching(root, paths, pattern, image_key) for pattern in images]
        files_of_all = self._siblings(root, paths, (f"{prefix}label", f"{prefix}valid"))
        labels, masks = files_of_all.get(f"{prefix}label", {}), files_of_all.get(f"{prefix}valid", {})
        first = dict(ChainMap(*channels)) if absent else channels[0]
        of_images = [] if absent else [(image_key, files) for files in channels[1:]]
        others = [*of_images, *files_of_all.items()]
        for key, files in others:
            _check_paired(root, first, files, image_key, key)
        names = sorted(set(first).intersection(*(files for _, files in others)))
        return [_case(name, channels, labels.get(name), masks.get(name)) for name in names]

    def _siblings(self, root: Path, paths: Sequence[str], keys: Sequence[str]) -> dict[str, _Files]:
        """Files of each of these keys that has a pattern."""
        patterns: dict[str, str | None] = {key: getattr(self, key) for key in keys}
        return {key: _matching(root, paths, pattern, key) for key, pattern in patterns.items() if pattern}

    def images_in(self, root: Path, *, absent: bool = False) -> list[Case]:
        """Cases of new images in the layout of the training images or, without any, of the test images.

        Args:
            root: Folder of the images.
            absent: Whether a case, or all of them, may lack files of some patterns.

        Returns:
            Cases without labels; empty where no file matches.

        Raises:
            InputError: As for ``cases``.
        """
        paths = _below(root)
        for patterns in (self.image, self.test_image):
            matching = [any(map(_compiled(pattern, "image").fullmatch, paths)) for pattern in patterns]
            if any(matching):
                numbers = [n for n, some in enumerate(matching) if some or not absent]
                cases = FilePatterns(image=tuple(patterns[n] for n in numbers)).cases(root, absent=absent)
                return [_renumbered(case, numbers, len(patterns)) for case in cases]
        return []


def _case(name: str, channels: Sequence[_Files], label: Path | None, valid: Path | None) -> Case:
    """A case of its files of some patterns of images."""
    images = tuple(files[name] for files in channels if name in files)
    absent = tuple(number for number, files in enumerate(channels) if name not in files)
    return Case(name, images, label, name, valid=valid, absent=absent)


def _renumbered(case: Case, numbers: Sequence[int], total: int) -> Case:
    """The case of some patterns, by their numbers, as a case of all."""
    there = {number for place, number in enumerate(numbers) if place not in case.absent}
    return replace(case, absent=tuple(number for number in range(total) if number not in there))


def _below(root: Path) -> list[str]:
    """Paths of the files below a folder, sorted, with ``/`` between names; hidden ones left out."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; set data.root to the folder of the dataset")
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(name.startswith(".") for name in path.parts))


def _matching(root: Path, paths: Sequence[str], pattern: str, key: str) -> _Files:
    """The file of each case that a pattern matches; at least one."""
    compiled, files = _compiled(pattern, key), _Files()
    repeated = []
    for path in paths:
        if (match := compiled.fullmatch(path)) is None:
            continue
        part = match.groupdict().get("part")
        name = "_".join(text.replace("/", "_") for text in (part, match["case"]) if text)
        if name in files:
            repeated.append(f"{name} ({files[name].relative_to(root).as_posix()} and {path})")
        files.setdefault(name, root / path)
    refuse(
        repeated, f"case(s) in {root} with two files that data.names.{key} finds", "let its group case tell them apart"
    )
    if not files:
        such = f"such as {paths[0]}" if paths else "none at all"
        raise InputError(
            f"{root}: none of its {len(paths)} files ({such}) is what data.names.{key}={pattern} describes; check "
            "data.root, the folder of the dataset as it was unpacked, fix the pattern, or drop it (null)"
        )
    return files


def _check_paired(root: Path, images: _Files, others: _Files, image_key: str, key: str) -> None:
    """Report cases with a file for one of two patterns only."""
    for lacking, having, names in (
        (key, image_key, sorted(set(images) - set(others))),
        (image_key, key, sorted(set(others) - set(images))),
    ):
        refuse(
            names,
            f"case(s) in {root} have a file of data.names.{having} and none of data.names.{lacking}",
            "add the files, or take the others out" + (ABSENT_HINT if key == image_key else ""),
        )


def _checked(key: str, value: str | Sequence[str] | None) -> Any:
    """The pattern of a key, or a tuple of them for images.

    Raises:
        InputError: A pattern that is none, or several where a case has one file.
    """
    patterns = (value,) if isinstance(value, str) else tuple(value or ())
    for pattern in patterns:
        _compiled(pattern, key)
    if key.endswith("image"):
        return patterns
    if not isinstance(value, str):
        raise InputError(f"data.names.{key}: got a list, expected one pattern, as a case has one such file")
    return value


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    """The regular expression of a key, with the group of the case's id."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.names.{key}={pattern}: is no regular expression ({error}); fix it") from error
    if "case" not in compiled.groupindex:
        raise InputError(f"data.names.{key}={pattern}: needs the group (?P<case>...), which is the case's id")
    return compiled
