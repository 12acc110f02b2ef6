"""Which cases train, validate and are scored at the end, by the settings of ``cfg.split``."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from omegaconf import DictConfig, ListConfig

from medseg.data.case import Case, first_five, refuse
from medseg.data.dataset import Dataset
from medseg.data.problems import Problems
from medseg.data.reading.open_case import CaseReader
from medseg.data.splits.blocks import blocks, runs
from medseg.data.splits.folds import USUAL, held_out, number_of_folds, split
from medseg.data.splits.leakage import cells_digest, leaks
from medseg.data.splits.split_file import Files
from medseg.data.splits.strata import Strata, strata_of, strata_of_fact
from medseg.data.store.content_hash import content_key
from medseg.errors import InputError

_LOG = logging.getLogger(__name__)

TEST_SET = "the test set"
"""What a run's scores are said to be of, in ``policy`` of ``metrics.json``, if there is a test set."""


def labelled(settings: DictConfig, source: Dataset) -> list[Case]:
    """The dataset's labelled cases, cut into blocks and grouped into runs where that is asked for."""
    cases = source.cases()
    if settings.get("blocks"):
        problems, shapes = Problems(), []
        for case in cases:
            with problems.of(case.id):
                shapes.append(source.open(case).shape)
        problems.check(len(cases))
        size = settings.blocks.size
        cases = blocks(
            cases, shapes, list(size) if isinstance(size, ListConfig) else size, buffer=settings.blocks.get("buffer", 0)
        )
    return runs(cases, settings.runs) if settings.get("runs") else cases


def halves(settings: DictConfig, source: Dataset) -> tuple[list[Case], list[Case]]:
    """Training and validation cases of the fold, or those that ``split.val_cases`` names."""
    every = labelled(settings, source)
    named_tests = {*named([case.id for case in every], settings.get("test_cases"), "split.test_cases")}
    cases = {case.id: case for case in every if case.id not in named_tests}
    if settings.get("val_cases"):
        cases = {i: case for i, case in cases.items() if i not in {*_tested(settings, every)}}
        train, val = _by_names(settings, cases)
    else:
        train, val = _by_fold(settings, list(cases.values()), source)
    return [cases[i] for i in train], [cases[i] for i in val]


def _by_names(settings: DictConfig, cases: Mapping[str, Case]) -> tuple[list[str], list[str]]:
    """Ids of training and validation, of which ``split.val_cases`` names the second.

    Raises:
        InputError: None is left to train.
    """
    val = named(cases, settings.val_cases, "split.val_cases")
    train = [i for i in cases if i not in set(val)]
    if not train:
        raise InputError(f"split.val_cases={list(settings.val_cases)}: every case validates, and none is left to train")
    return train, val


def _by_fold(settings: DictConfig, cases: Sequence[Case], source: Dataset) -> tuple[list[str], list[str]]:
    """Ids of training and validation of the fold."""
    files = _files(settings)
    n_folds = number_of_folds(cases, settings.n_folds)
    if files is None and settings.fold != "all" and settings.n_folds is None and 2 <= n_folds < USUAL:
        _LOG.info("%d folds instead of %d: there are %d groups of cases (split.n_folds)", n_folds, USUAL, n_folds)
    strata = _strata(settings, cases, source)
    return split(cases, settings.fold, n_folds, settings.seed, files, gap=settings.get("gap", 0), strata=strata)


def _strata(settings: DictConfig, cases: Sequence[Case], source: Dataset) -> Strata | None:
    """What folds are balanced over; None where ``split.stratify`` is null, or no fold is drawn.

    Raises:
        InputError: Folds come from a file, or the labels or words of the cases can't be read.
    """
    stratify = settings.get("stratify")
    if stratify is None and any(case.part for case in cases) and _files(settings) is None:
        return {case.id: frozenset([case.part]) for case in cases}
    if stratify is None or settings.fold == "all":
        return None
    if _files(settings) is not None:
        raise InputError(f"split.stratify={stratify}: the folds are those of split.file; leave one of them out")
    facts = {fact.name: fact for fact in source.spec.every_fact}
    if stratify in facts:
        return strata_of_fact(cases, facts[stratify])
    return strata_of(cases, str(stratify), source.spec.labels, lambda case: source.open(case).read_label())


def labelled_halves(settings: DictConfig, source: Dataset) -> tuple[list[Case], list[Case]]:
    """As ``halves``, with ``split.n_labelled`` training cases only where it is set, as if the others had no label.

    The cases are drawn by ``split.seed``: the same ones for every seed of the training, and those of a
    smaller number among those of a larger.

    Raises:
        InputError: More are asked for than there are, or a case has no label.
    """
    train, val = halves(settings, source)
    n = settings.get("n_labelled")
    if n is not None:
        if not 1 <= n <= len(train):
            raise InputError(f"split.n_labelled={n}: expected 1 to {len(train)}, the training cases of the fold")
        order = np.random.default_rng([settings.seed, 4]).permutation(len(train))
        train = [train[i] for i in sorted(order[:n])]
    refuse(
        [case.id for case in [*train, *val] if case.label is None],
        "cases have no label",
        "give them one, or pretrain on them, such as by method=mae",
    )
    return _few(train, settings), _few(val, settings)


