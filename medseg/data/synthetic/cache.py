"""Drawn datasets: a folder for each choice of settings, drawn once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from medseg.data.case import first_five
from medseg.errors import InputError
from medseg.runtime.atomic import atomic_folder
from medseg.runtime.drafts import remove_dead_folders


def settings_folder(root: Path | str, settings: Mapping[str, object]) -> Path:
    """Sub-folder of ``root`` that is named after these settings.

    Example:
        >>> settings_folder("cache", {"seed": 0}) == settings_folder("cache", {"seed": 1})
        False
    """
    key = json.dumps(dict(settings), sort_keys=True)
    return Path(root) / hashlib.sha256(key.encode()).hexdigest()[:12]


def draw_once(folder: Path, draw: Callable[[Path], None]) -> None:
    """Let ``draw`` fill a temporary folder next to ``folder``, then rename it; nothing if ``folder`` is there.

    Where another process has drawn the same meanwhile, its folder stays.

    Raises:
        InputError: Next to ``folder`` are files of other kinds: ``data.root`` is a dataset of the user's own.
    """
    if folder.is_dir():
        return
    _refuse_among_others(folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_folders(folder.parent, ".drawing_")
    try:
        with atomic_folder(folder, ".drawing_") as draft:
            draw(draft)
            draft.chmod(0o755)  # mkdtemp gives a folder to its owner alone
    except OSError:
        if not folder.is_dir():
            raise


def _refuse_among_others(root: Path) -> None:
    entries = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    others = [name for name in entries if not name.startswith(".") and not re.fullmatch(r"[0-9a-f]{12}", name)]
    if others:
        raise InputError(
            f"data.root={root}: holds {first_five(others)}, among which no drawn cases are put; say how your own lie "
            "there (data=nnunet, volumes, rasters or images; --options data lists all), or leave data.root out"
        )
