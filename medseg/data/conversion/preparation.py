"""Preparation: a published dataset rewritten, case by case, into a folder that ``data=...`` reads.

Shared by the modules of ``datasets``: an interrupted run continues where it stopped, and each file has its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import track

from medseg.engine.failures import report_failures
from medseg.errors import InputError
from medseg.runtime import disk
from medseg.runtime.atomic import write_whole

MANIFEST = "manifest.sha256"
"""A line for each file, as ``sha256sum`` writes it: ``sha256sum --check manifest.sha256`` verifies it too."""
SETTINGS = "preparation.json"
"""Name of the dataset and settings of the preparation."""
_DRAFTS = ".drafts"


@dataclass(frozen=True)
class Work:
    """Files of one case that are still to be written.

    Attributes:
        case: Named in messages.
        files: Paths below the target folder, with ``/``.
        write: Called with the path of each, in this order, in a folder of drafts; writes them all. The same
            bytes each time, so that an interrupted run ends as one left alone.
    """

    case: str
    files: tuple[str, ...]
    write: Callable[..., None]


@dataclass(frozen=True)
class Choice:
    """An option of a preparation.

    Attributes:
        values: Words that it takes.
        default: One of them.
        help: For ``--help``.
    """

    values: tuple[str, ...]
    default: str
    help: str


@dataclass(frozen=True)
class PublishedDataset:
    """A published dataset that can be prepared; its module has it as ``DATASET``.

    Attributes:
        title: Name of the dataset.
        plan: From the folder of the dataset, and the options by name, to the work.
        options: Options of the command line by name; they are settings of the preparation.
    """

    title: str
    plan: Callable[..., Sequence[Work]]
    options: Mapping[str, Choice] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparation:
    """A folder that is being filled, with a manifest of what is done.

    Files are written as drafts and renamed when their case is whole; only then the manifest names them.

    Attributes:
        target: The folder; made if it is not there.
        name: Of the dataset.
        settings: JSON-able; a folder with other ones is an error.
    """

    target: Path
    name: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def fill(self, work: Sequence[Work]) -> int:
        """Write what is missing, damaged or was cut off.

        Args:
            work: Every case of the dataset, in the order in which they are to be done.

        Returns:
            How many cases were written; the others were there already, with the right checksums.

        Raises:
            InputError: The folder holds another preparation, or something else; or cases can't be read or written, and
                the others are written.
        """
        self._begin()
        sound = self._sound()
        left = [one for one in work if not all(path in sound for path in one.files)]
        done = {path: sound[path] for one in work if one not in left for path in one.files}
        self._rewrite(done)
        failed = self._write_all(left)
        listed = self._manifest()
        self._rewrite({path: listed[path] for one in work for path in one.files if path in listed})
        report_failures(failed, len(work), what="prepared", rest=f"are in {self.target}")
        return len(left)

    def _write_all(self, work: Sequence[Work]) -> dict[str, str]:
        """Write cases; the reason of each that can't be read or written."""
        failed: dict[str, str] = {}
        for one in track(work, f"preparing {self.name}", disable=not sys.stderr.isatty()):
            try:
                self._write(one)
            except InputError as error:
                if disk.full(error):
                    raise
                failed[one.case] = str(error)
        return failed

    def _sound(self) -> dict[str, str]:
        """Digest of each file of the manifest that is there and has it."""
        return {path: digest for path, digest in self._manifest().items() if self._is(path, digest)}

    def _write(self, one: Work) -> None:
        """Write the files of one case as drafts, rename them, and add them to the manifest."""
        with self._drafts() as folder:
            drafts = [folder / f"{number}_{Path(path).name}" for number, path in enumerate(one.files)]
            try:
                one.write(*drafts)
            except OSError as error:
                raise InputError(f"{self.name}, {one.case}: {error}; fix or fetch its files anew") from error
            lines = [_line(path, digest_of(draft)) for path, draft in zip(one.files, drafts, strict=True)]
            for path, draft in zip(one.files, drafts, strict=True):
                (self.target / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, self.target / path)
        with (self.target / MANIFEST).open("a", encoding="utf-8") as manifest:
            manifest.write("".join(lines))

    def damaged(self, work: Sequence[Work]) -> list[str]:
        """Files that are missing, differ from their checksum, or have none; in the order of the work.

        Raises:
            InputError: The folder holds no such preparation.
        """
        if not (self.target / SETTINGS).is_file():
            raise InputError(f"{self.target}: nothing was prepared here yet; run the command without --verify first")
        self._begin()
        listed = self._manifest()
        every = [path for one in work for path in one.files]
        return [path for path in every if path not in listed or not self._is(path, listed[path])]

    def _begin(self) -> None:
        """Make the folder, or see that it is one of ours."""
        path, mine = self.target / SETTINGS, {"dataset": self.name, "settings": dict(self.settings)}
        if path.is_file():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"{path}: is not valid JSON ({error}); delete the folder, or name another") from error
            if stored != mine:
                raise InputError(
                    f"{self.target}: got a folder prepared as {stored}, expected {mine}; name another folder"
                )
            return
        if self.target.exists() and (not self.target.is_dir() or any(self.target.iterdir())):
            raise InputError(
                f"{self.target}: exists, is not empty and is no preparation of {self.name}; name a new folder"
            )
        write_whole(path, json.dumps(mine, indent=1) + "\n")

    def _manifest(self) -> dict[str, str]:
        """Digest of each file that is done; a last line that was cut off does not count."""
        path = self.target / MANIFEST
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        whole = [line for line in lines if line.endswith("\n") and line[64:66] == "  "]
        return {line[66:-1]: line[:64] for line in whole}

    def _rewrite(self, digests: Mapping[str, str]) -> None:
        """The manifest of these files alone; a line that was cut off goes, so that none is added to it."""
        text = "".join(_line(path, digest) for path, digest in digests.items())
        if not (self.target / MANIFEST).is_file() or (self.target / MANIFEST).read_text(encoding="utf-8") != text:
            write_whole(self.target / MANIFEST, text)

    def _is(self, path: str, digest: str) -> bool:
        file = self.target / path
        return file.is_file() and digest_of(file) == digest

    @contextmanager
    def _drafts(self) -> Iterator[Path]:
        folder = self.target / _DRAFTS
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _line(path: str, digest: str) -> str:
    return f"{digest}  {path}\n"


def text_work(path: str, text: str) -> Work:
    """A text file, such as ``dataset.json``, as work of its own."""
    return Work(path, (path,), lambda draft: draft.write_text(text, encoding="utf-8"))


def expected(path: Path, what: str) -> Path:
    """The path, which is there.

    Args:
        path: File or folder.
        what: What the dataset has there, in a few words.

    Raises:
        InputError: It is not.
    """
    if not path.exists():
        raise InputError(f"{path}: not there, expected {what}; name the folder as the dataset unpacks, or complete it")
    return path
