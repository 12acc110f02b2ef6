"""The record of a folder of predictions: which checkpoint, settings and images made each of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.conversion.preparation import digest_of
from medseg.errors import InputError
from medseg.formats.companions import companions
from medseg.formats.read_write import check_regular
from medseg.prediction.journal import Journal
from medseg.runtime.disk import readable

RECORD = "predictions.json"
"""Name of the record, next to the label files."""
OTHER_CHECKPOINT, OTHER_SETTINGS = "made by another checkpoint", "made with other settings"
OTHER_IMAGES, EDITED, UNKNOWN = "made from other images", "changed after they were written", f"not listed in {RECORD}"
_FORMAT = 1
_DETACHED = (".mhd", ".nhdr")  # the cells lie in a sibling file


@dataclass(frozen=True)
class Origin:
    """What decides the content of predictions besides the images.

    Attributes:
        checkpoint: Digest of the weights and the configuration of the checkpoint.
        file: Path of the checkpoint, for people.
        settings: JSON-able settings of the prediction.
    """

    checkpoint: str
    file: str
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Hexadecimal digest of checkpoint and settings; the path does not count."""
        text = json.dumps([self.checkpoint, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Finding:
    """What a folder holds of one case.

    Attributes:
        valid: Kinds of outputs that are there and are what this command would write.
        conflict: Why files that are there must not be kept; empty if none is.
    """

    valid: frozenset[str] = frozenset()
    conflict: str = ""


class Record:
    """``predictions.json``: the origin of each file of a folder, updated before and after a case is written.

    A case is entered before its first file is written, so that the next command knows what a killed one was
    writing. Updates are lines of a ``Journal``, so that several processes may fill one folder of many cases.

    Args:
        folder: Of the label files.
        origin: What makes the files of this command.

    Raises:
        InputError: The record is not readable.
    """

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder, self.origin = folder, origin
        with _readable(folder / RECORD):
            self._journal = Journal(folder / RECORD, _checked, _apply)

    def find(
        self, outputs: Mapping[str, str], images: Sequence[Path], options: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Finding:
        """What there is of a case.

        Args:
            outputs: Kind of each output (``labels``, ``probabilities``, ``polygons``) and its path below the folder.
            images: Files of the case, or a folder of DICOM slices.
            options: Settings of single kinds of outputs; one that differs makes an output invalid, but no conflict.
        """
        present = [kind for kind, name in outputs.items() if (self.folder / name).exists()]
        entry = self._stored["cases"].get(outputs["labels"])
        if not present:
            return Finding()
        if conflict := self._conflict(entry, images):
            return Finding(conflict=conflict)
        finished = {kind: outputs[kind] for kind in present if kind not in entry["unfinished"]}
        return self._finding(entry["outputs"], finished, options or {})

    def _finding(
        self, recorded: Mapping[str, Any], finished: Mapping[str, str], options: Mapping[str, Mapping[str, Any]]
    ) -> Finding:
        """What finished outputs of a case are, by what was recorded of them."""
        valid = set()
        for kind, name in finished.items():
            known = recorded.get(kind)
            if known is None:
                return Finding(conflict=UNKNOWN)
            if known["sha256"] != digest_of(self.folder / name):
                return Finding(conflict=EDITED)
            if known["options"] == dict(options.get(kind, {})):
                valid.add(kind)
        return Finding(frozenset(valid))

    def _conflict(self, entry: Mapping[str, Any] | None, images: Sequence[Path]) -> str:
        """Why the files of a case are not those of this command, by its entry; empty if they may be."""
        if entry is None:
            return UNKNOWN
        if entry["origin"] != self.origin.key:
            maker = self._stored["origins"][entry["origin"]]["checkpoint"]
            return OTHER_SETTINGS if maker == self.origin.checkpoint else OTHER_CHECKPOINT
        if not _same(entry["images"], images):
            return OTHER_IMAGES
        return ""

    def others(self, outputs: Sequence[Mapping[str, str]]) -> int:
        """How many label files of other cases another checkpoint or other settings made."""
        own = {names["labels"] for names in outputs}
        return sum(
            name not in own and entry["origin"] != self.origin.key and (self.folder / name).exists()
            for name, entry in self._stored["cases"].items()
        )

    def begin(
        self, outputs: Mapping[str, str], images: Sequence[Path], *, every: Collection[str], kept: Collection[str] = ()
    ) -> None:
        """Enter a case before its files are written.

        Args:
            outputs: As for ``find``.
            images: As for ``find``.
            every: Paths of all outputs that the case may have. Those of another origin are removed first, also where
                this command does not replace them: they would no longer belong to the labels.
            kept: Kinds of outputs that are there and stay.
        """
        name = outputs["labels"]
        before = self._stored["cases"].get(name)
        if before is None or before["origin"] != self.origin.key or not _same(before["images"], images):
            for old in every:
                (self.folder / old).unlink(missing_ok=True)
            before = None
        known = before["images"] if before and kept else identities(images, digests=False)
        entry = {"origin": self.origin.key, "images": known, "outputs": dict(before["outputs"] if before else {})}
        self._update(name, entry | {"unfinished": sorted(set(outputs) - set(kept))})

    def finish(
        self,
        outputs: Mapping[str, str],
        digests: Mapping[str, str],
        images: Sequence[Mapping[str, Any]],
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Enter outputs that have been written.

        Args:
            outputs: As for ``find``.
            digests: SHA-256 of each kind that was written.
            images: ``identities`` of the files of the case.
            options: As for ``find``.
        """
        name = outputs["labels"]
        entry = self._stored["cases"][name]
        for kind, digest in digests.items():
            entry["outputs"][kind] = {"sha256": digest, "options": dict((options or {}).get(kind, {}))}
        entry["images"] = list(images)
        entry["unfinished"] = [kind for kind in entry["unfinished"] if kind not in digests]
        self._update(name, entry)

    def abandon(self, outputs: Mapping[str, str]) -> None:
        """Forget a case of which no output was finished."""
        name = outputs["labels"]
        if not self._stored["cases"].get(name, {}).get("outputs"):
            self._update(name, None)

    def close(self) -> None:
        """Write the record anew, without the origins that no case has any more."""
        self._journal.compact(_whole)

    @property
    def _stored(self) -> dict[str, Any]:
        return self._journal.content

    def _update(self, name: str, entry: Mapping[str, Any] | None) -> None:
        own = {"checkpoint": self.origin.checkpoint, "file": self.origin.file, "settings": self.origin.settings}
        with _readable(self.folder / RECORD):
            self._journal.change({"case": name, "entry": entry, "origins": {self.origin.key: own}})


def _whole(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the file of a record holds; None without any case."""
    used = {known["origin"] for known in content["cases"].values()}
    origins = {key: content["origins"][key] for key in sorted(used)}
    return {"format": _FORMAT, "cases": content["cases"], "origins": origins} if used else None


def _apply(content: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Make one change of a record's content."""
    content["origins"] |= change["origins"]
    content["cases"].pop(change["case"], None)
    if change["entry"] is not None:
        content["cases"][change["case"]] = change["entry"]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of a damaged record as one line."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: is not a readable record of predictions ({type(error).__name__}); delete it (and "
            f".{path.name}.log) and use overwrite=true, or choose another output"
        ) from error


def _checked(stored: Any) -> dict[str, Any]:
    """The parts of a record that are used; ``KeyError`` or ``TypeError`` where one is missing."""
    if stored is None:
        return {"cases": {}, "origins": {}}
    if stored["format"] > _FORMAT:
        raise InputError(f"{RECORD}: was written by a newer medseg; upgrade, or choose another output")
    origins = {
        key: {"file": "", "settings": {}} | {**one, "checkpoint": one["checkpoint"]}
        for key, one in stored["origins"].items()
    }
    cases = {}
    for name, one in stored["cases"].items():
        outputs = {k: {"sha256": v["sha256"], "options": dict(v["options"])} for k, v in one["outputs"].items()}
        images = [{key: image[key] for key in ("name", "size", "mtime_ns", "sha256")} for image in one["images"]]
        _ = origins[one["origin"]]
        cases[name] = {
            "origin": one["origin"], "images": images, "outputs": outputs, "unfinished": list(one["unfinished"]),
        }  # fmt: skip
    return {"cases": cases, "origins": origins}


def identities(images: Sequence[Path], *, digests: bool = True) -> list[dict[str, Any]]:
    """Name, size, time and digest of each file of a case.

    Args:
        images: Files of the case, or a folder of DICOM slices.
        digests: Whether files are read; without it, digests are None, which no file equals.

    Raises:
        InputError: One of them is missing, can't be read, or is no file: a named pipe would be read for ever.
    """
    known = []
    with readable():
        for path in _parts(images):
            check_regular(path)
            stat, digest = path.stat(), digest_of(path) if digests else None
            known.append({"name": path.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest})
    return known


def _same(known: Sequence[Mapping[str, Any]], images: Sequence[Path]) -> bool:
    """Whether files have the content that was recorded; equal sizes and times are taken as equal content."""
    parts = _parts(images)
    if [path.name for path in parts] != [one["name"] for one in known]:
        return False
    for path, one in zip(parts, known, strict=True):
        stat = path.stat()
        if stat.st_size != one["size"] or (stat.st_mtime_ns != one["mtime_ns"] and digest_of(path) != one["sha256"]):
            return False
    return True


def _parts(images: Sequence[Path]) -> list[Path]:
    """The files that images consist of: of a folder of slices all, of a detached header those of its name, of a VRT
    those that it names.
    """
    found: list[Path] = []
    for image in images:
        if image.is_dir():
            found += sorted(path for path in image.iterdir() if path.is_file())
        elif image.suffix.lower() in _DETACHED:
            found += sorted(path for path in image.parent.iterdir() if path.name.startswith(f"{image.stem}."))
        else:
            found += [image, *(companions(image) if image.suffix.lower() == ".vrt" else [])]
    return found
