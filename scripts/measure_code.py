"""Sizes of the code of one or several checkouts, counted in their syntax trees, as a table in Markdown.

python scripts/measure_code.py . [OTHER_CHECKOUT ...] [--start-up 5]
python scripts/measure_code.py . --above 12

Only ``medseg/`` is counted. A *room* is a package below it, a *loose module* a file at its root. The complexity of a
function is 1 + branches: ``if``, ``for``, ``while``, ``except``, ``with`` and ``case``, conditional expressions, each
``for`` and ``if`` of a comprehension, and each ``and`` or ``or`` between two operands; functions within a function
count as its own branches too. Lengths include docstrings; parameters are those with a name, without self and cls.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.With, ast.AsyncWith, ast.match_case, ast.IfExp,
)  # fmt: skip
ANY = re.compile(r"\bAny\b")
METRICS = ("hd95", "nsd", "assd", "volume_error", "boundary_iou")
"""Metrics whose names are unlike other words, to count the files that name one."""


@dataclass(frozen=True)
class Function:
    """A function or method of a module.

    Attributes:
        path: Module, relative to the checkout.
        name: With the classes and functions around it, as in ``Mae.loss``.
        lines: With docstring and decorators' function line, without decorators.
        complexity: 1 + branches.
        parameters: Those with a name, without self and cls.
    """

    path: str
    name: str
    lines: int
    complexity: int
    parameters: int

    @property
    def key(self) -> str:
        """Name in lists."""
        return f"{self.path}::{self.name}"


def complexity(function: ast.AST) -> int:
    """1 + branches, as the module says."""
    count = 1
    for node in ast.walk(function):
        count += isinstance(node, BRANCHES)
        if isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        if isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
    return count


def functions(path: str, tree: ast.AST, inside: str = "") -> Iterator[Function]:
    """All functions of a module, with those inside of classes and functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FUNCTIONS):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(path, inside + node.name, lines, complexity(node), len(named))
        within = f"{inside}{node.name}." if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else inside
        yield from functions(path, node, within)


def imports(tree: ast.AST) -> set[str]:
    """Modules and names that a file imports, with those inside of functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of rooms that import each other, directly or by others."""
    below = {room: reached(room, edges) for room in edges}
    groups = {tuple(sorted({room, *(other for other in below[room] if room in below[other])})) for room in edges}
    return [list(group) for group in sorted(groups) if len(group) > 1]


def reached(room: str, edges: Mapping[str, set[str]]) -> set[str]:
    """Rooms that a room imports, directly or by others."""
    seen: set[str] = set()
    waiting = [room]
    while waiting:
        new = edges.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


