"""Laterality: class names of one side of the body, and pairs of them that are mirror images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LEFT = frozenset(
    {
        "left", "l", "lh", "lt", "sin", "sinister", "sinistra", "sinistrum", "links", "linke", "linker", "linkes",
        "gauche", "izquierdo", "izquierda",
    }
)  # fmt: skip
_RIGHT = frozenset(
    {
        "right", "r", "rh", "rt", "dex", "dexter", "dextra", "dextrum", "rechts", "rechte", "rechter", "rechtes",
        "droit", "droite", "derecho", "derecha",
    }
)  # fmt: skip
_AND = frozenset({"and", "or", "und", "oder", "et", "ou", "y", "o"})
_UNLIKE = frozenset(
    {
        "heart", "cardiac", "atrium", "atria", "atrial", "auricle", "ventricle", "ventricles", "ventricular",
        "coronary", "liver", "hepatic", "colon", "colic",
    }
)  # fmt: skip
_BRAIN = frozenset({"lat", "lateral", "inferior", "cerebral", "brain", "horn"})
_Groups = dict[tuple[str, ...], tuple[list[str], list[str]]]
"""Words of a structure to its left and its right names."""
_GLUED = re.compile(r"(left|right)(?!over)(?:[a-z]{3,}|\d+)|[a-z]{3,}(left|right)\d*")


@dataclass(frozen=True)
class Laterality:
    """Names of one side of the body.

    Attributes:
        pairs: (left, right) names that a mirror across the body exchanges.
        one_sided: Names of one side without such a partner: the mirror image of the structure has no name.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    one_sided: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every lateral name."""
        return (*(name for pair in self.pairs for name in pair), *self.one_sided)


def laterality(names: Sequence[str]) -> Laterality:
    """Find lateral names by their words: left and right, L and R, lh and rh, sin and dex, links and rechts, ...

    Names that differ in the side only are a pair, whatever the order, case and separators of their words. Two
    names of one side that would be partners of the same name are one-sided, as is a name that mixes the sides.
    So are the sides of organs that are no mirror images of each other (chambers of the heart, lobes of the
    liver): a mirrored left ventricle has the thick wall of a left one. A name such as ``left and right lung``
    is of both sides, and a name of up to three letters, such as ``L``, counts only where its partner exists.

    Example:
        >>> laterality(["background", "left kidney", "Kidney_R", "bright spot", "spleen"]).pairs
        (('left kidney', 'Kidney_R'),)
        >>> laterality(["left lung", "right lung", "right lung middle lobe", "left atrium", "right atrium"]).one_sided
        ('left atrium', 'right atrium', 'right lung middle lobe')
    """
    groups, one_sided = _by_structure(names)
    pairs = []
    for key, (left, right) in groups.items():
        if len(left) == len(right) == 1 and not _unlike(key):
            pairs.append((left[0], right[0]))
        else:
            one_sided += [n for n in (*left, *right) if key or len(n) > 3 or (left and right)]
    return Laterality(tuple(pairs), tuple(sorted(one_sided)))


def _by_structure(names: Sequence[str]) -> tuple[_Groups, list[str]]:
    """Names of one side by the words without their side, and names that mix the sides."""
    groups: _Groups = {}
    mixed = []
    for name in names:
        words = _words(name)
        sides = [_side(word) for word in words]
        if -1 in sides and 1 in sides:
            if not _both(words, sides):
                mixed.append(name)
        elif any(sides) and not {"right", "of", "way"} <= set(words):
            key = tuple(sorted(filter(None, map(_rest, words))))
            groups.setdefault(key, ([], []))[1 in sides].append(name)
    return groups, mixed


def _words(name: str) -> list[str]:
    """Words of a name in lower case; ``kidneyLeft`` has two."""
    return [w.lower() for w in re.findall(r"[^\W\d_]+\d*|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))]


def _side(word: str) -> int:
    """-1 left, 1 right, 0 neither."""
    if word in _LEFT or word in _RIGHT:
        return 1 if word in _RIGHT else -1
    glued = _GLUED.fullmatch(word)
    return 0 if glued is None else 1 if "right" in glued.groups() else -1


def _rest(word: str) -> str:
    """The word without its side."""
    if word in _LEFT or word in _RIGHT:
        return ""
    glued = _GLUED.fullmatch(word)
    return word if glued is None else word.replace(glued[1] or glued[2], "", 1)


def _both(words: Sequence[str], sides: Sequence[int]) -> bool:
    """Whether a name joins left and right, as ``left and right lung`` and ``kidneys (L+R)`` do."""
    sided = [i for i, side in enumerate(sides) if side]
    return all(word in _AND for word in words[sided[0] + 1 : sided[-1]])


def _unlike(words: Sequence[str]) -> bool:
    """Whether left and right of this organ differ in more than their side."""
    return bool(_UNLIKE & set(words)) and not ({"ventricle", "ventricles"} & set(words) and _BRAIN & set(words))
