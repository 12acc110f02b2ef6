"""Codes: what classes are in a terminology, for DICOM segmentation objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from medseg.errors import InputError, nearest
from medseg.runtime.values import listed, mapped, shown, text

_SUCH = "{liver: {category: [123037004, SCT, Anatomical Structure], type: [10200004, SCT, Liver]}}"
_LONGEST = (16, 16, 64)  # characters that DICOM has for value, scheme and meaning


@dataclass(frozen=True)
class Code:
    """A concept of a terminology.

    Attributes:
        value: Code value, such as ``10200004``.
        scheme: Designator of the coding scheme, such as ``SCT`` (SNOMED CT).
        meaning: The concept in words, such as ``Liver``.
    """

    value: str
    scheme: str
    meaning: str


TISSUE = Code("85756007", "SCT", "Tissue")
"""The concept of classes without codes, as category and as type."""


@dataclass(frozen=True)
class ClassCodes:
    """Codes of a class.

    Attributes:
        category: What kind of thing it is, by DICOM's context group 7150.
        type: What it is.
    """

    category: Code = TISSUE
    type: Code = TISSUE


def codes_of(declared: object, names: Iterable[str], key: str = "data.codes") -> tuple[tuple[str, ClassCodes], ...]:
    """Codes by class name.

    Args:
        declared: ``{name: {category: [value, scheme, meaning], type: [value, scheme, meaning]}}``; the category is
            that of a tissue if it is left out.
        names: Classes and regions that may have codes.
        key: Of the configuration, for messages.

    Raises:
        InputError: Another form, an unknown name, or text that is too long for DICOM.

    Example:
        >>> codes_of({"liver": {"type": [10200004, "SCT", "Liver"]}}, ["liver"])[0][1].type.value
        '10200004'
    """
    allowed = list(names)
    entries = []
    for name, fields in mapped(declared, key).items():
        if name not in allowed:
            raise InputError(f"{key}: no class {shown(name, repr)}; {nearest(str(name), allowed)}")
        parts = mapped(fields, f"{key}.{name}", ["type"], known=["category", "type"])
        codes = {part: _code(value, f"{key}.{name}.{part}") for part, value in parts.items()}
        entries.append((str(name), ClassCodes(**codes)))
    return tuple(entries)


def stored_codes(codes: Iterable[tuple[str, ClassCodes]]) -> dict[str, Any]:
    """The form that ``codes_of`` takes."""
    return {name: {"category": list(astuple(c.category)), "type": list(astuple(c.type))} for name, c in codes}


def _code(value: object, key: str) -> Code:
    parts = [str(part) if isinstance(part, int) else text(part, key) for part in listed(value, key)]
    if len(parts) != len(_LONGEST) or not all(0 < len(p) <= n for p, n in zip(parts, _LONGEST, strict=True)):
        raise InputError(
            f"{key}={shown(value)}: expected value, scheme and meaning, of up to {_LONGEST[0]}, {_LONGEST[1]} and "
            f"{_LONGEST[2]} characters, as in {_SUCH}"
        )
    return Code(*parts)
