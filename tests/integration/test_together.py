"""Rows of several tables in one round trip."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ris.tables import ORDER_NUMBERS, IdentifierRow, OrderRow, PatientRow, ProcedureRow, StepRow
from storage.db import together
from storage.db.engine import Engine, Session, transaction
from tests.fixtures.statements import counted

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


def patient(number: int) -> PatientRow:
    return PatientRow(id=number, root_ref=number, created_at=NOW, changed_at=NOW)


def order(number: int, of: int, **more: object) -> OrderRow:
    return OrderRow(id=number, patient_ref=of, sender="his", created_at=NOW, changed_at=NOW, **more)


def written(session: Session) -> OrderRow:
    """Write a patient and an order at once; return the order."""
    one, two = together.take(session, PatientRow, OrderRow)
    made = order(two, one, accession_number="A1", further={"Allergies": "sữa"})
    together.write(session, [patient(one), made])
    return made


def test_rows_that_refer_to_each_other_go_in_one_statement(engine: Engine) -> None:
    with transaction(engine) as session, counted(engine) as statements:
        person, ordered, asked, planned = together.take(
            session, PatientRow, OrderRow, ProcedureRow, StepRow
        )
        procedure = ProcedureRow(id=asked, order_ref=ordered, study_instance_uid="1.2.3")
        step = StepRow(
            id=planned, order_ref=ordered, procedure_ref=asked, station_ae_titles=["CT1", "CT2"]
        )
        together.write(session, [patient(person), order(ordered, person), procedure, step])

    with transaction(engine) as session:
        held = session.scalars(select(StepRow)).one()
        assert (held.id, held.station_ae_titles) == (planned, ["CT1", "CT2"])
    assert len(statements) == 2


def test_what_is_not_given_is_the_columns_default(engine: Engine) -> None:
    with transaction(engine) as session:
        made = written(session)

        assert (made.confidentiality, made.awaited) == ("", False)
        assert made.further == {"Allergies": "sữa"}


def test_a_written_row_is_changed_like_any_other(engine: Engine) -> None:
    with transaction(engine) as session:
        written(session).accession_number = "A2"

    with transaction(engine) as session:
        assert session.scalars(select(OrderRow.accession_number)).all() == ["A2"]


def test_nothing_is_written_when_one_row_cannot_be(engine: Engine) -> None:
    with transaction(engine) as session:
        one, two = together.take(session, PatientRow, OrderRow)
        with pytest.raises(IntegrityError):
            together.write(session, [patient(one), order(two, of=one + 1_000_000)])
        session.rollback()

    with transaction(engine) as session:
        assert session.scalars(select(PatientRow)).all() == []


def test_numbers_are_those_that_the_database_gives_out(engine: Engine) -> None:
    with transaction(engine) as session:
        before, own, identifier = together.take(session, PatientRow, ORDER_NUMBERS, IdentifierRow)
        row = PatientRow(created_at=NOW, changed_at=NOW)
        session.add(row)
        session.flush()
        after, next_own, next_identifier = together.take(
            session, PatientRow, ORDER_NUMBERS, IdentifierRow
        )

    assert (row.id, after) == (before + 1, before + 2)
    assert (next_own, next_identifier) == (own + 1, identifier + 1)
