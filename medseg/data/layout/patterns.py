"""FilePatterns: which files of a folder tree are the image, label and field of view of a case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from medseg.data.case import Case, refuse
from medseg.errors import InputError

_Found = dict[str, Path]
"""File of each case."""


@dataclass(frozen=True)
class FilePatterns:
    r"""Patterns for the files of cases, so that a dataset is read in the layout in which it is published.

    Each is a regular expression for the whole path of a file below the dataset's folder, with ``/`` between
    names. Its group ``case`` is the case's id, with ``_`` for each ``/``; a group ``part`` is put before it,
    as in ``training_scan1``, so that ``data.val_cases=[validation_*]`` keeps a published split. Files that no
    pattern knows are passed over, and so are hidden ones and those in hidden folders.

    Attributes:
        image: A pattern for each file of a case, in the order of its channels.
        label: Of its label; None for cases without any.
        valid: Of its validity mask (field of view), 0 where cells do not count; None for none.
        test_image: The same for a test set; empty for none.
        test_label: Of the test set; None where it has no labels.
        test_valid: Likewise.

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
        """From ``data.names``.

        Raises:
            InputError: Unknown keys, no pattern for images, or a pattern that is none.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise InputError(f"data.names: got {unknown}, expected some of {known}")
        given = {key: patterns for key, patterns in settings.items() if patterns}
        if "image" not in given:
            raise InputError("data.names: image is missing; give the pattern of images, such as '(?P<case>.+)\\.tif'")
        several: dict[str, tuple[str, ...]] = {}
        single: dict[str, str] = {}
        for key, patterns in given.items():
            listed = (patterns,) if isinstance(patterns, str) else tuple(patterns or ())
            for pattern in listed:
                _compiled(pattern, key)
            if key.endswith("image"):
                several[key] = listed
            elif isinstance(patterns, str):
                single[key] = patterns
            else:
                raise InputError(f"data.names.{key}: got a list, expected one pattern, as a case has one such file")
        return cls(**several, **single)  # type: ignore[arg-type]

    def cases(self, root: Path, *, test: bool = False) -> list[Case]:
        """Cases of the files below ``root``, sorted by id, each its own group; those of the test set with ``test``.

        Raises:
            InputError: No such folder, a pattern that no file has, two files for one place of a case, or a case
                that lacks one of its files.
        """
        prefix = "test_" if test else ""
        images = self.test_image if test else self.image
        if not images:
            return []
        label, valid = (self.test_label, self.test_valid) if test else (self.label, self.valid)
        paths = _below(root)
        keys = [f"{prefix}image", *([f"{prefix}label"] if label else []), *([f"{prefix}valid"] if valid else [])]
        found = [[_matching(root, paths, pattern, f"{prefix}image") for pattern in images]]
        found += [[_matching(root, paths, p, key)] for key, p in zip(keys[1:], filter(None, (label, valid)))]
        flat = [files for some in found for files in some]
        told = [key for key, some in zip(keys, found, strict=True) for _ in some]
        for files, key in zip(flat[1:], told[1:], strict=True):
            _refuse_unpaired(root, flat[0], files, keys[0], key)
        beside = dict(zip(keys[1:], (some[0] for some in found[1:]), strict=True))
        labels, views = beside.get(f"{prefix}label", {}), beside.get(f"{prefix}valid", {})
        return [
            Case(name, tuple(files[name] for files in found[0]), labels.get(name), name, valid=views.get(name))
            for name in sorted(set(flat[0]).intersection(*flat))
        ]

    def images_in(self, root: Path) -> list[Case]:
        """Cases of new images that lie as those of the training or, where there are none such, of the test set.

        Returns:
            Without labels; empty where no file has such a name.

        Raises:
            InputError: As for ``cases``.
        """
        paths = _below(root)
        for patterns in (self.image, self.test_image):
            if any(_compiled(pattern, "image").fullmatch(path) for pattern in patterns for path in paths):
                return FilePatterns(image=patterns).cases(root)
        return []


def _below(root: Path) -> list[str]:
    """Paths of the files below a folder, sorted, with ``/`` between names; hidden ones left out."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; set data.root to the folder of the dataset")
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(name.startswith(".") for name in path.parts))


def _matching(root: Path, paths: Sequence[str], pattern: str, key: str) -> _Found:
    compiled, found = _compiled(pattern, key), _Found()
    twice = []
    for path in paths:
        if (match := compiled.fullmatch(path)) is None:
            continue
        part = match.groupdict().get("part")
        name = "_".join(text.replace("/", "_") for text in (part, match["case"]) if text)
        if name in found:
            twice.append(f"{name} ({found[name].relative_to(root).as_posix()} and {path})")
        found.setdefault(name, root / path)
    refuse(twice, f"case(s) in {root} with two files that data.names.{key} finds", "let its group case tell them apart")
    if not found:
        such = f"such as {paths[0]}" if paths else "none at all"
        raise InputError(
            f"{root}: none of its {len(paths)} files ({such}) is what data.names.{key}={pattern} describes; check "
            "data.root, the folder of the dataset as it was unpacked, fix the pattern, or drop it (null)"
        )
    return found


def _refuse_unpaired(root: Path, images: _Found, others: _Found, image_key: str, key: str) -> None:
    for lacking, having, names in (
        (key, image_key, sorted(set(images) - set(others))),
        (image_key, key, sorted(set(others) - set(images))),
    ):
        refuse(
            names,
            f"case(s) in {root} have a file of data.names.{having} and none of data.names.{lacking}",
            "add the files, or take the others out",
        )


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.names.{key}={pattern}: is no regular expression ({error}); fix it") from error
    if "case" not in compiled.groupindex:
        raise InputError(f"data.names.{key}={pattern}: needs the group (?P<case>...), which is the case's id")
    return compiled
