"""Days as year and day of the year, beside Python's calendar."""

from datetime import date, timedelta

import torch

from medseg.models.earth.dates import year_and_day


def test_every_day_of_six_centuries_is_that_of_the_calendar():
    days = range(-60000, 160000, 7)
    calendar = [date(1970, 1, 1) + timedelta(days=n) for n in days]
    year, day = year_and_day(torch.tensor(days))
    assert year.tolist() == [d.year for d in calendar]
    assert day.tolist() == [d.timetuple().tm_yday for d in calendar]


def test_ends_of_years():
    ends = [(y, m, d) for y in (1900, 1999, 2000, 2023, 2024, 2100) for m, d in ((1, 1), (2, 28), (3, 1), (12, 31))]
    ends.append((2024, 2, 29))
    calendar = [date(*end) for end in ends]
    year, day = year_and_day(torch.tensor([(d - date(1970, 1, 1)).days for d in calendar]))
    assert year.tolist() == [d.year for d in calendar]
    assert day.tolist() == [d.timetuple().tm_yday for d in calendar]
