"""The last query of each console on the real table."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from ris import queries
from ris.queries import LastQuery
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Engine, Session, transaction

NOW = utc_now()
FIRST = LastQuery("CT01", {"PatientName": "NGUYỄN*"}, NOW, 3)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as opened:
        yield opened


def test_query_comes_back_without_the_keys_that_ask_for_nothing(session: Session) -> None:
    queries.remember(
        session, LastQuery("CT01", {"PatientName": "NGUYỄN*", "PatientID": ""}, NOW, 3)
    )

    assert queries.last(session, "CT01") == FIRST


def test_only_the_last_query_of_a_console_is_kept(session: Session) -> None:
    later = LastQuery("CT01", {}, NOW + timedelta(seconds=30), 0)
    other = LastQuery("CT02", {"PatientID": "1"}, NOW, 1)

    for query in (FIRST, other, later):
        queries.remember(session, query)

    assert queries.last(session, "CT01") == later
    assert queries.last(session, "CT02") == other


def test_query_that_was_overtaken_is_not_the_last_one(session: Session) -> None:
    later = LastQuery("CT01", {}, NOW + timedelta(seconds=30), 0)

    for query in (later, FIRST):
        queries.remember(session, query)

    assert queries.last(session, "CT01") == later


def test_console_that_never_asked_is_said_so(session: Session) -> None:
    with pytest.raises(NotFound, match="no worklist query came from 'MR9'"):
        queries.last(session, "MR9")
