"""Dates of a series for transformers: year, month and day of the year in tensors, and which tokens are there."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

_ERA_DAYS = 146097
"""Of 400 years, after which the Gregorian calendar repeats."""
_SHIFT = 719468
"""Days from 0000-03-01 to 1970-01-01: years are counted from March, so that a leap day is the last of one."""


def year_and_day(days: Int[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Year and day of the year, from 1, of days since 1970-01-01.

    Example:
        >>> [int(part) for part in year_and_day(torch.tensor(19782))]  # 2024-02-29
        [2024, 60]
    """
    year, from_march = _since_march(days)
    january = from_march >= 306  # days of January and February close the year that began in March
    year = year + january
    leap = ((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0)
    day = torch.where(january, from_march - 305, from_march + 60 + leap)
    return year.float(), day.float()


def month_of(days: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Month, from 1, of days since 1970-01-01.

    Example:
        >>> [int(month_of(torch.tensor(day))) for day in (0, 19782, 19783)]  # 2024-02-29 and the day after it
        [1, 2, 3]
    """
    since = (5 * _since_march(days)[1] + 2) // 153  # months of 31, 30, 31, 30, 31 days, twice and then some
    return torch.where(since >= 10, since - 9, since + 3)


def token_mask(present: Bool[Tensor, "b t"], tokens: int) -> Bool[Tensor, "b 1 1 n"]:
    """Which tokens others attend to: a first one that belongs to no date, then those of date after date.

    Args:
        present: False for missing dates.
        tokens: How many there are, the first one included.

    Example:
        >>> token_mask(torch.tensor([[True, False]]), 5).tolist()
        [[[[True, True, True, False, False]]]]
    """
    of_dates = present.repeat_interleave((tokens - 1) // present.shape[1], dim=1)
    return functional.pad(of_dates, (1, 0), value=True)[:, None, None]


def _since_march(days: Int[Tensor, "*n"]) -> tuple[Int[Tensor, "*n"], Int[Tensor, "*n"]]:
    """Year that began in March, and days since its first."""
    shifted = days.long() + _SHIFT
    era = torch.div(shifted, _ERA_DAYS, rounding_mode="floor")
    of_era = shifted - era * _ERA_DAYS
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // (_ERA_DAYS - 1)) // 365
    from_march = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    return year_of_era + era * 400, from_march
