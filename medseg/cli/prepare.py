"""medseg-prepare: a published dataset, rewritten into a layout that ``data=...`` reads."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from medseg.data.case import first_five
from medseg.data.conversion import datasets
from medseg.data.conversion.preparation import MANIFEST, Preparation, PublishedDataset, expected
from medseg.errors import InputError, similar
from medseg.runtime import console, disk


@console.messages()
def main() -> None:
    """The console script; exits with 1 if ``--verify`` finds damage, with 2 and one line for bad input."""
    try:
        sys.exit(prepare(sys.argv[1:]))
    except InputError as error:
        line = str(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if not (cause := disk.cause(error)):
            raise
        line = cause
    print("error: " + " ".join(line.split()), file=sys.stderr)  # noqa: T201  the command's output
    sys.exit(2)


def prepare(arguments: Sequence[str]) -> int:
    """Prepare a dataset, or verify one that is prepared.

    Args:
        arguments: ``NAME SOURCE TARGET [--verify]`` and options of the dataset.

    Returns:
        The exit code: 1 if files are damaged, else 0.

    Raises:
        InputError: The arguments are wrong, a file is missing or damaged, or the target holds something else.
    """
    names = dataset_names()
    if not arguments or arguments[0].startswith("-"):
        _main_parser(names).parse_args(arguments)
    name = arguments[0]
    if name not in names:
        near = similar(name, names, n=1, cutoff=0.0)[0]
        raise InputError(f"got the dataset {name!r}; did you mean {near!r}? medseg-prepare --help lists all of them")
    module = import_module(f"{datasets.__name__}.{name}")
    dataset: PublishedDataset = module.DATASET
    return _run(name, dataset, _dataset_parser(name, dataset, module.__doc__).parse_args(arguments[1:]))


def dataset_names() -> list[str]:
    """Names of the datasets: the modules of ``medseg.data.conversion.datasets``."""
    return sorted(path.stem for path in _folder().glob("*.py") if path.stem != "__init__")


def _folder() -> Path:
    return Path(datasets.__path__[0])


def _summary(name: str) -> str:
    """First line of a module's docstring, without importing it."""
    tree = ast.parse((_folder() / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments as ``InputError``."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help shows how to call it")


def _main_parser(names: Sequence[str]) -> argparse.ArgumentParser:
    width = max(map(len, names))
    listed = "\n".join(f"  {name:{width}}  {_summary(name)}" for name in names)
    parser = _Parser(
        prog="medseg-prepare",
        description="Rewrite a published dataset into a layout that data=... reads.",
        epilog=f"datasets:\n{listed}\n\nmedseg-prepare NAME --help says what is read and written.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="dataset, one of those below")
    _add_folders(parser)
    return parser


def _dataset_parser(name: str, dataset: PublishedDataset, description: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"medseg-prepare {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_folders(parser)
    for option, choice in dataset.options.items():
        parser.add_argument(f"--{option}", choices=choice.values, default=choice.default, help=choice.help)
    return parser


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of the unpacked dataset; only read")
    parser.add_argument(
        "target", metavar="TARGET", type=Path, help="new folder, or one of an interrupted run, which continues"
    )
    parser.add_argument("--verify", action="store_true", help="write nothing; compare every file with its checksum")


def _run(name: str, dataset: PublishedDataset, arguments: argparse.Namespace) -> int:
    expected(arguments.source, f"the folder of {dataset.title}")
    settings = {option: getattr(arguments, option) for option in dataset.options}
    preparation = Preparation(arguments.target, dataset.title, settings)
    work = dataset.plan(arguments.source, **settings)
    if arguments.verify:
        damaged = preparation.damaged(work)
        if damaged:
            print(  # noqa: T201  the command's output
                f"{len(damaged)} file(s) are missing or damaged: {first_five(damaged)}; "
                "the same command without --verify writes them again",
                file=sys.stderr,
            )
            return 1
        print(f"{len(work)} entries are complete")  # noqa: T201
        return 0
    written = preparation.fill(work)
    print(f"{written} written, {len(work) - written} were there already; {arguments.target / MANIFEST}")  # noqa: T201
    print(f"Next: medseg-train experiment={name} data.root={arguments.target}")  # noqa: T201
    return 0
