"""Defect: one plausible mistake in one place of the package, and the tests that are to notice it.

The tables are in defects_*.py, by topic; plant_defects.py plants them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """A mistake that is planted in a copy of the source.

    Attributes:
        name: Unique, in small letters with hyphens.
        claim: What the package promises and this breaks.
        file: Path below the folder of the repository.
        old: Text that occurs exactly once in the file.
        new: What takes its place.
        tests: Files of tests, or single ones as pytest names them.
    """

    name: str
    claim: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.old == self.new:
            raise ValueError(f"{self.name}: changes nothing")
