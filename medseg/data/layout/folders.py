"""Files of a folder by stem, with messages about folders and names that do not fit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medseg import formats
from medseg.data.case import refuse
from medseg.errors import InputError, similar
from medseg.formats.companions import companions


def files_of(
    folder: Path,
    endings: Sequence[str],
    *,
    what: str = "image",
    folders: bool = False,
    deep: bool = False,
    without: str = "",
) -> list[tuple[Path, str]]:
    """Image files of ``folder`` with their stems, sorted; at least one.

    Args:
        folder: The folder.
        endings: Suffixes of the files.
        what: Kind of the files, for messages.
        folders: Whether each folder in it is a file, too.
        deep: Whether its sub-folders are searched.
        without: End of the stems of files to leave out; empty for none.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; check data.root and the names of its sub-folders{_nearest(folder)}"
        )
    entries = sorted(folder.rglob("*") if deep else folder.iterdir())
    suffixes = {*endings, ""} if folders else {*endings}
    visible = _without_indices([path for path in entries if _is_visible(path, folders=folders)])
    files = [(path, formats.stem(path)) for path in visible if formats.suffix(path) in suffixes]
    files = [(path, name) for path, name in files if not (without and name.endswith(without))]
    if not files:
        raise _no_files(folder, len(entries), endings, what, folders=folders)
    return files


def _no_files(folder: Path, n_entries: int, endings: Sequence[str], what: str, *, folders: bool) -> InputError:
    """The error of a folder without any file of these endings."""
    kinds = ", ".join(endings) + (", or a folder a case" if folders else "")
    missing = f"no {what}" if what == "image" else f"no {what} file"
    return InputError(
        f"{folder}: {missing} among its {n_entries} entries, expected files ending in {kinds}; "
        "add some, or name another folder"
    )


def _nearest(folder: Path) -> str:
    """The sibling folders with the most similar names, for messages; empty if there are none."""
    if not folder.parent.is_dir():
        return ""
    others = sorted(p.name for p in folder.parent.iterdir() if p.is_dir())
    near = similar(folder.name, others)
    return f"; did you mean {', '.join(near)}?" if near else ""


def _without_indices(paths: Sequence[Path]) -> list[Path]:
    """The paths without each VRT whose files are listed too: they would count twice."""
    listed = {path.absolute() for path in paths}
    return [p for p in paths if p.suffix.lower() != ".vrt" or listed.isdisjoint(companions(p))]


def _is_visible(path: Path, *, folders: bool) -> bool:
    """Whether it is a file that is not hidden; a folder too, if each of them is an image."""
    return not path.name.startswith(".") and (path.is_file() or folders)


def files_by_stem(folder: Path, endings: Sequence[str], what: str, *, without: str = "") -> dict[str, Path]:
    """Files of a folder by stem; arguments as for ``files_of``."""
    by_id = defaultdict(list)
    for path, stem in files_of(folder, endings, what=what, without=without):
        by_id[stem].append(path)
    repeated = [" and ".join(p.name for p in paths) for paths in by_id.values() if len(paths) > 1]
    refuse(repeated, f"case(s) with more than one {what} in {folder}", "keep one file a case")
    return {name: paths[0] for name, paths in by_id.items()}


def renaming_hint(images: Collection[str], labels: Mapping[str, Path], image_dir: Path, label_dir: Path) -> str | None:
    """A hint for labels that are named after their images with an ending added, as in ``case_seg``; None if not.

    Args:
        images: Case ids of the images.
        labels: Label files by stem.
        image_dir: Folder of the images.
        label_dir: Folder of the labels.
    """
    endings = {label[len(name) :] for label in labels for name in images if label.startswith(name)} - {""}
    end = next((end for end in sorted(endings) if {f"{name}{end}" for name in images} == set(labels)), None)
    if end is None:
        return None
    suffix = re.escape(formats.suffix(next(iter(labels.values()))))
    label = f"{label_dir.name}/(?P<case>.+){re.escape(end)}{suffix}"
    image = f"{image_dir.name}/(?P<case>.+){_ending_of(image_dir)}"
    return (
        f"the labels are named like the images with {end} added; "
        f'\'data.names={{image: "{image}", label: "{label}"}}\' pairs them'
    )


def _ending_of(folder: Path) -> str:
    """Pattern for the end of the images' names: their suffix, after the channel number where all have one."""
    paths = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and formats.suffix(p))
    numbered = bool(paths) and all(formats.stem(p).endswith("_0000") for p in paths)
    return ("_0000" if numbered else "") + (re.escape(formats.suffix(paths[0])) if paths else "")
