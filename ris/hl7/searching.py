"""How people look for messages, those that came and those that we send."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import InstrumentedAttribute

from ris.hl7.tables import MessageRow, OutgoingRow

Row = TypeVar("Row", MessageRow, OutgoingRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What any message can be asked for; what is empty asks for nothing."""

    patient_id: str = ""
    order_number: str = ""
    accession_number: str = ""
    control_id: str = ""
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def keys(self) -> Sequence[str]:
        """Return the keys that a message must have, as its row has them."""
        numbers = {
            "patient": self.patient_id,
            "order": self.order_number,
            "accession": self.accession_number,
        }
        return [f"{kind}:{number}" for kind, number in numbers.items() if number]


def newest(
    row: type[Row],
    moment: InstrumentedAttribute[datetime],
    wanted: Search,
    limit: int,
    before: int | None,
) -> Select[Row]:
    """Return a query of the messages that are wanted, newest first, below the number `before`."""
    statement = select(row).order_by(row.id.desc()).limit(limit)
    if keys := wanted.keys():
        statement = statement.where(row.keys.contains(keys))
    if wanted.control_id:
        statement = statement.where(row.control_id == wanted.control_id)
    if wanted.state:
        statement = statement.where(row.state == wanted.state)
    if wanted.since is not None:
        statement = statement.where(moment >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(moment < wanted.until)
    if before is not None:
        statement = statement.where(row.id < before)
    return statement
