"""DateLayout: how the dates of time series are stored in files, and the date in a file's name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.errors import InputError

_DATE = r"(?P<date>\d{4}-\d{2}-\d{2}|\d{8}|\d{7})"
_IN_NAME = re.compile(rf"(?P<case>[^/]+?)[_-]{_DATE}\.[^/]+")
_IN_FOLDER = re.compile(rf"(?P<case>[^/]+)/(?:.*\D)?{_DATE}(?!\d)[^/]*")
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class DateLayout:
    """How the dates of a case are stored in its files.

    Attributes:
        pattern: Regular expression for a file's path below its folder (``/`` between names), whose groups
            ``case`` and ``date`` are the case and the date: YYYYMMDD, YYYY-MM-DD or YYYYDDD. None takes
            ``case_date.tif``, and ``case/...date....tif``.
        slots: Most dates of a case. Of a case with more, evenly spaced ones are read, with the first
            and the last. None: the most dates of any case.
        in_file: Number of dates in each file, its bands one date after another; they are numbered, as their days
            are unknown. None: a file for each date.
    """

    pattern: str | None = None
    slots: int | None = None
    in_file: int | None = None

    @classmethod
    def from_config(cls, settings: Mapping[str, Any]) -> DateLayout:
        """Layout of ``data.dates``.

        Raises:
            InputError: Unknown keys, numbers below 1, or an invalid pattern.
        """
        names = [f.name for f in fields(cls)]
        if unknown := sorted(set(settings) - set(names)):
            raise InputError(f"data.dates: got {unknown}, expected some of {names}, as in data.dates={{slots: 12}}")
        layout = cls(**settings)
        if any(n is not None and n < 1 for n in (layout.slots, layout.in_file)):
            raise InputError(f"data.dates={dict(settings)}: slots and in_file count dates; expected 1 or more")
        if layout.pattern is not None:
            if layout.in_file is not None:
                raise InputError(
                    "data.dates: pattern finds a file for each date, in_file that a file has all; give one"
                )
            layout._compiled()
        return layout

    def find(self, path: str) -> tuple[str, int] | None:
        """(case, day since 1970-01-01) of a file's path below its folder; None without a date.

        Example:
            >>> DateLayout().find("field_2020-01-31.tif"), DateLayout().find("field/S2A_1970010_B4.tif")
            (('field', 18292), ('field', 9))

        Raises:
            InputError: The text that matches is no date.
        """
        for compiled in (_IN_NAME, _IN_FOLDER) if self.pattern is None else (self._compiled(),):
            match = (compiled.fullmatch if self.pattern is None else compiled.search)(path)
            if match:
                return match["case"].replace("/", "_"), day_of(match["date"], path)
        return None

    def day(self, path: Path) -> int:
        """Day of a file, by its name or, where the pattern needs them, its parent folders.

        Raises:
            InputError: There is no date.
        """
        for depth in range(1, len(path.parts) + 1):
            match = self.find("/".join(path.parts[-depth:]))
            if match:
                return match[1]
        raise InputError(f"{path}: no date in its name; {self.expected}")

    @property
    def expected(self) -> str:
        """Description of the expected names, for messages."""
        if self.pattern is None:
            return "expected case_20200131.tif or case/20200131.tif; data.dates.pattern describes other names"
        return f"expected what data.dates.pattern={self.pattern} finds"

    def _compiled(self) -> re.Pattern[str]:
        """The pattern as a regular expression, with the groups of case and date."""
        try:
            compiled = re.compile(str(self.pattern))
        except re.error as error:
            raise InputError(f"data.dates.pattern={self.pattern}: is no regular expression ({error})") from error
        if not {"case", "date"} <= set(compiled.groupindex):
            raise InputError(
                f"data.dates.pattern={self.pattern}: needs the groups (?P<case>...) and (?P<date>...), as in "
                r"'(?P<case>.+)_(?P<date>\d{8})\.tif$'"
            )
        return compiled


def dated(case: Case, dates: DateLayout) -> Case:
    """The case with the dates of its files, and its files in the order of dates.

    With as many image groups as files, dates may have files of different groups.

    Raises:
        InputError: A file without a date, or dates with more files than others.
    """
    if dates.in_file is not None:
        return replace(case, days=tuple(range(dates.in_file)), in_file=True)
    by_day: dict[int, list[int]] = defaultdict(list)
    for number, path in enumerate(case.images):
        by_day[dates.day(path)].append(number)
    first, *others = sorted(by_day)
    grouped = bool(others) and len(case.image_groups) == len(case.images)
    if not grouped:
        _check_even(case.id, {day: len(by_day[day]) for day in (first, *others)})
    order = [number for day in sorted(by_day) for number in by_day[day]]
    images, days = tuple(case.images[number] for number in order), (first, *others)
    if not grouped:
        return replace(case, images=images, days=days)
    groups, counts = tuple(case.image_groups[number] for number in order), tuple(len(by_day[day]) for day in days)
    return replace(case, images=images, days=days, image_groups=groups, per_date=counts)


def _check_even(case: str, counts: Mapping[int, int]) -> None:
    """Raise on dates with more or fewer files than the first one."""
    first, *others = counts
    for day in others:
        if counts[day] != counts[first]:
            raise InputError(
                f"case {case}: {counts[day]} file(s) of {shown(day)} and {counts[first]} of {shown(first)}, expected "
                "as many of each date; add or take out some"
            )


def day_of(text: str, where: str) -> int:
    """Days since 1970-01-01 of YYYYMMDD or YYYYDDD; other characters are ignored.

    Example:
        >>> day_of("2020-01-31", "a"), day_of("2020031", "a")
        (18292, 18292)

    Raises:
        InputError: It is no date.
    """
    digits = re.sub(r"\D", "", text)
    try:
        if len(digits) == 7:
            day = date(int(digits[:4]), 1, 1) + timedelta(int(digits[4:]) - 1)
            if not digits.endswith(f"{day.timetuple().tm_yday:03d}"):
                raise ValueError(f"day {digits[4:]} of the year")
        else:
            day = datetime.strptime(digits, "%Y%m%d").date()
    except ValueError as error:
        raise InputError(
            f"{where}: {text} is no date ({error}); expected YYYYMMDD, YYYY-MM-DD or YYYYDDD; fix the name, or "
            "data.dates.pattern"
        ) from error
    return (day - _EPOCH).days


def shown(day: int) -> str:
    """A day as text, for messages.

    Example:
        >>> shown(18292)
        '2020-01-31'
    """
    return (_EPOCH + timedelta(day)).isoformat()
