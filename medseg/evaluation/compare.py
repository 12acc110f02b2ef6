"""Several folders of predictions of the same cases, scored and compared in pairs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.engine.engine import Engine
from medseg.engine.local import LocalEngine
from medseg.errors import InputError
from medseg.evaluation.cells import table_from_values
from medseg.evaluation.folders import Evaluation, match_labels, score_folders, values_in
from medseg.evaluation.options import EvaluationOptions
from medseg.labels import LabelTable
from medseg.metrics.paired import compared
from medseg.report.paired import lines, write_page
from medseg.runtime.atomic import write_whole
from medseg.runtime.console import show

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[\w][\w.+-]*")
GroupsOf = Callable[[Sequence[str]], Mapping[str, str] | None]
"""Group of each of these cases; None: they are independent."""


def named_folders(predictions: Sequence[str] | Mapping[str, str]) -> dict[str, Path]:
    """The folders by name: the given ones, or those of the folders themselves.

    Raises:
        InputError: Fewer than two, names that are alike, or that are no names of folders.

    Example:
        >>> sorted(named_folders(["runs/a", "runs/b"]))
        ['a', 'b']
    """
    pairs = list(predictions.items()) if isinstance(predictions, Mapping) else [(Path(p).name, p) for p in predictions]
    names = [name for name, _ in pairs]
    if len(pairs) < 2:
        raise InputError(f"predictions: got {len(pairs)} folder in a list, expected two or more to compare")
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"predictions: several folders are called {name}; name them: 'predictions={{old: DIR, new: DIR}}'"
            )
        if not _NAME.fullmatch(name):
            raise InputError(f"predictions: {name!r} is no name; expected letters, digits, dots, - and _")
    return {name: Path(folder) for name, folder in pairs}


def compare_folders(
    folders: Mapping[str, Path],
    labels: Path | Mapping[str, Path],
    output: Path,
    table: LabelTable | None,
    options: EvaluationOptions,
    engine: Engine | None = None,
    *,
    groups_of: GroupsOf = lambda cases: None,
) -> dict[str, Any]:
    """Score each folder into a folder of its name, and compare the cases that all of them have.

    Writes ``comparison.json`` and ``comparison.html`` into ``output`` as well.

    Args:
        folders: Predictions by name; differences are to the first.
        labels: As of ``evaluate_folders``, and so ``options`` and ``engine``.
        output: Folder for the results.
        table: Meaning of the values. If None, every value found in any folder is a class of its own.
        options: See above.
        engine: See above.
        groups_of: Groups of the compared cases.

    Returns:
        The content of ``comparison.json``.

    Raises:
        InputError: As of ``evaluate_folders``; no case in common; a case without a group.
    """
    groups_of(list(match_labels(next(iter(folders.values())), labels, options.missing)[0]))
    with engine or LocalEngine() as workers:
        if table is None:
            in_folders = (values_in(folder, labels, output, options, workers) for folder in folders.values())
            table = table_from_values(set().union(*in_folders), options.ignore, background=options.background)
        done = {}
        for name, folder in folders.items():
            show(_LOG, f"{name}: {folder}")
            done[name] = score_folders(folder, labels, output / name, table, options, workers)
    common = _common(done)
    result = compared({name: each.scores.only(common) for name, each in done.items()}, groups_of(common))
    page = output / "comparison.html"
    write_whole(output / "comparison.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_page(page, result, next(iter(done.values())).scores.metrics)
    for line in lines(result):
        show(_LOG, line)
    show(_LOG, f"In full: {page}; scores of each: {', '.join(str(output / name) for name in done)}")
    for each in done.values():
        each.report()
    return result


def _common(done: Mapping[str, Evaluation]) -> list[str]:
    """The cases that every folder has scores of, in order."""
    first, *others = (each.scores.cases for each in done.values())
    shared = set(first).intersection(*others)
    common = [case for case in first if case in shared]
    if not common:
        raise InputError(f"no case has scores in each of {', '.join(done)}; files of a case must be named alike")
    return common
