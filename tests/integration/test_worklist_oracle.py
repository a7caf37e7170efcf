"""What a worklist query finds beside a naive matching of every step, and by which index.

The naive one reads the rows itself and matches by `tests.fixtures.oracle` (PS3.4 C.2.2.2).
"""

import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, text

from ris import worklist
from ris.worklist import MODALITY, START_DATE, START_TIME, STATION, STATUS, STEP, Filter, Query
from storage.db.engine import Engine, transaction
from tests.fixtures.oracle import fits
from tests.fixtures.orders import person, place

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NAMES = ("NGUYỄN^VĂN AN", "TRẦN^THỊ BÌNH", "LÊ^VĂN^AN", "ĐỖ THỊ HƯỜNG", "nguyễn thị an")
MODALITIES = ("CT", "MR", "US")
STATIONS = ("CT01", "CT02", "MR01")
STATUSES = ("SCHEDULED", "ARRIVED", "STARTED", "COMPLETED", "CANCELED")
STEPS = 120
QUERIES = 250
KEYS: Mapping[str, tuple[str, ...]] = {
    "PatientName": ("nguyễn*", "AN", "*THI*", "ĐỖ*", "an nguyen", "LE^VAN^AN", "N?UYEN*", "X*"),
    "PatientID": ("BN-1", "BN-*", "BN-?", "BN-1\\BN-2", "bn-1", "X"),
    "AccessionNumber": ("A7", "A1*", "*5", "A3\\A4", "A"),
    "StudyInstanceUID": ("2.25.7", "2.25.7\\2.25.8", "2.25.999"),
    "RequestedProcedureID": ("R7", "R1?"),
    "RequestedProcedurePriority": ("STAT", "ROUTINE", "*"),
    MODALITY: ("CT", "MR\\US", "C*", "*"),
    STATION: ("CT01", "CT0?", "MR01\\CT02", "*"),
    STATUS: ("SCHEDULED", "COMPLETED", "*ED"),
    f"{STEP}.ScheduledProcedureStepID": ("S7", "S*1"),
    START_DATE: ("20260105", "20260104-20260106", "20260106-", "-20260104", "20260106-20260104"),
    START_TIME: ("08", "0800-1000", "1200-", "-0930"),
}


def combinations() -> Iterator[dict[str, str]]:
    draw = random.Random(7)
    for _ in range(QUERIES):
        chosen = draw.sample(sorted(KEYS), draw.randint(1, 3))
        yield {keyword: draw.choice(KEYS[keyword]) for keyword in chosen}


@pytest.fixture
def steps(engine: Engine) -> list[dict[str, Any]]:
    """Place orders and return what each of them is, by dotted keyword."""
    draw = random.Random(11)
    made = []
    with transaction(engine) as session:
        people = [person(session, n, patient_name=name) for n, name in enumerate(NAMES, 1)]
        for number in range(1, STEPS + 1):
            who = draw.randrange(len(people))
            start = datetime(2026, 1, 3) + timedelta(minutes=30 * draw.randrange(48 * 5))
            step = {
                "modality": draw.choice(MODALITIES),
                "station_ae_titles": [draw.choice(STATIONS)],
                "status": draw.choice(STATUSES),
                "start": start,
            }
            priority = draw.choice(("STAT", "ROUTINE"))
            place(session, number, patient=people[who], order={"priority": priority}, step=step)
            made.append(
                {
                    "PatientName": NAMES[who],
                    "PatientID": f"BN-{who + 1}",
                    "AccessionNumber": f"A{number}",
                    "StudyInstanceUID": f"2.25.{number}",
                    "RequestedProcedureID": f"R{number}",
                    "RequestedProcedurePriority": priority,
                    MODALITY: step["modality"],
                    STATION: step["station_ae_titles"][0],
                    STATUS: step["status"],
                    f"{STEP}.ScheduledProcedureStepID": f"S{number}",
                    START_DATE: f"{start:%Y%m%d}",
                    START_TIME: f"{start:%H%M%S}",
                }
            )
    return made


def naive(steps: list[dict[str, Any]], keys: Mapping[str, str]) -> set[str]:
    given = dict(keys)
    days, moments = given.get(START_DATE, ""), given.get(START_TIME, "")
    period = "-" in days and "-" in moments
    found = set()
    for step in steps:
        wanted = {key: value for key, value in given.items() if value.strip("*")}
        if STATUS not in wanted and step[STATUS] not in {"SCHEDULED", "ARRIVED", "STARTED"}:
            continue
        if period:
            del wanted[START_DATE], wanted[START_TIME]
            moment = step[START_DATE] + step[START_TIME]
            first, _, last = days.partition("-")
            begin, _, end = moments.partition("-")
            low = f"{first}{begin.ljust(6, '0')}" if first else ""
            high = f"{last}{end.ljust(6, '9') if end else '999999'}" if last else "9"
            if not low <= moment <= high:
                continue
        if all(fits(key.rpartition(".")[2], step[key], value) for key, value in wanted.items()):
            found.add(step["AccessionNumber"])
    return found


