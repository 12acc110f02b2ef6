"""Files and folders that are whole or absent, never half-written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from medseg.runtime.disk import naming
from medseg.runtime.drafts import draft_folder


@contextmanager
def atomic_file(target: Path, *, suffix: str | None = None) -> Iterator[Path]:
    """Path of a draft next to ``target``, which takes its place when the block ends; it is removed if the block fails.

    Args:
        target: The file; its folder exists.
        suffix: Ending of the draft's name, for libraries that go by it. The name is short then, so that every name
            that a file may have can be written. Without it, ``drafts.remove_files`` finds what a kill left.
    """
    name = f".{target.name}.{os.getpid()}.part" if suffix is None else f".{secrets.token_hex(4)}{suffix}"
    draft = target.with_name(name)
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder next to ``folder``, which takes its name when the block ends; it is removed if the block fails.

    If another process made ``folder`` meanwhile, that one stays.

    Args:
        folder: Does not exist yet; the folder above it does.
        prefix: Of the draft's name, by which ``drafts.remove_dead_folders`` finds what a kill left.
    """
    draft = draft_folder(folder.parent, prefix)
    try:
        yield draft
        try:
            os.rename(draft, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write text (UTF-8) through a draft, with the folders above; a kill leaves the old file or the new one.

    Raises:
        OSError: It can't be written; what was there stays.
    """
    write_together({path: text})


def write_together(texts: Mapping[Path, str]) -> None:
    """Write several texts as ``write_whole`` does: all are on the disk before the first one is renamed.

    Raises:
        OSError: One of them can't be written; then none is, and what was there stays.
    """
    with ExitStack() as renames:
        for path, text in reversed(list(texts.items())):  # the first one is renamed first
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = renames.enter_context(atomic_file(path))
            with naming(path):
                draft.write_text(text, encoding="utf-8")
