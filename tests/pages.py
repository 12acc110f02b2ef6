"""What the pages of documentation show to be run, by kind."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.prepared import script

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if not {"_build", "notebooks"} & set(path.relative_to(ROOT).parts)
}
"""Text of each page, by its path."""
commands = script("page_commands").commands
OUTSIDE = "docs/how-to/extend.md"
"""Page whose commands need the package that it prints; ``test_outside_package.py`` runs them."""
COMMANDS = list({c.text: c for page, text in PAGES.items() if page != OUTSIDE for c in commands(text)}.values())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

KINDS = {
    "told": r"medseg-train --(help|options( experiment)?)",
    "refused": r"medseg-train data\.rot=1",
    "name": r"medseg-\w+",
    "train": r"medseg-train ",
    "plan": r"medseg-plan ",
    "check": r"medseg-check ",
    "predict": r"medseg-predict ",
    "evaluate": r"medseg-evaluate ",
    "select": r"medseg-select ",
    "prepare": r"medseg-prepare ",
    "export": r"medseg-export ",
    "python": r"python scripts/[\w<>]+\.py",
    "bash": r"(bash|sbatch) scripts/\w+\.sh",
    "make": r"make [a-z-]+( [A-Z]+=\S+)*",
    "pip": r"pip install ",
    "wandb": r"wandb (sync|sweep)",
    "dask": r"dask (scheduler|worker) ",
}
"""How commands of each kind begin; without further words where the pattern ends without a space."""


def kind_of(text: str) -> str | None:
    for kind, pattern in KINDS.items():
        more = "" if kind in ("told", "refused", "name", "make") else ".*"
        if re.fullmatch(pattern + more, text):
            return kind
    return None


def shown(kind: str, *, path: bool = False) -> list[Any]:
    return [pytest.param(c.text, id=c.text[:90]) for c in COMMANDS if kind_of(c.text) == kind and c.path == path]


def overrides_of(text: str) -> list[str]:
    """Words of a command but ``-m`` and the dots that stand for others."""
    return [w for w in shlex.split(text)[1:] if w not in ("…", "...", "-m")]


def jobs(overrides: list[str]) -> list[list[str]]:
    """Of a sweep, its first job and one with the last of all values; else the command as it is."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [o.input_line]
        for o in parsed
    ]
    first, last = [v[0] for v in values], [v[-1] for v in values]
    return [first] if first == last else [first, last]
