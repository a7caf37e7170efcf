"""Searches in the manner of FHIR R4 3.1.1 find what the specification says, and nothing else."""

from collections.abc import Mapping
from datetime import date, datetime

import pytest

from storage.access.tokens import Role
from tests.fixtures.fhir import World, included, matches
from viewer_api.fhir.kinds import TYPES

PEOPLE = {
    "eve": ("S1", "TRỊNH^Ý^THỊ", date(1951, 5, 6), "F"),
    "evelyn": ("S2", "TRINH^YEN^THI", "1951", "F"),
    "severine": ("S3", "NGÔ^KÝ^VĂN", date(2013, 1, 14), "M"),
    "binh": ("S4", "PHẠM^BÌNH", "201303", "M"),
    "unknown": ("S5", "VÔ^DANH", None, ""),
}


@pytest.fixture(scope="module")
def people(world: World) -> Mapping[str, str]:
    return {
        key: world.person(number, name, born, sex)
        for key, (number, name, born, sex) in PEOPLE.items()
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # string: without accents and capitals, the beginning of a part of the name
        ("name=trinh", "eve evelyn"),
        ("name=TRỊNH", "eve evelyn"),
        ("family=tri", "eve evelyn"),
        ("family=rinh", ""),
        ("family:contains=rinh", "eve evelyn"),
        ("given=y", "eve evelyn"),
        ("given=trinh", ""),
        ("family:exact=TRỊNH", "eve"),
        ("family:exact=trinh", ""),
        ("name:exact=TRỊNH THỊ Ý", "eve"),
        ("name=ky van ngo", "severine"),
        ("name=trinh,pham", "eve evelyn binh"),
        ("name=trinh&name=yen", "evelyn"),
        ("name=%25", ""),
        ("name=_", ""),
        # token
        ("gender=female", "eve evelyn"),
        ("gender=female,male", "eve evelyn severine binh"),
        ("gender=unknown", "unknown"),
        ("gender:not=male", "eve evelyn unknown"),
        ("identifier=S1", "eve"),
        ("identifier=urn:lienthong:issuer:BVDK|S1", "eve"),
        ("identifier=urn:lienthong:issuer:OTHER|S1", ""),
        ("identifier=|S1", ""),
        ("identifier=S1,S2", "eve evelyn"),
        # date: a day, a year and a month that is known of a birth date
        ("birthdate=1951-05-06", "eve"),
        ("birthdate=1951", "eve evelyn"),
        ("birthdate=eq1951-05", "eve"),
        ("birthdate=ne1951", "severine binh"),
        ("birthdate=gt1951-05-06", "evelyn severine binh"),
        ("birthdate=ge1951-05-06", "eve evelyn severine binh"),
        ("birthdate=lt1951-05-06", "evelyn"),
        ("birthdate=le1951-05-06", "eve evelyn"),
        ("birthdate=sa1951", "severine binh"),
        ("birthdate=sa2013-01-14", "binh"),
        ("birthdate=eb2013-03", "eve evelyn severine"),
        ("birthdate=ap2013-01-20", "severine"),
        ("birthdate=ge2013-01-01&birthdate=lt2013-03-01", "severine"),
        ("birthdate=1951-05-06,2013-03", "eve binh"),
        ("birthdate:missing=true", "unknown"),
        ("birthdate:missing=false", "eve evelyn severine binh"),
    ],
)
def test_patients_are_found(
    world: World, people: Mapping[str, str], query: str, found: str
) -> None:
    ids = ",".join(people.values())

    answered = {*world.admin.ids(f"Patient?_id={ids}&{query}")}

    assert {key for key, id_ in people.items() if id_ in answered} == {*found.split()}