@dataclass(frozen=True)
class Code:
    """The package of a checkout.

    Attributes:
        root: The checkout.
    """

    root: Path

    @cached_property
    def texts(self) -> dict[str, str]:
        """Text of each module by its path."""
        paths = sorted((self.root / "medseg").rglob("*.py"))
        return {path.relative_to(self.root).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Syntax tree of each module by its path."""
        return {path: ast.parse(text) for path, text in self.texts.items()}

    @cached_property
    def functions(self) -> list[Function]:
        """All functions and methods."""
        return [found for path, tree in self.trees.items() for found in functions(path, tree)]

    @cached_property
    def loose(self) -> list[str]:
        """Modules at the root, without ``__init__``."""
        return [path for path in self.texts if path.count("/") == 1 and not path.endswith("__init__.py")]

    @cached_property
    def edges(self) -> dict[str, set[str]]:
        """Which rooms and loose modules each of them imports."""
        found: dict[str, set[str]] = {room_of(path): set() for path in self.texts}
        del found["__init__"]
        for path, tree in self.trees.items():
            parts = {name.split(".")[1] for name in imports(tree) if name.startswith("medseg.")}
            if room_of(path) in found:
                found[room_of(path)] |= (parts & found.keys()) - {room_of(path)}
        return found

    @cached_property
    def upward(self) -> list[str]:
        """Modules of rooms that import the package itself, which is above all of them."""
        rooms = {*self.edges, "conf"}
        return [
            path
            for path, tree in self.trees.items()
            if room_of(path) != "__init__"
            and any(n == "medseg" or (n.startswith("medseg.") and n.split(".")[1] not in rooms) for n in imports(tree))
        ]

    def naming(self, word: str) -> list[str]:
        """Modules in which a name or a string begins with a word, such as a metric's."""
        pattern = re.compile(rf"(?<![a-z]){word}(?![a-z])")
        return [path for path, tree in self.trees.items() if any(pattern.search(name) for name in _names(tree))]


def complex_functions(code: Code, above: int) -> list[str]:
    """A line for each function of a higher complexity: its key and its complexity."""
    return sorted(f"{f.key} {f.complexity}" for f in code.functions if f.complexity > above)


def room_of(path: str) -> str:
    """Room of a module, or its own name if it is at the root."""
    return path.split("/")[1].removesuffix(".py")


def _names(tree: ast.AST) -> Iterator[str]:
    """Identifiers and strings of one word of a module; prose is left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value
        for attribute in ("id", "attr", "arg", "name"):
            if isinstance(word := getattr(node, attribute, None), str):
                yield word


def measure(code: Code) -> dict[str, str]:
    """Each line of the table."""
    every = code.functions
    largest = max(every, key=lambda f: f.lines)
    named = [len(code.naming(metric)) for metric in METRICS]
    rooms = {path.split("/")[1] for path in code.texts if path.count("/") > 1}
    return {
        "lines": f"{sum(len(text.splitlines()) for text in code.texts.values()):,}",
        "files": f"{len(code.texts)}",
        "lines of the largest file": f"{max(len(text.splitlines()) for text in code.texts.values())}",
        "rooms": f"{len(rooms)}",
        "loose modules at the root": f"{len(code.loose)}",
        "circles between rooms": f"{len(circles(code.edges))}",
        "imports of the package itself (upward)": f"{len(code.upward)}",
        "functions": f"{len(every):,}",
        "lines of the largest function": f"{largest.lines} (`{largest.name}`)",
        "functions over 60 lines": f"{sum(f.lines > 60 for f in every)}",
        "functions of complexity above 10": f"{sum(f.complexity > 10 for f in every)}",
        "functions of complexity above 12": f"{sum(f.complexity > 12 for f in every)}",
        "functions with more than 8 parameters": f"{sum(f.parameters > 8 for f in every)}",
        "`Any`": f"{sum(len(ANY.findall(text)) for text in code.texts.values())}",
        "`type: ignore`": f"{sum(text.count('type: ignore') for text in code.texts.values())}",
        "modules that name a metric (median of five)": f"{statistics.median(named):g}",
    }


def start_up(root: Path, rounds: int) -> str:
    """Seconds of ``medseg-train --help``, the fastest of some rounds."""
    module = "medseg.cli.train" if (root / "medseg/cli").is_dir() else "medseg.train"
    command = [sys.executable, "-c", f"from {module} import main; main()", "--help"]
    environment = os.environ | {"PYTHONPATH": str(root.resolve())}
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return f"{min(times):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="+", type=Path, help="folder that holds medseg/; a column each")
    parser.add_argument("--above", type=int, metavar="N", help="list the functions of a higher complexity instead")
    parser.add_argument("--start-up", type=int, metavar="ROUNDS", help="time medseg-train --help too")
    given = parser.parse_args()
    if given.above is not None:
        for root in given.checkout:
            print("\n".join(complex_functions(Code(root), given.above)))
        return
    columns = []
    for root in given.checkout:
        columns.append(measure(Code(root)))
        if given.start_up:
            columns[-1]["`medseg-train --help`"] = start_up(root, given.start_up)
    print("| | " + " | ".join(root.resolve().name for root in given.checkout) + " |")
    print("|---|" + "---|" * len(columns))
    for line in columns[0]:
        print(f"| {line} | " + " | ".join(column[line] for column in columns) + " |")


if __name__ == "__main__":
    main()
