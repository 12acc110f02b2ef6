"""Options of all groups with descriptions, read from the first lines of ``conf/``, for terminal and reference pages."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import InputError

_CHOICE = re.compile(r"^\s*- (?P<group>[a-z]\w*): (?P<default>\w+|\[[\w, ]+\])(?:\s+# (?P<summary>.+))?$")
SHARED = "_defaults"
"""Ending of files that options include, which are no options themselves."""
IN_FOLDERS = ("experiment",)
"""Groups whose options may lie in folders, as ``experiment=regimes/hippocampus``; elsewhere a folder is a group."""


@dataclass(frozen=True)
class Group:
    """One thing to choose.

    Attributes:
        name: As on the command line, such as ``model/encoder``.
        default: The default option, or options in brackets where several go together; ``null`` for none.
        summary: Description of the group, in a line.
        options: Name to description.
    """

    name: str
    default: str
    summary: str
    options: dict[str, str]


def described(path: Path) -> str:
    """The first comment line of a configuration file, without the full stop at its end; empty if there is none."""
    with path.open(encoding="utf-8") as stream:
        first = next(stream, "")
        if first.startswith("# @package"):
            first = next(stream, "")
    return first[2:].strip().removesuffix(".") if first.startswith("# ") else ""


def option_files(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """File of each option of a group, in alphabetical order within a folder; empty for other words.

    Args:
        group: Such as ``model`` or ``model/encoder``.
        folders: Folders of the configuration, whose later ones come on top.
    """
    pattern = "**/*.yaml" if group in IN_FOLDERS else "*.yaml"
    files = {
        path.relative_to(folder / group).with_suffix("").as_posix(): path
        for folder in folders
        for path in sorted((folder / group).glob(pattern))
    }
    return {name: path for name, path in files.items() if not name.endswith(SHARED)}


def groups(command: str, folders: Sequence[Path]) -> list[Group]:
    """Groups of a command in the order of its defaults list, each followed by the groups within it.

    A group within several options has the default of the first that has one, the default option before others.

    Args:
        command: Such as ``train``.
        folders: That of the package, and those of the user (``--config-dir``), whose options come on top.
    """
    by_name: dict[str, Group] = {}
    for group in _groups(folders[0] / f"{command}.yaml", "", folders):
        by_name.setdefault(group.name, group)
    return list(by_name.values())


def _groups(path: Path, above: str, folders: Sequence[Path]) -> Iterator[Group]:
    for line in _defaults(path):
        if line.strip().removeprefix("- ") == "train":  # plan.yaml is train.yaml and more
            yield from _groups(path.with_name("train.yaml"), above, folders)
        elif match := _CHOICE.match(line):
            name = above + match["group"]
            files = option_files(name, folders)
            options = {option: described(p) for option, p in files.items()}
            yield Group(name, match["default"], match["summary"] or "", options)
            for option in sorted(files.values(), key=lambda p: p.stem != match["default"]):
                yield from _groups(option, f"{name}/", folders)


def _defaults(path: Path) -> list[str]:
    """Lines of the defaults list."""
    _, separator, after = path.read_text(encoding="utf-8").partition("\ndefaults:\n")
    lines = after.splitlines() if separator else []
    end = next((i for i, line in enumerate(lines) if not line.lstrip().startswith("-")), len(lines))
    return lines[:end]


def listing(selected: Sequence[Group], width: int | None = None) -> str:
    """Every option in a line, below its group; lines longer than ``width`` are folded.

    Example:
        >>> print(listing([Group("loss", "ce", "losses", {"ce": "Cross-entropy"})]))
        loss: losses (default ce)
          ce  Cross-entropy
    """
    parts = []
    for group in selected:
        default = "none" if group.default == "null" else group.default
        lines = textwrap.wrap(f"{group.name}: {group.summary} (default {default})", width or 1000)
        room = max((len(name) for name in group.options), default=0) + 4
        for name, description in group.options.items():
            line = f"  {name}".ljust(room) + description
            lines += textwrap.wrap(line, width or 1000, subsequent_indent=" " * room)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def show(command: str, name: str | None, folders: Sequence[Path]) -> None:
    """Print the options of a group (with the groups within it), or of all; folded and in bold on a terminal only.

    Raises:
        InputError: No such group; names those that there are.
    """
    available = groups(command, folders)
    selected = [g for g in available if name is None or g.name == name or g.name.startswith(f"{name}/")]
    if not selected:
        there = (
            f"expected one of: {', '.join(g.name for g in available)}" if available else f"medseg-{command} has none"
        )
        raise InputError(f"{f'--options {name}' if name else '--options'}: no such group of choices; {there}")
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    text = Text(listing(selected, console.width if console.is_terminal else None))
    text.highlight_regex(r"(?m)^\S+(?=: )", "bold cyan")
    console.print(text, soft_wrap=True)


def markdown(selected: Sequence[Group]) -> str:
    """A folded table for each group: what the reference page shows."""
    parts = []
    for group in selected:
        names = ", ".join(f"<code>{name}</code>" for name in group.options)
        parts.append(
            f"<details><summary><b><code>{group.name}</code></b>, {group.summary}: {names}</summary>\n\n"
            f"| `{group.name}=` | |\n|---|---|\n"
            + "".join(f"| `{name}` | {description} |\n" for name, description in group.options.items())
            + "\n</details>\n"
        )
    return "\n".join(parts)