@pytest.fixture(scope="module")
def orders(world: World, people: Mapping[str, str]) -> Mapping[str, str]:
    return {
        "old": world.order(
            people["eve"],
            accession_number="SA1",
            placer_order_number="SP1",
            issued_at=datetime(2026, 1, 5, 8, 0),
            state="COMPLETED",
        ),
        "new": world.order(
            people["eve"],
            accession_number="SA2",
            placer_order_number="SP2",
            issued_at=datetime(2026, 1, 5, 23, 30),
            state="CANCELED",
            code="18.9",
        ),
        "timeless": world.order(people["binh"], accession_number="SA3", placer_order_number="SP3"),
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("patient={eve}", "old new"),
        ("subject=Patient/{eve}", "old new"),
        ("subject:Patient={eve}", "old new"),
        ("subject=https://fhir.example.vn/fhir/Patient/{eve}", "old new"),
        ("subject=Practitioner/{eve}", ""),
        ("subject={eve},{binh}", "old new timeless"),
        ("subject:not-there=1", None),
        ("patient.identifier=S1", "old new"),
        ("subject:Patient.name=trinh&authored=2026-01-05", "old new"),
        ("authored=2026-01-05T08:00", "old"),
        ("authored=2026-01-05T01:00:00Z", "old"),
        ("authored=ge2026-01-05T23:30:00%2B07:00", "new"),
        ("authored=gt2026-01-05", ""),
        ("authored:missing=true", "timeless"),
        ("status=completed", "old"),
        ("status=revoked,active", "new timeless"),
        ("status:not=completed", "new timeless"),
        ("identifier=SA1", "old"),
        ("identifier=urn:lienthong:accession|SA1", "old"),
        ("identifier=urn:lienthong:placer|SA1", ""),
        ("code=18.9", "new"),
        ("code=urn:lienthong:code:local|18.9", "new"),
        ("code=http://loinc.org|18.9", ""),
        ("intent=order&identifier=SP2", "new"),
        ("intent=plan&identifier=SP2", ""),
    ],
)
def test_orders_are_found(
    world: World,
    people: Mapping[str, str],
    orders: Mapping[str, str],
    query: str,
    found: str | None,
) -> None:
    asked = f"ServiceRequest?_id={','.join(orders.values())}&{query.format_map(people)}"
    if found is None:
        world.admin.refused(asked)
        return

    answered = {*world.admin.ids(asked)}

    assert {key for key, id_ in orders.items() if id_ in answered} == {*found.split()}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("started=2026-03-01", True),
        ("started=2026-03", True),
        ("started=2026-03-01T07:30", True),
        ("started=2026-03-01T00:30:15Z", True),
        ("started=ne2026-03-01", False),
        ("started=gt2026-03-01T07:30:15", False),
        ("started=ge2026-03-01T07:30:15", True),
        ("started=lt2026-03-01T07:30:16", True),
        ("started=sa2026-02-28", True),
        ("started=eb2026-03-01", False),
        ("modality=CT", True),
        ("modality=http://dicom.nema.org/resources/ontology/DCM|CT", True),
        ("modality=MR", False),
        ("modality:not=MR", True),
        ("identifier=urn:dicom:uid|urn:oid:2.25.710", True),
        ("identifier=SACC", True),
        ("identifier=urn:lienthong:accession|SACC", True),
        ("series=2.25.710.1", True),
        ("basedon:missing=true", True),
        ("endpoint=Endpoint/dicom-web", True),
        ("status=available", True),
        ("status=cancelled", False),
    ],
)
def test_studies_are_found(world: World, query: str, found: bool) -> None:
    if not world.admin.ids("ImagingStudy?_id=2.25.710"):
        world.study(710, AccessionNumber="SACC", PatientID="S710")

    assert world.admin.ids(f"ImagingStudy?_id=2.25.710&{query}") == ["2.25.710"] * found


def test_reports_are_found_by_order_study_patient_and_state(
    world: World, people: Mapping[str, str], orders: Mapping[str, str]
) -> None:
    study = world.study(711, orders["old"], PatientID="S1", PatientName="TRINH Y")
    uid = world.report(study, orders["old"]).uid
    draft = world.report(world.study(712), sign=False).uid

    for query in (
        f"based-on=ServiceRequest/{orders['old']}",
        "based-on.identifier=SA1",
        f"imaging-study={study}",
        f"patient={people['eve']}",
        "patient.name=trịnh&status=final",
        f"date=2026-03-01&_id={uid}",
        f"issued=ge2026-01-01&_id={uid}",
        f"_lastUpdated=ge2026-01-01&_id={uid}&category=RAD",
    ):
        assert world.admin.ids(f"DiagnosticReport?{query}") == [uid], query
    assert world.admin.ids(f"DiagnosticReport?status=registered&_id={draft},{uid}") == [draft]
    assert world.admin.ids(f"DiagnosticReport?_id={uid}&date=2026-03-02") == []


def test_a_search_by_post_finds_the_same(world: World, people: Mapping[str, str]) -> None:
    answer = world.admin.client.post(
        "/fhir/Patient/_search", data={"family": "trinh", "gender": "female"}
    )

    assert answer.status_code == 200
    assert {one["id"] for one in matches(answer.json())} == {people["eve"], people["evelyn"]}


