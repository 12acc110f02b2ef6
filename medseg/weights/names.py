"""Which name of a file is which name of a module: prefixes that come and go are found, not asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_ANCHORS = 64
"""Parameters of the module, the largest and evenly spread ones, whose like in the file suggests prefixes."""
_CANDIDATES = 48
"""Suggested pairs of prefixes that are tried on every name."""
_AVERAGED = ("teacher", "ema", "model_ema", "averaged")
_NUMBER = re.compile(r"_(\d+)(?=\.|$)")


@dataclass(frozen=True)
class Match:
    """Names of a module beside those of a file.

    Attributes:
        pairs: Name in the file by name in the module, for all that have one, fitting or not.
        covered: Numbers of the module's parameters whose partner fits.
        strip: What names of the file begin with, ``teacher.backbone.``.
        add: What names of the module begin with instead, ``model.``.
        dotted: Whether ``stages_0.`` and ``stages.0.`` had to count as the same.
        ties: Other beginnings in the file that would have fitted as well.
        by_order: Whether no name fits, and equal shapes in the same order are taken instead.
    """

    pairs: Mapping[str, str]
    covered: int = 0
    strip: str = ""
    add: str = ""
    dotted: bool = False
    ties: tuple[str, ...] = ()
    by_order: bool = False

    def told(self) -> str:
        """In words; empty if the names are the same."""
        words = ["no name fits: taken in order, by equal shapes"] if self.by_order else []
        if self.strip and self.add:
            words.append(f"names {self.strip}* of the file are {self.add}* here")
        elif self.strip or self.add:
            words.append(f"names begin with {self.strip} in the file" if self.strip else f"names got {self.add}")
        if self.dotted:
            words.append("name_0 and name.0 taken as the same")
        if self.ties:
            words.append(f"{', '.join(f'{tie}*' for tie in self.ties)} would fit as well")
        return "; ".join(words)


def match(
    own: Mapping[str, int], file: Sequence[str], fits: Callable[[str, str], bool], *, extra: Iterable[str] = ()
) -> Match:
    """Find the prefix to strip from a file's names, and the one to put instead, that cover most of a module.

    A pair of prefixes covers the parameters that it gives a name of the file that ``fits``; the pair that covers
    most numbers wins. Of several that cover the same: the one with most names, then an averaged copy (``teacher``
    or ``ema``), then the shortest prefix, then the first in the file. Only where names as they are leave
    something uncovered, ``name_0.`` and ``name.0.`` are tried as the same name: timm flattens blocks so.

    Args:
        own: Numbers in each parameter of the module, by name.
        file: Names in the file.
        fits: Whether a name of the module can take the tensor of a name of the file.
        extra: Names of the module that get a partner but do not count: buffers.

    Example:
        >>> found = match({"net.a.weight": 6, "net.a.bias": 2}, ["a.weight", "a.bias", "head.bias"], lambda o, f: True)
        >>> found.strip, found.add, found.pairs
        ('', 'net.', {'net.a.weight': 'a.weight', 'net.a.bias': 'a.bias'})
    """
    extra = list(extra)
    plain = _best(own, {name: name for name in (*own, *extra)}, {name: name for name in file}, fits, dotted=False)
    if plain.covered == sum(own.values()):
        return plain
    ours, theirs = dotted([*own, *extra]), dotted(file)
    if all(k == v for k, v in (*ours.items(), *theirs.items())):
        return plain
    respelt = _best(own, ours, theirs, fits, dotted=True)
    return respelt if respelt.covered > plain.covered else plain


def dotted(names: Sequence[str]) -> dict[str, str]:
    """Each name with ``.0`` for ``_0``; as it is where that is the name of another.

    Example:
        >>> dotted(["stages_0.norm", "head"])
        {'stages_0.norm': 'stages.0.norm', 'head': 'head'}
    """
    changed = {name: _NUMBER.sub(r".\1", name) for name in names}
    times = Counter(changed.values())
    return {name: new if times[new] == 1 else name for name, new in changed.items()}


def _best(
    own: Mapping[str, int],
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    fits: Callable[[str, str], bool],
    *,
    dotted: bool,
) -> Match:
    """The best pair of prefixes for names as they are spelt in ``ours`` and ``theirs``."""
    trials = sorted(_trials(own, ours, theirs, fits), key=_Trial.rank)
    if not trials:
        return Match({}, dotted=dotted)
    best = trials[0]
    equal = dict.fromkeys(trial.strip for trial in trials if trial.equals(best))
    ties = tuple(strip for strip in equal if strip != best.strip)
    return Match(best.pairs, best.covered, best.strip, best.add, dotted, ties)


@dataclass(frozen=True)
class _Trial:
    """A pair of prefixes that was tried on every name.

    Attributes:
        strip: See ``Match``.
        add: See ``Match``.
        pairs: See ``Match``.
        covered: See ``Match``.
        count: Parameters of the module whose partner fits.
        first: Place in the file of the first of these partners.
    """

    strip: str
    add: str
    pairs: Mapping[str, str]
    covered: int
    count: int
    first: int

    def rank(self) -> tuple[int, int, bool, int, int]:
        """The best pair has the lowest; see ``match`` for the rule."""
        return -self.covered, -self.count, not _averaged(self.strip), len(self.strip) + len(self.add), self.first

    def equals(self, other: _Trial) -> bool:
        """Whether it covers as much."""
        return (self.covered, self.count) == (other.covered, other.count)


def _trials(
    own: Mapping[str, int], ours: Mapping[str, str], theirs: Mapping[str, str], fits: Callable[[str, str], bool]
) -> Iterator[_Trial]:
    """The suggested pairs of prefixes that give a parameter of the module a name of the file that fits."""
    spelt = {spelling: name for name, spelling in theirs.items()}
    order = {name: i for i, name in enumerate(spelt.values())}
    for strip, add in _suggested(own, ours, list(spelt)):
        pairs = _renamed(ours, spelt, strip, add)
        counted = [name for name, partner in pairs.items() if name in own and fits(name, partner)]
        if counted:
            first = min(order[pairs[name]] for name in counted)
            yield _Trial(strip, add, pairs, sum(own[name] for name in counted), len(counted), first)


def _renamed(ours: Mapping[str, str], spelt: Mapping[str, str], strip: str, add: str) -> dict[str, str]:
    """Name in the file by name in the module, under a pair of prefixes, for all names that have one."""
    return {
        name: spelt[partner]
        for name, spelling in ours.items()
        if spelling.startswith(add) and (partner := strip + spelling[len(add) :]) in spelt
    }


def _averaged(prefix: str) -> bool:
    return any(part in _AVERAGED for part in prefix.split("."))


def _suggested(own: Mapping[str, int], ours: Mapping[str, str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of prefixes under which an anchor has the longest ending in common with a name of the file.

    An ending counts if it is a whole name, or has two parts or more: every second name ends in ``weight``.
    """
    by_last: dict[str, list[list[str]]] = {}
    for name in theirs:
        parts = name.split(".")
        by_last.setdefault(parts[-1], []).append(parts)
    votes: Counter[tuple[str, str]] = Counter({("", ""): 0})
    for anchor in _anchors(own):
        mine = ours[anchor].split(".")
        for parts in by_last.get(mine[-1], ()):
            same = 1
            while same < min(len(mine), len(parts)) and mine[-same - 1] == parts[-same - 1]:
                same += 1
            if same > 1 or same in (len(mine), len(parts)):
                votes[_prefix(parts[:-same]), _prefix(mine[:-same])] += 1
    return [pair for pair, _ in votes.most_common(_CANDIDATES)] + [("", "")]


def _prefix(parts: Sequence[str]) -> str:
    return "".join(f"{part}." for part in parts)


def _anchors(own: Mapping[str, int]) -> list[str]:
    largest = sorted(own, key=lambda name: -own[name])[: _ANCHORS // 2]
    names = list(own)
    spread = names[:: max(1, len(names) // (_ANCHORS // 2))]
    return list(dict.fromkeys([*largest, *spread]))
