"""What one worklist query asks for, with what it leaves unsaid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from sqlalchemy import ColumnElement, Text, literal, literal_column, or_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Boolean

from ris.keys import Attributes, Matcher, is_universal
from ris.model import StepStatus
from ris.tables import OPEN, ProcedureRow, StepRow
from ris.worklist.conditions import CONDITIONS, is_wild, on_days, parts_of
from ris.worklist.entries import MATCHED, Scheduled, entry_of
from ris.worklist.keywords import MODALITY, START_DATE, STATION, STATUS, TIMEZONE
from storage.base import values
from storage.base.errors import Malformed

SHOWN: Final = frozenset(
    {StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY, StepStatus.STARTED}
)
"""What a worklist has when the query names no status: a step that was begun stays on it until it
is done, since consoles ask again in the middle of an exam."""


@dataclass(frozen=True, slots=True)
class Query:
    """One worklist query."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Dotted keyword → value as sent; '' matches everything."""
    calling_ae_title: str = ""
    """The console; '' for people, who are at no station."""
    every_station: bool = False
    """Without a station the query means all of them, not only the console's own."""
    combined_datetime: bool = False
    fuzzy: bool = False


class Filter:
    """What one query asks for, with what it leaves unsaid.

    Parameters
    ----------
    zone
        The time zone of the hospital: of all dates and times, unless the query names an offset.

    Raises
    ------
    Malformed
        A key cannot be read; the text names its keyword.
    """

    def __init__(self, query: Query, zone: tzinfo) -> None:
        given = {
            keyword: value
            for keyword, value in query.keys.items()
            if keyword in MATCHED and not is_universal(value)
        }
        self.own_station = (
            bool(query.calling_ae_title) and STATION not in given and not query.every_station
        )
        """Whether the station is left unsaid, and so is the console's own."""
        if self.own_station:
            given[STATION] = query.calling_ae_title
        self.keys: Mapping[str, str] = given
        self.offset = _offset(query.keys.get(TIMEZONE, ""))
        """Of the clock that the query speaks of; None: the hospital's."""
        self._query = query
        self._zone = zone
        self._matcher = Matcher(given, combined_datetime=query.combined_datetime, fuzzy=query.fuzzy)

    def entry(self, scheduled: Scheduled) -> Attributes:
        """Return what the worklist says of a step to who asks."""
        step = scheduled.step
        start, end = self._local(step.start), self._local(step.end)
        stations = self._stations(step.station_ae_titles)
        modality = step.modality or self._asked_modality()
        shown = replace(step, start=start, end=end, station_ae_titles=stations, modality=modality)
        return {**entry_of(replace(scheduled, step=shown)), TIMEZONE: self._told_offset(step.start)}

    def matches(self, entry: Attributes) -> bool:
        """Whether an entry matches every key."""
        return self._matcher.matches(entry)

    def failing(self, entry: Attributes) -> list[str]:
        """Return the keys that an entry does not match."""
        return self._matcher.failing(entry)

    def shows(self, scheduled: Scheduled) -> bool:
        """Whether the step is one that this query is about, whatever its keys say."""
        by_status = STATUS in self.keys or scheduled.step.status in SHOWN
        somewhere = scheduled.step.modality or scheduled.step.station_ae_titles
        return by_status and not scheduled.procedure.canceled and bool(somewhere)

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield what the database can leave out; never too much."""
        yield or_(StepRow.modality > "", StepRow.station_ae_titles != literal([], ARRAY(Text)))
        yield ProcedureRow.canceled.is_(False)
        if STATUS not in self.keys:
            yield literal_column(OPEN.text, Boolean)
        for keyword, value in self.keys.items():
            condition = CONDITIONS.get(keyword)
            if condition is not None:
                yield from condition(parts_of(value))
        if START_DATE in self.keys:
            slack = timedelta(days=1) if self.offset is not None else timedelta()
            yield on_days(parts_of(self.keys[START_DATE]), slack)

    def _asked_modality(self) -> str:
        """Return what a step of a station is that nobody gave a modality: what is asked for."""
        asked = [part for part in parts_of(self.keys.get(MODALITY, "")) if not is_wild(part)]
        return asked[0].upper() if asked else ""

    def _stations(self, stations: tuple[str, ...]) -> tuple[str, ...]:
        """Put the station that is asked for first; a step of any station is one of that."""
        asked = [part for part in parts_of(self.keys.get(STATION, "")) if not is_wild(part)]
        own = self._query.calling_ae_title
        meant = own if own in asked or not asked else asked[0]
        if not stations:
            return (meant,) if meant else ()
        return tuple(sorted(stations, key=lambda one: one != meant))

    def _local(self, moment: datetime | None) -> datetime | None:
        if moment is None or self.offset is None:
            return moment
        return moment.replace(tzinfo=self._zone).astimezone(self.offset).replace(tzinfo=None)

    def _told_offset(self, moment: datetime | None) -> str:
        zone = self.offset or self._zone
        aware = (moment or datetime.now(UTC).replace(tzinfo=None)).replace(tzinfo=zone)
        return aware.strftime("%z")[:5]


def _offset(text: str) -> tzinfo | None:
    """Return the clock of a Timezone Offset From UTC (0008,0201); None when none is named."""
    bare = text.strip(values.PADDING)
    if is_universal(bare):
        return None
    sign, hours, minutes = bare[:1], bare[1:3], bare[3:]
    if sign not in {"+", "-"} or len(bare) != 5 or not (hours + minutes).isdecimal():  # noqa: PLR2004
        raise Malformed(f"{TIMEZONE}: not &ZZXX")
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    if ahead > timedelta(hours=14):
        raise Malformed(f"{TIMEZONE}: not between -1200 and +1400")
    return timezone(ahead if sign == "+" else -ahead)