def test_a_count_is_told_without_resources(world: World, people: Mapping[str, str]) -> None:
    ids = f"{people['eve']},{people['evelyn']},{people['binh']}"
    bundle = world.admin.search(f"Patient?_id={ids}&family=trinh&_summary=count")

    assert bundle["total"] == 2
    assert "entry" not in bundle


def test_elements_leave_the_rest_out(world: World, people: Mapping[str, str]) -> None:
    [one] = matches(world.admin.search(f"Patient?_id={people['eve']}&_elements=birthDate"))

    assert one.keys() == {"resourceType", "id", "meta", "birthDate"}
    assert one["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_what_belongs_to_a_patient_comes_with_him(
    world: World, people: Mapping[str, str], orders: Mapping[str, str]
) -> None:
    query = f"Patient?_id={people['eve']}&_revinclude=ServiceRequest:patient"

    assert included(world.admin.search(query)) == sorted(
        f"ServiceRequest/{orders[name]}" for name in ("old", "new")
    )
    assert included(world.as_(Role.VIEWER).search(query)) == []


def test_an_unknown_parameter_is_passed_over_only_for_who_says_so(world: World) -> None:
    lenient = world.admin.get("Patient?_id=0&shoe=42", Prefer="handling=lenient")

    assert lenient.status_code == 200
    assert "shoe" in world.admin.refused("Patient?shoe=42")


@pytest.mark.parametrize("sort", ["_id", "-_id", "authored", "-_lastUpdated"])
def test_pages_lose_and_double_nothing_while_others_write(
    world: World, people: Mapping[str, str], sort: str
) -> None:
    there = {
        world.order(people["severine"], issued_at=datetime(2026, 2, 1, 8, number))
        for number in range(7)
    }
    seen: list[str] = []

    for number, bundle in enumerate(
        world.admin.pages(f"ServiceRequest?subject={people['severine']}&_count=2&_sort={sort}")
    ):
        seen += [one["id"] for one in matches(bundle)]
        world.order(people["severine"], issued_at=datetime(2026, 1, 1) if number else None)
        with_change = min(there - {*seen}, default=None)
        if with_change:
            world.touch(with_change)

    assert len(seen) == len({*seen})
    assert there <= {*seen}


def test_sorted_pages_are_in_order(world: World, people: Mapping[str, str]) -> None:
    for minute in (30, 10, 20):
        world.order(people["unknown"], issued_at=datetime(2026, 2, 1, 8, minute))

    pages = world.admin.pages(f"ServiceRequest?subject={people['unknown']}&_sort=authored&_count=2")
    times = [one["authoredOn"] for page in pages for one in matches(page)]

    assert len(times) == 3
    assert times == sorted(times)


def test_every_answer_is_in_the_journal(world: World, people: Mapping[str, str]) -> None:
    world.admin.read(f"Patient/{people['binh']}")
    world.admin.ids("Patient?identifier=NOBODY")

    viewed = matches(world.admin.search(f"AuditEvent?patient={people['binh']}&subtype=view"))
    empty = matches(world.admin.search("AuditEvent?subtype=look-up&_count=1"))

    assert [one["action"] for one in viewed] == ["R"]
    assert viewed[0]["entity"] == [{"what": {"reference": f"Patient/{people['binh']}"}}]
    assert viewed[0]["agent"][0]["requestor"] is True
    assert empty[0]["type"]["code"] == "110112"
    world.as_(Role.RADIOLOGIST).refused("AuditEvent", 403)


HOSTILE = (
    "",
    "%00",
    "'",
    "%25%25",
    "\\",
    "\\,\\|\\$",
    "|",
    "||x",
    ",,,",
    "9" * 30,
    "a" + "9" * 18,
    "-1",
    "ge9998-12-31T23:59:60.999999999-14:00",
    "lt1000-01-01T00:00:00+14:00",
    "ap1000",
    "2026-13",
    "NaN",
    "Patient/../../x",
    "%F0%9F%92%A9",
    "%ED%A0%80",
    "x" * 201,
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_no_value_of_any_parameter_is_a_fault_of_ours(world: World, kind: str) -> None:
    answered = {
        (name + modifier, value): world.admin.client.get(
            f"/fhir/{kind}?{name}{modifier}={value}&_count=1"
        ).status_code
        for name in [*TYPES[kind].params, "_cursor", "_sort", "_include", "_revinclude", "_count"]
        for modifier in ("", ":missing", ":not", ":exact", ".identifier", ".x.y")
        for value in HOSTILE
        if not modifier or value == "'"
    }

    assert {*answered.values()} <= {200, 400, 404}, {
        asked: status for asked, status in answered.items() if status not in {200, 400, 404}
    }
