"""Files that are whole or absent, never half-written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from medseg.runtime.disk import naming


def write_whole(path: Path, text: str) -> None:
    """Write text (UTF-8) beside ``path`` and rename it, with the folders above; a kill leaves the old file or the new.

    Raises:
        OSError: It can't be written; what was there stays.
    """
    write_together({path: text})


def write_together(texts: Mapping[Path, str]) -> None:
    """Write several texts as ``write_whole`` does: all are on the disk before the first one is renamed.

    Raises:
        OSError: One of them can't be written; then none is, and what was there stays.
    """
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                drafts[path].write_text(text, encoding="utf-8")
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
