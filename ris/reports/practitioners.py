"""The people who read and sign: who they are on paper, and which caller acts as whom."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from ris.reports.contents import check_short
from ris.reports.faults import Fault, Invalid, Missing, NotAllowed
from ris.reports.model import Practitioner
from ris.reports.tables import PractitionerRow
from storage.base.clock import utc_now
from storage.db.engine import Session

NAME_MAX = 250


def put(
    session: Session,
    practitioner: Practitioner,
    caller: str | None = None,
    credential: str = "",
) -> Practitioner:
    """Register a person, or change one; versions that were signed keep what stood there then.

    `caller` is the token or account that acts as this person; nobody else does from now on.
    `credential` names the person's key at the signing provider.

    Raises
    ------
    Invalid
        Code or name are empty, or something is too long.
    """
    faults = [
        Fault("required", f"/{name}")
        for name in ("code", "name")
        if not getattr(practitioner, name).strip()
    ]
    if faults:
        raise Invalid(*faults)
    texts = {
        name: check_short(getattr(practitioner, name), f"/{name}", NAME_MAX)
        for name in ("code", "name", "qualification", "licence_number")
    }
    if caller is not None:
        _let_go(session, caller)
    values = {**texts, "may_approve": practitioner.may_approve, "caller": caller}
    values["credential"] = check_short(credential, "/credential", NAME_MAX)
    statement = insert(PractitionerRow).values(**values, created_at=utc_now())
    session.execute(
        statement.on_conflict_do_update(index_elements=["code"], set_=values).execution_options(
            synchronize_session=False
        )
    )
    return Practitioner(**texts, may_approve=practitioner.may_approve)


def acting(session: Session, caller: str) -> Practitioner:
    """Return the person that `caller` acts as.

    Raises
    ------
    NotAllowed
        There is none: who writes into a patient's record has a name.
    """
    row = session.scalar(select(PractitionerRow).where(PractitionerRow.caller == caller))
    if row is None:
        raise NotAllowed(Fault("no_practitioner"))
    return _practitioner(row)


def get(session: Session, code: str) -> Practitioner:
    """Return one person.

    Raises
    ------
    Missing
        Nobody has that code.
    """
    row = session.get(PractitionerRow, code)
    if row is None:
        raise Missing(Fault("no_practitioner"))
    return _practitioner(row)


def credential_of(session: Session, code: str) -> str:
    """Return the name of a person's key at the signing provider, '' when there is none."""
    row = session.get(PractitionerRow, code)
    return row.credential if row else ""


def list_all(session: Session) -> Sequence[Practitioner]:
    """Return everybody by code."""
    statement = select(PractitionerRow).order_by(PractitionerRow.code)
    return [_practitioner(row) for row in session.scalars(statement)]


def _let_go(session: Session, caller: str) -> None:
    for row in session.scalars(select(PractitionerRow).where(PractitionerRow.caller == caller)):
        row.caller = None
    session.flush()


def _practitioner(row: PractitionerRow) -> Practitioner:
    return Practitioner(
        code=row.code,
        name=row.name,
        qualification=row.qualification,
        licence_number=row.licence_number,
        may_approve=row.may_approve,
    )
