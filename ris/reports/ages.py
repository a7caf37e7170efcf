"""How old somebody was on a day, in the unit that a hospital says it in."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from ris.reports.faults import Words

MONTHS_UNTIL: Final = 72
"""Children are counted in months below this age."""
DAYS_UNTIL: Final = 30
"""Newborns are counted in days below this age."""
_YEAR: Final = re.compile(r"(\d{4})")
_DATE: Final = re.compile(r"(\d{4})(\d\d)(\d\d)")

YEARS: Final = Words("years", "tuổi")
MONTHS: Final = Words("months", "tháng tuổi")
DAYS: Final = Words("days", "ngày tuổi")


@dataclass(frozen=True, slots=True)
class Age:
    """A whole number of one unit."""

    count: int
    unit: Words

    def told(self, language: str) -> str:
        """Return it as it is written: ``5 tháng tuổi``."""
        return f"{self.count} {self.unit.told(language)}"


def age_at(birth_date: str, day: date) -> Age | None:
    """Return the age of who was born on `birth_date` (``YYYYMMDD``, or the year alone) on `day`.

    None when the date cannot be read, comes later, or is the present year and no more is known.
    """
    born = _date(birth_date)
    if born is None:
        year = _YEAR.match(birth_date)
        years = day.year - int(year[1]) if year else -1
        return Age(years, YEARS) if years > 0 else None
    if born > day:
        return None
    if (days := (day - born).days) < DAYS_UNTIL:
        return Age(days, DAYS)
    months = (day.year - born.year) * 12 + day.month - born.month - (day.day < born.day)
    return Age(months, MONTHS) if months < MONTHS_UNTIL else Age(months // 12, YEARS)


def _date(text: str) -> date | None:
    match = _DATE.fullmatch(text)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None
