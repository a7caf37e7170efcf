"""How often the database is asked for one message: what limits orders a second."""

import pytest

from tests.fixtures.his import His, order, pid
from tests.fixtures.statements import counted

MOST_NEW = 7
MOST_KNOWN = 8
MOST_NOT_PLAIN = 29


def cost(his: His, kind: str, *segments: str) -> list[str]:
    octets = his.message(kind, *segments)
    with counted(his.engine) as statements:
        assert b"MSA|AA|" in his.pipeline.answer(octets, "10.1.0.5")
    return statements


@pytest.fixture
def busy(his: His) -> His:
    """A sender whose profile was read and who has sent before."""
    his.order("NW", "1", "1")
    return his


def test_order_of_a_new_patient_costs_few_round_trips(busy: His) -> None:
    statements = cost(busy, "ORM^O01", *order("NW", "2", "2"))

    assert len(statements) <= MOST_NEW, "\n".join(statements)


def test_order_of_a_known_patient_costs_few_round_trips(busy: His) -> None:
    statements = cost(busy, "ORM^O01", *order("NW", "2", "1"))

    assert len(statements) <= MOST_KNOWN, "\n".join(statements)


def test_order_that_is_not_plain_costs_few_more(busy: His) -> None:
    busy.order("NW", "2", "2")

    statements = cost(busy, "ORM^O01", *order("NW", "3", person=pid("2", "TRẦN VĂN KHÁC")))

    assert len(statements) <= MOST_NOT_PLAIN, "\n".join(statements)


def test_change_is_not_looked_at_twice(busy: His) -> None:
    statements = cost(busy, "ORM^O01", *order("XO", "1", "1"))

    assert not any("pg_try_advisory" in one for one in statements)


def test_order_costs_no_more_when_there_are_many(busy: His) -> None:
    before = len(cost(busy, "ORM^O01", *order("NW", "2", "1")))
    for number in range(3, 30):
        busy.order("NW", str(number), "1")

    assert len(cost(busy, "ORM^O01", *order("NW", "99", "1"))) == before


def test_repeated_message_costs_a_look_into_the_ledger(busy: His) -> None:
    octets = busy.message("ADT^A08", pid("1"), "PV1||O")
    busy.pipeline.answer(octets, "10.1.0.5")

    with counted(busy.engine) as statements:
        busy.pipeline.answer(octets, "10.1.0.5")

    assert len(statements) <= 3, "\n".join(statements)
