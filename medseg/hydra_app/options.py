"""Options: what can be chosen, read from the first lines of ``conf/``, for the terminal and the reference pages."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import InputError

_CHOICE = re.compile(r"^\s*- (?P<group>[a-z]\w*): (?P<usual>\w+)(?:\s+# (?P<told>.+))?$")
SHARED = "_defaults"
"""Ending of files that options include, which are no options themselves."""


@dataclass(frozen=True)
class Group:
    """One thing to choose.

    Attributes:
        name: As on the command line, such as ``model/encoder``.
        usual: What is taken if nothing is chosen; ``null`` for nothing.
        told: What the choice is about, in a line.
        options: Name to description.
    """

    name: str
    usual: str
    told: str
    options: dict[str, str]


def described(path: Path) -> str:
    """The first comment line of a configuration file, without the full stop at its end; empty if there is none."""
    with path.open(encoding="utf-8") as stream:
        first = next(stream, "")
        if first.startswith("# @package"):
            first = next(stream, "")
    return first[2:].strip().removesuffix(".") if first.startswith("# ") else ""


def groups(command: str, folders: Sequence[Path]) -> list[Group]:
    """The groups of a command in the order of its defaults list, each followed by the groups within it.

    Args:
        command: Such as ``train``.
        folders: That of the package, and those of the user (``--config-dir``), whose options come on top.
    """
    return list(_groups(folders[0] / f"{command}.yaml", "", folders))


def _groups(path: Path, above: str, folders: Sequence[Path]) -> Iterator[Group]:
    for line in _defaults(path):
        if line.strip().removeprefix("- ") == "train":  # plan.yaml is train.yaml and more
            yield from _groups(path.with_name("train.yaml"), above, folders)
        elif match := _CHOICE.match(line):
            name = above + match["group"]
            found = {p.stem: p for folder in folders for p in sorted((folder / name).glob("*.yaml"))}
            options = {stem: described(p) for stem, p in found.items() if not stem.endswith(SHARED)}
            yield Group(name, match["usual"], match["told"] or "", options)
            for option in found.values():
                yield from _groups(option, f"{name}/", folders)


def _defaults(path: Path) -> list[str]:
    """Lines of the defaults list."""
    _, found, after = path.read_text(encoding="utf-8").partition("\ndefaults:\n")
    lines = after.splitlines() if found else []
    end = next((i for i, line in enumerate(lines) if not line.lstrip().startswith("-")), len(lines))
    return lines[:end]


def listing(chosen: Sequence[Group], width: int | None = None) -> str:
    """Every option in a line, below its group; lines longer than ``width`` are folded.

    Example:
        >>> print(listing([Group("loss", "ce", "losses", {"ce": "Cross-entropy"})]))
        loss: losses (ce if none is chosen)
          ce  Cross-entropy
    """
    parts = []
    for group in chosen:
        usual = "nothing" if group.usual == "null" else group.usual
        lines = textwrap.wrap(f"{group.name}: {group.told} ({usual} if none is chosen)", width or 1000)
        room = max((len(name) for name in group.options), default=0) + 4
        for name, told in group.options.items():
            line = f"  {name}".ljust(room) + told
            lines += textwrap.wrap(line, width or 1000, subsequent_indent=" " * room)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def show(command: str, wanted: str | None, folders: Sequence[Path]) -> None:
    """Print the options of a group (with the groups within it), or of all; folded and in bold on a terminal only.

    Raises:
        InputError: No such group; names those that there are.
    """
    known = groups(command, folders)
    chosen = [g for g in known if wanted is None or g.name == wanted or g.name.startswith(f"{wanted}/")]
    if not chosen:
        there = f"known are: {', '.join(g.name for g in known)}" if known else f"medseg-{command} has none"
        raise InputError(f"{f'--options {wanted}' if wanted else '--options'}: no such group of choices; {there}")
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    text = Text(listing(chosen, console.width if console.is_terminal else None))
    text.highlight_regex(r"(?m)^\S+(?=: )", "bold cyan")
    console.print(text, soft_wrap=True)


def markdown(chosen: Sequence[Group]) -> str:
    """A folded table for each group: what the reference page shows."""
    parts = []
    for group in chosen:
        names = ", ".join(f"<code>{name}</code>" for name in group.options)
        parts.append(
            f"<details><summary><b><code>{group.name}</code></b>, {group.told}: {names}</summary>\n\n"
            f"| `{group.name}=` | |\n|---|---|\n"
            + "".join(f"| `{name}` | {told} |\n" for name, told in group.options.items())
            + "\n</details>\n"
        )
    return "\n".join(parts)