def test_queries_find_what_a_naive_matching_finds(
    engine: Engine, steps: list[dict[str, Any]]
) -> None:
    answered = 0
    with transaction(engine) as session:
        for keys in combinations():
            entries = worklist.find_steps(session, Query(keys), 1000, ZONE)
            found = {str(entry["AccessionNumber"]) for entry in entries}

            assert found == naive(steps, keys), keys
            answered += bool(found)
    assert answered > QUERIES // 4


@pytest.fixture
def many(engine: Engine) -> Engine:
    """50,000 open steps over 100 days, 500 of each day."""
    for first in range(1, 50_001, 5_000):
        with engine.begin() as connection:
            for statement in _MANY:
                connection.execute(text(statement), {"first": first, "last": first + 4_999})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("scheduled_steps", "requested_procedures", "orders", "ris_patients"):
            connection.execute(text(f"VACUUM ANALYZE {table}"))
    return engine


_MANY = (
    "SET LOCAL synchronous_commit = off",
    """
    INSERT INTO ris_patients (patient_name, patient_name_key, patient_sex, created_at, changed_at)
    SELECT 'NGUYEN^' || n, ' NGUYEN ' || n || ' ', n, now(), now()
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n
    """,
    """
    UPDATE ris_patients SET root_ref = id WHERE root_ref IS NULL
    """,
    """
    INSERT INTO ris_patient_identifiers
        (patient_ref, value, value_key, loose_key, issuer_key, identifies)
    SELECT id, 'BN' || patient_sex, 'bn' || patient_sex, 'bn' || patient_sex, 'h', true
    FROM ris_patients WHERE CAST(patient_sex AS int) BETWEEN :first AND :last
    """,
    """
    INSERT INTO orders (patient_ref, sender, placer_order_number, accession_number, state,
                        created_at, changed_at)
    SELECT id, 'his', 'P' || patient_sex, 'A' || patient_sex, 'SCHEDULED', now(), now()
    FROM ris_patients WHERE CAST(patient_sex AS int) BETWEEN :first AND :last
    """,
    """
    INSERT INTO requested_procedures (order_ref, requested_procedure_id, study_instance_uid)
    SELECT id, 'R' || accession_number, '2.25.9.' || substr(accession_number, 2)
    FROM orders WHERE CAST(substr(accession_number, 2) AS int) BETWEEN :first AND :last
    """,
    """
    INSERT INTO scheduled_steps (procedure_ref, order_ref, scheduled_procedure_step_id, status,
                                 modality, station_ae_titles, start)
    SELECT id, order_ref, 'S' || id, 'SCHEDULED', (ARRAY['CT', 'MR', 'US', 'DX'])[1 + id % 4],
           ARRAY['ST' || id % 20],
           timestamp '2026-01-01'
               + CAST(substr(study_instance_uid, 8) AS int) * interval '173 seconds'
    FROM requested_procedures
    WHERE CAST(substr(study_instance_uid, 8) AS int) BETWEEN :first AND :last
    """,
)
USUAL = [
    ({START_DATE: "20260215"}, "ix_scheduled_steps_start"),
    ({START_DATE: "20260215", MODALITY: "CT"}, "ix_scheduled_steps_modality"),
    ({START_DATE: "20260215", STATION: "ST3"}, None),
    ({START_DATE: "20260215-20260216", START_TIME: "07-12", MODALITY: "MR"}, None),
    ({"AccessionNumber": "A777"}, "ix_orders_accession_number"),
    ({"PatientID": "BN777"}, "ix_ris_patient_identifiers_value_key"),
    ({"PatientName": "777*"}, "ix_ris_patients_name"),
    ({"StudyInstanceUID": "2.25.9.1"}, "ix_requested_procedures_study_instance_uid"),
]


@pytest.mark.slow
def test_usual_query_of_a_day_walks_an_index(many: Engine) -> None:
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    for keys, index in USUAL:
        sent.clear()
        event.listen(many, "before_cursor_execute", note)
        with transaction(many) as session:
            worklist.candidates(session, Filter(Query(keys, "ST3"), ZONE))
        event.remove(many, "before_cursor_execute", note)
        [(statement, parameters)] = sent
        with many.connect() as connection:
            explained = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters
            )
            nodes = [*_nodes(explained.scalar_one()[0]["Plan"])]
        walked = {node.get("Relation Name") for node in nodes if "Seq Scan" in node["Node Type"]}
        used = {node["Index Name"] for node in nodes if "Index Name" in node}

        assert "scheduled_steps" not in walked, keys
        assert index is None or index in used, (keys, used)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