def unlabelled(settings: DictConfig, source: Dataset) -> tuple[list[Case], list[Case]]:
    """As ``halves``, for methods that read no label: cases of the test set that have none train as well."""
    train, val = halves(settings, source)
    train += [case for case in source.test_cases() if case.label is None]
    return _few(train, settings), _few(val, settings)


def judged(settings: DictConfig, source: Dataset) -> list[Case]:
    """Labelled cases that neither train nor validate: the dataset's test set, and those that ``split`` names."""
    own = [case for case in source.test_cases() if case.label]
    if not settings.get("test_cases") and _files(settings) is None:
        return _few(own, settings)
    every = labelled(settings, source)
    tested = {*_tested(settings, every)}
    return _few([case for case in every if case.id in tested] + own, settings)


def _few(cases: list[Case], settings: DictConfig) -> list[Case]:
    """The first ``split.most_cases``; all of them where it is null."""
    return cases[: settings.get("most_cases")]


def named(cases: Iterable[str], patterns: Sequence[str] | None, key: str) -> list[str]:
    """Cases whose names match one of the patterns (``*`` stands for anything).

    Raises:
        InputError: A pattern that no case matches.
    """
    ids = list(cases)
    for pattern in patterns or ():
        if not fnmatch.filter(ids, pattern):
            raise InputError(f"{key}: no case is named {pattern!r}, cases are {first_five(sorted(ids))}; fix the name")
    return [i for i in ids if any(fnmatch.fnmatchcase(i, pattern) for pattern in patterns or ())]


def leakage(
    train: Sequence[Case],
    val: Sequence[Case],
    source: Dataset,
    *,
    test: Sequence[Case] = (),
    digests: dict[str, str] | None = None,
    others: Mapping[str, tuple[Dataset, Sequence[Case]]] | None = None,
) -> list[str]:
    """One line for each way in which validation and test cases are known from training, see ``data.leakage``.

    Tiles of pixels are compared for scenes and images; for volumes whole files, and where these differ the cells of
    volumes of one shape (the same volume with another header or compression).

    Args:
        train: Training cases.
        val: Validation cases; those of the training if that was asked for (``split.fold=all``).
        source: The dataset.
        test: Cases that are scored at the end.
        digests: Digests of files that are known already, see ``data.digests``.
        others: Datasets and training cases of further streams, by name. Groups of another dataset are of their own.
    """
    opened = _opener(source, others or {})
    train = _with_streams(train, source, others or {})
    held = [] if [c.id for c in train] == [c.id for c in val] else val
    planar = source.spec.ndim == 2
    memory = {} if digests is None else digests
    if planar:
        return [leak.message for leak in leaks(train, held, opened, test=test)]

    def of_files(case: Case) -> str:
        return content_key(case.images, {}, memory=memory)

    def of_cells(case: Case) -> str:
        key = f"cells:{[c.name for c in source.spec.channels]}:{source.reading}:{case.box}:{of_files(case)}"
        if key not in memory:
            memory[key] = cells_digest(opened(replace(case, label=None)))
        return memory[key]

    found = leaks(train, held, opened, test=test, windows=0, digest=of_files, cells=of_cells)
    return [leak.message for leak in found]


def _opener(source: Dataset, others: Mapping[str, tuple[Dataset, Sequence[Case]]]) -> Callable[[Case], CaseReader]:
    """Opens a case of any of the datasets."""
    sources = {case.images: dataset for dataset, cases in others.values() for case in cases}

    def opened(case: Case) -> CaseReader:
        return sources.get(case.images, source).open(case)

    return opened


def _with_streams(
    train: Sequence[Case], source: Dataset, others: Mapping[str, tuple[Dataset, Sequence[Case]]]
) -> list[Case]:
    """Training cases of all streams, each once; those of another dataset with its stream's name before their own."""
    every = list(train)
    for name, (dataset, cases) in others.items():
        if dataset is source:
            ids = {case.id for case in every}
            every += [case for case in cases if case.id not in ids]
        else:
            every += [replace(case, id=f"{name}/{case.id}", group=f"{name}/{case.group}") for case in cases]
    return every


def _tested(settings: DictConfig, cases: Sequence[Case]) -> list[str]:
    ids = [case.id for case in cases]
    return [
        *named(ids, settings.get("test_cases"), "split.test_cases"),
        *held_out(cases, settings.fold, _files(settings)),
    ]


def _files(settings: DictConfig) -> Files | None:
    file = settings.file
    return [str(name) for name in file] if isinstance(file, ListConfig) else file
