"""The order of answers, and pages that continue where the last one ended."""

import base64
import json
import random
from collections.abc import Iterator

import pytest

from storage.archive import search
from storage.archive.model import Level, Match, Query
from storage.base.errors import Malformed
from storage.db.engine import Session, transaction
from tests.fixtures.index import Index, received

UNIQUE = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


@pytest.fixture
def filled(index: Index) -> Index:
    """Thirty studies with many equal dates, numbers and names; some of them empty."""
    chance = random.Random(1)
    index.record(
        *(
            received(
                str(number),
                series,
                str(study),
                PatientID=f"BN{study % 7}",
                PatientName=["NGUYỄN^AN", "", "TRẦN^B"][study % 3],
                PatientBirthDate="",
                StudyDate=chance.choice(["20240101", "20240102", ""]),
                StudyTime=chance.choice(["0700", "070000.5", ""]),
                SeriesNumber=chance.choice(["1", "-1", ""]),
                InstanceNumber=chance.choice(["1", "2", ""]),
            )
            for study in range(30)
            for series in "12"
            for number in range(3)
        )
    )
    return index


@pytest.fixture(params=[2, 2_000], ids="span {}".format)
def span(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many studies an unselective step looks at."""
    monkeypatch.setattr(search, "FIRST_SPAN", request.param)
    monkeypatch.setattr(search, "LAST_SPAN", request.param * 2)
    return int(request.param)


def pages(index: Index, query: Query, limit: int) -> Iterator[tuple[Match, ...]]:
    after: str | None = None
    while True:
        with transaction(index.engine) as session:
            page = search.find(session, query, limit=limit, after=after)
        yield page.matches
        if page.after is None:
            return
        after = page.after


QUERIES = [
    {},
    {"PatientName": "*A*"},
    {"PatientName": "nguyen an"},
    {"PatientID": "BN1\\BN2\\BN3"},
    {"StudyDate": "20240101-"},
    {"PatientName": "*Q*"},
]


@pytest.mark.parametrize("keys", QUERIES, ids=str)
@pytest.mark.parametrize("level", Level)
def test_pages_together_are_the_whole(
    filled: Index, level: Level, keys: dict[str, str], span: int
) -> None:
    query = Query(level, keys)
    [whole] = pages(filled, query, 10_000)

    for limit in (1, 10) if level is Level.STUDY else (7,):
        cut = [*pages(filled, query, limit)]
        assert [match for page in cut for match in page] == [*whole]
        assert all(len(page) == limit for page in cut[:-1])
        assert cut[-1] or not whole, "an empty last page"
    streamed = [*search.iterate(filled.engine, query, 10_000)]
    assert streamed == [*whole]
    assert span


@pytest.mark.parametrize("keys", QUERIES, ids=str)
@pytest.mark.parametrize("level", Level)
def test_offset_leaves_out_the_first(
    filled: Index, level: Level, keys: dict[str, str], span: int
) -> None:
    query = Query(level, keys)
    [whole] = pages(filled, query, 10_000)

    for offset in (1, 5, len(whole) - 1, len(whole), len(whole) + 1):
        if offset > 0:
            with transaction(filled.engine) as session:
                page = search.find(session, query, limit=4, offset=offset)
            assert page.matches == whole[offset : offset + 4]
            assert (page.after is None) == (offset + 4 >= len(whole))
    assert span


def test_studies_come_latest_first(filled: Index) -> None:
    found = [(m["StudyDate"], m["StudyTime"].ljust(6, "0")) for m in filled.find(Level.STUDY)]

    assert len(found) == 30
    assert [day for day, _ in found] == sorted((day for day, _ in found), reverse=True)
    dated = [(day, hour[:8]) for day, hour in found if hour.strip("0")]
    assert dated == sorted(dated, reverse=True)


def test_series_and_instances_come_by_number_with_the_unnumbered_last(filled: Index) -> None:
    def last(number: object) -> int:
        return number if isinstance(number, int) else 1 << 40

    for study in filled.uids(Level.STUDY):
        found = [last(m["SeriesNumber"]) for m in filled.find(Level.SERIES, StudyInstanceUID=study)]
        assert found == sorted(found)
    for series in filled.uids(Level.SERIES):
        numbers = [
            last(m["InstanceNumber"]) for m in filled.find(Level.IMAGE, SeriesInstanceUID=series)
        ]
        assert len(numbers) == 3
        assert numbers == sorted(numbers)


def test_lower_levels_follow_the_order_of_the_upper(filled: Index) -> None:
    studies = filled.uids(Level.STUDY)
    series = filled.find(Level.SERIES)
    instances = filled.find(Level.IMAGE)

    assert [*dict.fromkeys(m["StudyInstanceUID"] for m in series)] == studies
    assert [*dict.fromkeys(m["SeriesInstanceUID"] for m in instances)] == [
        m["SeriesInstanceUID"] for m in series
    ]


def test_patients_come_by_folded_name(filled: Index) -> None:
    names = [match["PatientName"] for match in filled.find(Level.PATIENT)]

    order = ["", "NGUYỄN^AN", "TRẦN^B"]
    assert names == sorted(names, key=order.index)
    assert {*names} == {*order}


@pytest.mark.parametrize("level", Level)
def test_new_answers_do_not_disturb_the_pages_behind(filled: Index, level: Level) -> None:
    query = Query(level)
    key = UNIQUE[level]
    before = [match[key] for match in filled.find(level)]
    with transaction(filled.engine) as session:
        first = search.find(session, query, limit=5)

    filled.record(received(study="99", StudyDate="20250101", PatientName="", PatientID="BN99"))
    with transaction(filled.engine) as session:
        rest = search.find(session, query, limit=10_000, after=first.after)

    seen = [match[key] for match in (*first.matches, *rest.matches)]
    assert [one for one in seen if one in before] == before


def test_iterate_stops_at_its_limit(filled: Index) -> None:
    assert len([*search.iterate(filled.engine, Query(Level.IMAGE), 7)]) == 7
    assert [*search.iterate(filled.engine, Query(Level.IMAGE), 0)] == []


def test_page_of_nothing_is_the_end(index: Index) -> None:
    for level in Level:
        with transaction(index.engine) as session:
            assert search.find(session, Query(level), limit=5, offset=3).after is None
            assert search.find(session, Query(level), limit=5).matches == ()


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "after",
    [
        "x",
        "é",
        "====",
        "e30",
        _encoded(["20240101", "07", "1"]),
        _encoded(["20240101", "07", True]),
        _encoded(["20240101", "07", 1.5]),
        _encoded(["20240101", "07", 1 << 63]),
        _encoded(["20240101", "07", 1, 1]),
        _encoded(None),
        "WyIi" * 5000,
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
    ids=lambda text: text[:20],
)
def test_foreign_continuation_is_refused(after: str) -> None:
    with pytest.raises(Malformed, match="after"):
        search.find(Session(), Query(Level.STUDY), limit=1, after=after)
