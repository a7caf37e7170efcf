"""The usual queries walk an index; none reads a table from end to end.

The plans are those of the very statements that the search sends, on an index of
20,000 studies with names and modalities as unevenly spread as in a hospital.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from storage.archive import instances, search
from storage.archive.model import Level, Query
from storage.db.engine import transaction
from tests.fixtures.filled_index import fill

STUDIES = 20_000
PAGE = 100
MOST_BLOCKS = 3_000
"""Blocks of 8 KiB that a page may touch; the studies alone are about 800, their indexes more."""

Plan = dict[str, Any]


@dataclass
class Planned:
    """What one call cost: the nodes of all its plans, the blocks it touched, its answers."""

    nodes: list[Plan]
    blocks: int
    answers: int

    @property
    def walked(self) -> set[str]:
        """The tables that were read from end to end."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}


@pytest.fixture(scope="module")
def filled(session_engine: Engine, cleaner: Engine) -> Iterator[Engine]:
    with cleaner.begin() as connection:
        connection.exec_driver_sql("TRUNCATE patients CASCADE")
    fill(cleaner, STUDIES)
    yield session_engine
    with cleaner.begin() as connection:
        connection.exec_driver_sql("TRUNCATE patients CASCADE")


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


class Explained:
    """Explains every SELECT that a session sends, with the same parameters."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sent: list[tuple[str, Any]] = []

    def _note(self, _c: object, _u: object, statement: str, parameters: Any, *_: object) -> None:
        self._sent.append((statement, parameters))

    def find(self, query: Query, **options: Any) -> Planned:
        with self._listening(), transaction(self._engine) as session:
            answers = search.find(session, query, limit=PAGE, **options).matches
        return self._planned(len(answers))

    def locate(self, **keys: str) -> Planned:
        with self._listening(), transaction(self._engine) as session:
            answers = instances.locate(session, keys)
        return self._planned(len(answers))

    def _listening(self) -> "_Listener":
        return _Listener(self._engine, self._note)

    def _planned(self, answers: int) -> Planned:
        with self._engine.connect() as connection:
            plans = [_explain(connection, *sent) for sent in self._sent]
        return Planned(
            nodes=[node for plan in plans for node in nodes(plan)],
            blocks=sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans),
            answers=answers,
        )


@dataclass
class _Listener:
    engine: Engine
    note: Any

    def __enter__(self) -> None:
        event.listen(self.engine, "before_cursor_execute", self.note)

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self.note)


def _explain(connection: Connection, statement: str, parameters: Any) -> Plan:
    explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    [answer] = connection.exec_driver_sql(explained, parameters).scalar_one()
    plan: Plan = answer["Plan"]
    return plan


@pytest.fixture
def explained(filled: Engine) -> Explained:
    return Explained(filled)


PATIENT, STUDY, SERIES, IMAGE = Level
USUAL = [
    (STUDY, {}, "ix_studies_order"),
    (STUDY, {"StudyDate": "20260301"}, "ix_studies_order"),
    (STUDY, {"StudyDate": "20260301", "ModalitiesInStudy": "CT"}, "ix_studies_order"),
    (STUDY, {"StudyDate": "20260201-20260301", "StudyTime": "07-12"}, "ix_studies_order"),
    (STUDY, {"ModalitiesInStudy": "CR"}, "ix_studies_order"),
    (STUDY, {"ModalitiesInStudy": "XA"}, None),
    (STUDY, {"PatientID": "BN00000077"}, "ix_studies_patient_id"),
    (STUDY, {"PatientID": "BN0000007*"}, None),
    (STUDY, {"PatientID": "*0077*"}, None),
    (STUDY, {"AccessionNumber": "A000000077"}, "ix_studies_accession_number"),
    (STUDY, {"AccessionNumber": "*00077"}, None),
    (STUDY, {"StudyInstanceUID": "2.25.8.77"}, "uq_studies_study_instance_uid"),
    (STUDY, {"StudyInstanceUID": "2.25.8.77\\2.25.8.78"}, "uq_studies_study_instance_uid"),
    (STUDY, {"PatientName": "nguyen"}, None),
    (STUDY, {"PatientName": "NGUYEN^VAN*"}, None),
    (STUDY, {"PatientName": "*VAN*AN*"}, None),
    (STUDY, {"PatientName": "an bui"}, None),
    (STUDY, {"PatientName": "WOLOWITZ"}, "ix_studies_trigrams"),
    (STUDY, {"PatientName": "*WOLOWITZ*"}, "ix_studies_trigrams"),
    (STUDY, {"StudyDescription": "*SO NAO*"}, None),
    (STUDY, {"StudyDescription": "*ENDOSCOPY*"}, "ix_studies_trigrams"),
    (STUDY, {"ReferringPhysicianName": "*199*"}, None),
    (SERIES, {"StudyInstanceUID": "2.25.8.77"}, "ix_series_order"),
    (SERIES, {"SeriesInstanceUID": "2.25.8.77.1"}, "uq_series_series_instance_uid"),
    (SERIES, {"StudyDate": "20260301", "Modality": "CT"}, "ix_studies_order"),
    (SERIES, {"Modality": "CR"}, "ix_studies_order"),
    (IMAGE, {"SeriesInstanceUID": "2.25.8.77.1"}, "ix_instances_order"),
    (IMAGE, {"SOPInstanceUID": "2.25.8.77.1.1"}, "uq_instances_sop_instance_uid"),
    (IMAGE, {"StudyInstanceUID": "2.25.8.77", "InstanceNumber": "3"}, "ix_instances_order"),
    (PATIENT, {}, "ix_patients_order"),
    (PATIENT, {"PatientID": "BN00000077"}, "ix_patients_patient_id"),
    (PATIENT, {"PatientName": "tran"}, None),
    (PATIENT, {"PatientName": "WOLOWITZ*"}, None),
]


@pytest.mark.parametrize(("level", "keys", "index"), USUAL, ids=str)
def test_usual_query_walks_an_index(
    explained: Explained, level: Level, keys: dict[str, str], index: str | None
) -> None:
    planned = explained.find(Query(level, keys))

    assert planned.walked == set()
    assert planned.blocks <= MOST_BLOCKS
    if index:
        assert index in planned.indexes


@pytest.mark.parametrize(
    "keys",
    [
        {"SOPInstanceUID": "2.25.8.77.1.1"},
        {"SeriesInstanceUID": "2.25.8.77.1"},
        {"StudyInstanceUID": "2.25.8.77"},
        {"PatientID": "BN00000077"},
        {"PatientID": "BN00000077", "StudyInstanceUID": "2.25.8.77"},
    ],
    ids=str,
)
def test_retrieval_walks_an_index(explained: Explained, keys: dict[str, str]) -> None:
    planned = explained.locate(**keys)

    assert planned.walked == set()
    assert planned.blocks <= MOST_BLOCKS


def test_deep_page_costs_as_much_as_the_first(explained: Explained, filled: Engine) -> None:
    query = Query(STUDY)
    with transaction(filled) as session:
        middle = search.find(session, query, limit=STUDIES // 2)

    first, deep = explained.find(query), Explained(filled).find(query, after=middle.after)

    assert deep.walked == set()
    assert deep.answers == first.answers == PAGE
    assert deep.blocks <= first.blocks * 1.5


@pytest.mark.parametrize(
    "keys",
    [
        {"PatientName": "*QX*"},
        {"PatientID": "*QX*"},
        {"StudyDescription": "?Q*"},
        {"PatientName": "*ØØØ*"},
    ],
    ids=str,
)
def test_unselective_pattern_looks_at_a_bounded_number_of_studies_at_once(
    filled: Engine, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FIRST_SPAN", 500)
    monkeypatch.setattr(search, "LAST_SPAN", 4_000)
    planner = Explained(filled)

    planned = planner.find(Query(STUDY, keys))

    assert planned.answers == 0
    widest = max(
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        for node in planned.nodes
        if node.get("Relation Name") == "studies" or node.get("Index Name") == "ix_studies_order"
    )
    assert widest <= 4_000


@pytest.mark.parametrize("level", Level)
def test_query_without_keys_stops_after_its_page(explained: Explained, level: Level) -> None:
    planned = explained.find(Query(level))

    assert planned.walked == set()
    assert planned.answers == PAGE
