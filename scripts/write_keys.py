"""Write docs/reference/keys.md: every key of conf/ with its value and its comment.

python scripts/write_keys.py [--check]

--check writes nothing and ends with 1 if the page is not current. A key without a comment is listed where it holds a
value of its own; those that only pass another key on (``${...}``), and those of Hydra, are left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg.hydra_app import options
from medseg.hydra_app.conf import conf_dir
from medseg.runtime.atomic import write_whole

sys.path.insert(0, str(Path(__file__).parent))
from page_commands import split_comment

PAGE = Path(__file__).parents[1] / "docs/reference/keys.md"
COMMANDS = ("train", "predict", "evaluate", "plan", "check", "select", "export")
HEAD = """# Configuration keys

Every key of the package's configuration, with its value and what it means: first those of the commands, then those of
each option that can be [chosen](options.md). On the command line, `key=value` overrides a value; the keys of a group
begin with its name, as in `trainer.max_steps=100`; those of `loss/term` are written in
full. `python scripts/write_keys.py` writes this page from `conf/`.
"""
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: +(?P<rest>.*))?$")
_HIDDEN = ("defaults", "hydra")


@dataclass
class Key:
    """A key of a file.

    Attributes:
        name: With the keys around it, as in ``ema.decay``.
        value: As it is written; empty for a mapping.
        comment: Behind it, over several lines.
    """

    name: str
    value: str
    comment: str


def keys(text: str, *, every: bool = False) -> list[Key]:
    """Keys of a yaml file in their order.

    Args:
        text: Content of the file.
        every: With those that are not listed, but for the parts of Hydra.
    """
    found: list[Key] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        comment = line.lstrip().startswith("#")
        if comment and found and line.startswith("  "):
            found[-1].comment = f"{found[-1].comment} {line.lstrip()[1:].strip()}".strip()
        match = None if comment else _LINE.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        path = [*(p for p in path if p[0] < indent), (indent, match["key"])]
        if path[0][1] in _HIDDEN:
            continue
        value, behind = split_comment(match["rest"] or "")
        found.append(Key(".".join(name for _, name in path), value, behind))
    return [key for key in found if every or _is_listed(key)]


def _is_listed(key: Key) -> bool:
    last = key.name.rpartition(".")[2]
    own = key.value and not re.fullmatch(r"\$\{[\w.]+\}", key.value)
    return not last.startswith("_") and bool(key.comment or own)


def package(text: str) -> str:
    r"""What stands before the keys of a file that names its place in the configuration; empty for other files.

    Example:
        >>> package("# @package loss\\n# Soft Dice")
        'loss.'
    """
    match = re.match(r"# @package (\w+)\n", text)
    return f"{match[1]}." if match else ""


def _table(path: Path) -> str:
    before = package(path.read_text("utf-8"))
    rows = [
        f"| `{before}{key.name}` | {_code(key.value)} | {_prose(key.comment)} |"
        for key in keys(path.read_text("utf-8"))
    ]
    return "\n".join(["| key | value | meaning |", "|---|---|---|", *rows]) if rows else ""


def _code(value: str) -> str:
    pipes = value.replace("|", "\\|")
    return f"`{pipes}`" if value else ""


def _prose(text: str) -> str:
    """Text in a cell of a table, without markup."""
    return re.sub(r"([\\`*_$<|\[\]])", r"\\\1", text)


def page(folder: Path) -> str:
    """The whole page."""
    return "\n".join([HEAD, *_commands(folder), *_groups(folder)])


def _commands(folder: Path) -> Iterator[str]:
    for command in COMMANDS:
        yield f"## medseg-{command}\n"
        if command == "plan":
            yield "All keys of `medseg-train`, and:\n"
        yield _table(folder / f"{command}.yaml") + "\n"


def _groups(folder: Path) -> Iterator[str]:
    seen = set()
    for group in options.groups("train", [folder]):
        if group.name in seen or group.name == "experiment":
            continue
        seen.add(group.name)
        tables = {path: _table(path) for path in sorted((folder / group.name).glob("*.yaml"))}
        if not any(tables.values()):
            continue
        yield f"## {group.name}\n"
        for path, table in tables.items():
            if table:
                shared = path.stem.endswith(options.SHARED)
                title = f"shared keys ({path.name})" if shared else f"{group.name}={path.stem}"
                yield f"**{title}**: {_prose(options.described(path))}\n\n{table}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the page with the one that is stored")
    given = parser.parse_args()
    current = page(conf_dir())
    if not given.check:
        write_whole(PAGE, current)
    elif PAGE.read_text(encoding="utf-8") != current:
        sys.exit(f"{PAGE}: not current; run python scripts/write_keys.py")


if __name__ == "__main__":
    main()
