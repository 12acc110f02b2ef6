"""Groups of neighbours: blocks of space, and runs of a list."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import product

from medseg.data.case import Case
from medseg.errors import InputError
from medseg.geometry.box import Box


def blocks(
    cases: Sequence[Case], shapes: Sequence[Sequence[int]], size: int | Sequence[int], buffer: int = 0
) -> list[Case]:
    """The cases cut into blocks, each a case and a group of its own, with a strip left out between them.

    Neighbouring cells are alike, so patches drawn anywhere in a scene say little about unseen ground.
    Any two blocks of a case keep at least ``buffer`` cells between them along some axis: whatever folds
    they fall into, no training patch comes nearer than that to a validation cell.

    An axis of s cells is cut into ``round((s + buffer) / (size + buffer))`` parts, at least one, that
    differ by one cell at most; between them exactly ``buffer`` cells are left out, none at the border.

    Args:
        cases: Cases, which may be parts of their files.
        shapes: Shape of each case, in cells.
        size: Approximate size of a block, in cells; one number, or one for each axis.
        buffer: Number of cells left out between blocks.

    Returns:
        Blocks in the order of the cases, named ``scene@r0c1`` after their row and column in a scene, or
        ``volume@0-1-2`` after their place on each axis. A case of a single block stays as it is.

    Raises:
        InputError: A size below 1, a negative buffer, or a number of sizes other than the number of axes.

    Example:
        >>> scene = Case("scene", (), None, "scene")
        >>> [(c.id, c.box.start, c.box.stop) for c in blocks([scene], [(100, 50)], 48, buffer=4)]
        [('scene@r0c0', (0, 0), (48, 50)), ('scene@r1c0', (52, 0), (100, 50))]
    """
    return [block for case, shape in zip(cases, shapes, strict=True) for block in _of_case(case, shape, size, buffer)]


def _of_case(case: Case, shape: Sequence[int], size: int | Sequence[int], buffer: int) -> list[Case]:
    """The blocks of a case; the case itself if there is one."""
    sizes = [size] * len(shape) if isinstance(size, int) else list(size)
    if len(sizes) != len(shape) or min(sizes) < 1 or buffer < 0:
        raise InputError(
            f"case {case.id}, shape {tuple(shape)}: got blocks of {size} cells with a buffer of {buffer}, "
            f"expected a size of 1 or more (or {len(shape)}, one an axis) and a buffer of 0 or more"
        )
    parts = [_cut(n, about, buffer) for n, about in zip(shape, sizes, strict=True)]
    places = list(product(*(list(enumerate(part)) for part in parts)))
    return [case] if len(places) == 1 else [_part(case, place, [len(part) for part in parts]) for place in places]


def _cut(n: int, size: int, buffer: int) -> list[tuple[int, int]]:
    """(start, stop) of the parts of an axis."""
    count = int((n + buffer) / (size + buffer) + 0.5)
    count = max(1, min(count, (n + buffer) // (1 + buffer)))  # a cell for each at least
    cells = n - (count - 1) * buffer
    edges = [cells * i // count for i in range(count + 1)]
    return [(edges[i] + i * buffer, edges[i + 1] + i * buffer) for i in range(count)]


def _part(case: Case, place: Sequence[tuple[int, tuple[int, int]]], counts: Sequence[int]) -> Case:
    """The block of a case at a place: number, start and stop on each axis."""
    numbers = [f"{i:0{len(str(n - 1))}d}" for (i, _), n in zip(place, counts, strict=True)]
    name = f"{case.id}@" + ("r{}c{}".format(*numbers) if len(numbers) == 2 else "-".join(numbers))
    box = Box(tuple(a for _, (a, _) in place), tuple(b for _, (_, b) in place))
    return replace(case, id=name, group=name, box=box.shift(case.box.start) if case.box else box)


def runs(cases: Sequence[Case], length: int) -> list[Case]:
    """The cases with consecutive ones in one group, so that folds are blocks of a stack.

    For sections of one volume that lie in files of their own: at random, nearly each would have its
    neighbours in training. Cases are put in order by id, numbers in it by their value (``s2`` before
    ``s10``), and cut into runs of about ``length``, which differ by one case at most. Where groups are
    set already (two cases share one), each group is a stack of its own.

    Args:
        cases: The cases; their order has no effect.
        length: Approximate number of cases of a run.

    Returns:
        The cases in the same order; a group is named after its first and last case.

    Raises:
        InputError: A length below 1.

    Example:
        >>> [c.group for c in runs([Case(f"s{i}", (), None, f"s{i}") for i in (8, 9, 10, 11)], 2)]
        ['s8..s9', 's8..s9', 's10..s11', 's10..s11']
    """
    if length < 1:
        raise InputError(f"got runs of {length} cases, expected a length of 1 or more")
    group: dict[str, str] = {}
    for stack in _stacks(cases):
        for start, stop in _cut(len(stack), length, 0):
            group |= dict.fromkeys(stack[start:stop], f"{stack[start]}..{stack[stop - 1]}")
    return [replace(case, group=group[case.id]) for case in cases]


def _stacks(cases: Sequence[Case]) -> list[list[str]]:
    """Ids in order, a list for each group; one for all where every case is its own group."""
    members: dict[str, list[str]] = {}
    alone = len({c.group for c in cases}) == len(cases)
    for case in sorted(cases, key=lambda c: _natural(c.id)):
        members.setdefault("" if alone else case.group, []).append(case.id)
    return list(members.values())


def beside(ids: Sequence[str], validation: Collection[str], gap: int) -> set[str]:
    """Ids that lie within ``gap`` places of a chosen one, numbers by their value; without the chosen.

    Example:
        >>> sorted(beside([f"s{i}" for i in range(12)], ["s0", "s10"], 1))
        ['s1', 's11', 's9']
    """
    ordered = sorted(ids, key=_natural)
    places = [i for i, name in enumerate(ordered) if name in validation]
    near = {ordered[j] for i in places for j in range(max(0, i - gap), min(len(ordered), i + gap + 1))}
    return near - set(validation)


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that orders numbers in names by their value."""
    parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
    return [*parts, (-1, name)]
