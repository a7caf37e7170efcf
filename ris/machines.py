"""The machines of the hospital by AE title, as the health insurance knows them.

Form 06/DM of the insurance: the code of a machine (MA_MAY) stands in every claim for what was done
on it (decision 3176/QĐ-BYT).
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from storage.base import values
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db.columns import Base, Instant
from storage.db.engine import Session

LONGEST: Final = 1024
"""Characters of MA_MAY."""


class MachineRow(Base):
    """One machine."""

    __tablename__ = "machines"

    ae_title: Mapped[str] = mapped_column(primary_key=True)
    machine_code: Mapped[str]
    name: Mapped[str]
    serial_number: Mapped[str]
    circulation_number: Mapped[str]
    room: Mapped[str]
    changed_at: Mapped[Instant]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine."""

    ae_title: str
    machine_code: str = ""
    """MA_MAY."""
    name: str = ""
    serial_number: str = ""
    circulation_number: str = ""
    """Số lưu hành."""
    room: str = ""


def put(session: Session, machine: Machine) -> Machine:
    """Register a machine, or change one.

    Raises
    ------
    Malformed
        The AE title is none, or a text is too long.
    """
    texts = {name: text.strip().replace("\0", "") for name, text in asdict(machine).items()}
    if any(len(text) > LONGEST for text in texts.values()):
        raise Malformed(f"at most {LONGEST} characters")
    known = {**texts, "ae_title": values.ae_title(machine.ae_title)}
    statement = insert(MachineRow).values(**known, changed_at=utc_now())
    changed = {**known, "changed_at": statement.excluded.changed_at}
    session.execute(statement.on_conflict_do_update(index_elements=["ae_title"], set_=changed))
    return Machine(**known)


def remove(session: Session, ae_title: str) -> None:
    """Forget a machine.

    Raises
    ------
    NotFound
        There is none of that AE title.
    """
    row = session.get(MachineRow, ae_title.replace("\0", ""))
    if row is None:
        raise NotFound(f"no machine has the AE title {ae_title[:17]!r}")
    session.delete(row)


def list_all(session: Session) -> Sequence[Machine]:
    """Return the machines by AE title."""
    return [
        _machine(row) for row in session.scalars(select(MachineRow).order_by(MachineRow.ae_title))
    ]


def of_titles(session: Session, ae_titles: Collection[str]) -> dict[str, Machine]:
    """Return the machines of these AE titles."""
    statement = select(MachineRow).where(MachineRow.ae_title.in_({*ae_titles}))
    return {row.ae_title: _machine(row) for row in session.scalars(statement)}


def _machine(row: MachineRow) -> Machine:
    return Machine(
        ae_title=row.ae_title,
        machine_code=row.machine_code,
        name=row.name,
        serial_number=row.serial_number,
        circulation_number=row.circulation_number,
        room=row.room,
    )
