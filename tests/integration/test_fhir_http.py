"""FHIR R4 over HTTP: every resource is valid, and a client that has it is not sent it again."""

from dataclasses import dataclass
from datetime import date

import pytest
from sqlalchemy import text

from ris.reports.model import Report
from ris.reports.states import Action
from storage.access.tokens import Role
from storage.db.engine import transaction
from tests.fixtures.fhir import World, included, matches, validated
from tests.fixtures.reports import HEAD, OTHER_HEAD, TEXT


@dataclass
class Case:
    """A patient who was merged into another, an order, its study and its report."""

    patient: str
    prior: str
    order: str
    study: str
    report: Report


@pytest.fixture(scope="module")
def case(world: World) -> Case:
    patient = world.person("F1", "TRẦN^THỊ BÌNH", date(1951, 5, 6), "F", NI="052051000001")
    prior = world.person("F0", "TRẦN^THỊ BÌNH", "1951", "F")
    world.merge(prior, patient)
    order = world.order(
        prior,
        accession_number="ACC-F1",
        placer_order_number="P-F1",
        priority="STAT",
        code="18.0149",
        meaning="Chụp CLVT sọ não",
    )
    shown = {"PatientID": "F1", "PatientName": "TRAN THI BINH", "PatientBirthDate": "19510506"}
    study = world.study(700, order, IssuerOfPatientID="BVDK", **shown)
    return Case(patient, prior, order, study, world.report(study, order))


def test_capabilities_name_every_search_parameter(world: World) -> None:
    statement = world.admin.read("metadata")

    named = {
        one["type"]: {param["name"] for param in one["searchParam"]}
        for one in statement["rest"][0]["resource"]
    }
    assert statement["fhirVersion"] == "4.0.1"
    assert {"Patient", "ServiceRequest", "ImagingStudy", "DiagnosticReport"} <= named.keys()
    assert {"identifier", "name", "birthdate", "_id", "_lastUpdated"} <= named["Patient"]


def test_a_patient_has_his_numbers_and_those_of_whom_was_merged_into_him(
    world: World, case: Case
) -> None:
    patient = world.admin.read(f"Patient/{case.patient}")

    numbers = {one["value"]: (one.get("system"), one["use"]) for one in patient["identifier"]}
    assert numbers == {
        "F1": ("urn:lienthong:issuer:BVDK", "usual"),
        "052051000001": ("urn:lienthong:cccd", "official"),
        "F0": ("urn:lienthong:issuer:BVDK", "old"),
    }
    assert patient["name"] == [{"text": "TRẦN THỊ BÌNH", "family": "TRẦN", "given": ["THỊ BÌNH"]}]
    assert (patient["birthDate"], patient["gender"], patient["active"]) == (
        "1951-05-06",
        "female",
        True,
    )
    assert patient["link"] == [
        {"other": {"reference": f"Patient/{case.prior}"}, "type": "replaces"}
    ]


def test_who_was_merged_says_who_stands_for_him(world: World, case: Case) -> None:
    prior = world.admin.read(f"Patient/{case.prior}")

    assert prior["active"] is False
    assert prior["birthDate"] == "1951"
    assert prior["link"] == [
        {"other": {"reference": f"Patient/{case.patient}"}, "type": "replaced-by"}
    ]


def test_an_order_is_a_service_request_of_the_survivor(world: World, case: Case) -> None:
    request = world.admin.read(f"ServiceRequest/{case.order}")

    assert request["subject"]["reference"] == f"Patient/{case.patient}"
    assert (request["status"], request["intent"], request["priority"]) == (
        "completed",
        "order",
        "stat",
    )
    assert request["code"]["coding"][0]["code"] == "18.0149"
    assert {one["type"]["coding"][0]["code"]: one["value"] for one in request["identifier"]} == {
        "PLAC": "P-F1",
        "ACSN": "ACC-F1",
    }


def test_a_study_names_its_order_its_series_and_where_it_is_fetched(
    world: World, case: Case
) -> None:
    study = world.admin.read(f"ImagingStudy/{case.study}")

    assert study["identifier"][0] == {
        "use": "official",
        "system": "urn:dicom:uid",
        "value": f"urn:oid:{case.study}",
    }
    assert study["basedOn"] == [{"reference": f"ServiceRequest/{case.order}"}]
    assert study["started"] == "2026-03-01T07:30:15+07:00"
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (1, 2)
    assert study["series"][0]["modality"]["code"] == "CT"
    endpoint = world.admin.read(study["endpoint"][0]["reference"])
    assert endpoint["address"] == f"{world.node.url}/dicom-web"


def test_a_signed_report_says_what_was_found(world: World, case: Case) -> None:
    report = world.admin.read(f"DiagnosticReport/{case.report.uid}")

    assert report["status"] == "final"
    assert report["conclusion"] == TEXT.impression
    found = {one["id"]: one["valueString"] for one in report["contained"]}
    assert found["findings"] == TEXT.findings
    assert {one["reference"] for one in report["result"]} == {f"#{name}" for name in found}
    assert report["resultsInterpreter"][0]["identifier"] == {
        "system": "urn:lienthong:licence",
        "value": "0001234/LĐ-CCHN",
    }
    assert report["imagingStudy"] == [{"reference": f"ImagingStudy/{case.study}"}]
    paper = report["presentedForm"][0]["url"]
    assert world.admin.client.get(paper).headers["content-type"] == "application/pdf"


def test_versions_of_a_report_stay_as_they_were(world: World) -> None:
    study = world.study(701)
    first = world.report(study)
    before = world.admin.read(f"DiagnosticReport/{first.uid}/_history/1")
    world.desk.act(Action.ADDEND, first, HEAD, addendum="Đã hội chẩn.")

    now = world.admin.get(f"DiagnosticReport/{first.uid}")
    history = world.admin.read(f"DiagnosticReport/{first.uid}/_history")

    assert now.headers["etag"] == 'W/"2"'
    assert now.json()["status"] == "appended"
    assert "Đã hội chẩn." in now.json()["conclusion"]
    assert world.admin.read(f"DiagnosticReport/{first.uid}/_history/1") == before
    assert [one["resource"]["meta"]["versionId"] for one in history["entry"]] == ["2", "1"]
    world.admin.refused(f"DiagnosticReport/{first.uid}/_history/3", 404)


def test_a_draft_is_there_without_its_text(world: World) -> None:
    draft = world.report(world.study(702), sign=False)

    shown = world.admin.read(f"DiagnosticReport/{draft.uid}")

    assert shown["status"] == "registered"
    assert not {"conclusion", "contained", "presentedForm", "resultsInterpreter"} & shown.keys()
    world.admin.refused(f"DiagnosticReport/{draft.uid}/_history/1", 404)
    world.admin.refused(f"DiagnosticReport/{draft.uid}/_history", 404)


def test_a_retracted_report_shows_its_text_in_no_version(world: World) -> None:
    signed = world.report(world.study(703))
    asked = world.desk.act(Action.REQUEST_RETRACTION, signed, HEAD, reason="nhầm người bệnh")
    world.desk.act(Action.RETRACT, asked, OTHER_HEAD)

    shown = world.admin.read(f"DiagnosticReport/{signed.uid}")
    earlier = world.admin.read(f"DiagnosticReport/{signed.uid}/_history/1")

    assert shown["status"] == "entered-in-error"
    for one in (shown, earlier):
        assert not {"conclusion", "contained", "presentedForm"} & one.keys()
    held = {"if-none-match": 'W/"1"'}
    answer = world.admin.get(f"DiagnosticReport/{signed.uid}/_history/1", **held)
    assert answer.status_code == 200, "its client is not told to keep the text"


def test_provenance_tells_who_read_and_who_signed(world: World, case: Case) -> None:
    [made] = matches(world.admin.search(f"Provenance?target=DiagnosticReport/{case.report.uid}"))

    agents = {one["type"]["coding"][0]["code"]: one["who"]["display"] for one in made["agent"]}
    assert agents == {"author": "BS. Trần Thị Ỷ", "verifier": "BS.CKII Đỗ Văn Ường"}
    assert made["target"] == [{"reference": f"DiagnosticReport/{case.report.uid}/_history/1"}]
    assert world.admin.read(f"Provenance/{made['id']}") == made


def test_provenance_of_a_correction_names_the_version_before_it(world: World) -> None:
    report = world.report(world.study(706))
    world.desk.act(Action.ADDEND, report, HEAD, addendum="Đã hội chẩn.")

    found = world.admin.read(f"Provenance/{report.uid}-2")
    first = world.admin.read(f"Provenance/{report.uid}-1")

    before = {"reference": f"DiagnosticReport/{report.uid}/_history/1"}
    assert found["entity"] == [{"role": "revision", "what": before}]
    assert found["activity"]["coding"][0]["code"] == "UPDATE"
    assert "entity" not in first


def test_what_a_preliminary_report_observed_is_preliminary(world: World) -> None:
    draft = world.report(world.study(707), sign=False)
    world.desk.act(Action.RELEASE, world.desk.release(draft), HEAD)

    shown = world.admin.read(f"DiagnosticReport/{draft.uid}")

    assert shown["status"] == "preliminary"
    assert {one["status"] for one in shown["contained"]} == {"preliminary"}


def test_a_patient_of_the_archive_alone_is_a_patient(world: World) -> None:
    study = world.study(704, PatientID="ONLY", PatientName="VÔ^DANH", PatientBirthDate="")

    shown = world.admin.read(f"ImagingStudy/{study}")
    [patient] = matches(world.admin.search("Patient?identifier=ONLY"))

    assert shown["subject"]["reference"] == f"Patient/{patient['id']}"
    assert patient["id"].startswith("a")
    assert world.admin.ids(f"ImagingStudy?patient=Patient/{patient['id']}") == [study]
    assert world.admin.ids("ImagingStudy?patient.identifier=ONLY") == [study]


def test_a_patient_of_the_archive_who_became_one_of_the_ris_says_so(world: World) -> None:
    study = world.study(705, PatientID="LATER", PatientName="ĐINH^LA")
    [before] = world.admin.ids("Patient?identifier=LATER")
    known = world.person("LATER", "ĐINH^LA", date(1980, 1, 1))
    with transaction(world.node.engine) as session:
        session.execute(
            text(
                "INSERT INTO ris_archive_patients (archive_patient, patient_ref, linked_at)"
                " VALUES (:archive, :ris, now())"
            ),
            {"archive": int(before[1:]), "ris": int(known)},
        )

    assert world.admin.ids("Patient?identifier=LATER") == [known]
    assert world.admin.read(f"Patient/{before}")["link"][0]["type"] == "replaced-by"
    assert world.admin.ids(f"ImagingStudy?subject={known}") == [study]
    assert world.admin.ids(f"ImagingStudy?subject={before}") == [study]


def test_who_may_see_no_orders_sees_no_numbers_of_citizens(world: World, case: Case) -> None:
    viewer = world.as_(Role.VIEWER)

    shown = viewer.read(f"Patient/{case.patient}")

    assert {one["value"] for one in shown["identifier"]} == {"F1", "F0"}
    assert not {"telecom", "address", "contact"} & shown.keys()
    assert viewer.ids("Patient?identifier=052051000001") == []
    assert viewer.ids("ImagingStudy?patient.identifier=052051000001") == []
    assert world.admin.ids("Patient?identifier=052051000001") == [case.patient]


def test_nothing_is_included_that_the_caller_may_not_see(world: World, case: Case) -> None:
    query = f"ImagingStudy?_id={case.study}&_include=ImagingStudy:basedon"
    query += "&_include=ImagingStudy:patient&_revinclude=DiagnosticReport:imaging-study"

    seen = included(world.as_(Role.VIEWER).search(query))
    by_admin = included(world.admin.search(query))

    assert seen == [f"DiagnosticReport/{case.report.uid}", f"Patient/{case.patient}"]
    assert by_admin == [*seen, f"ServiceRequest/{case.order}"]


def test_what_the_client_has_is_not_sent_again(world: World, case: Case) -> None:
    path = f"Patient/{case.patient}"
    first = world.admin.get(path)

    same = world.admin.get(path, **{"If-None-Match": first.headers["etag"]})
    since = world.admin.get(path, **{"If-Modified-Since": first.headers["last-modified"]})
    other = world.admin.get(path, **{"If-None-Match": 'W/"other"'})
    old = world.admin.get(path, **{"If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"})

    assert (same.status_code, since.status_code) == (304, 304)
    assert not same.content
    assert same.headers["etag"] == first.headers["etag"]
    assert (other.status_code, old.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "Patient/none", 404),
        ("GET", "Patient/99999999999999999999", 404),
        ("GET", "Patient/a1'--", 400),
        ("GET", "Practitioner/1", 404),
        ("GET", "Patient?nome=x", 400),
        ("GET", "Patient?birthdate=yesterday", 400),
        ("GET", "Patient?birthdate=2026-02-30", 400),
        ("GET", "Patient?_cursor=xx", 400),
        ("GET", "Patient?_cursor=MWU5OTk", 400),
        ("GET", "Patient?_count=-1", 400),
        ("GET", "Patient?name:soundex=x", 400),
        ("GET", "Patient?_sort=shoe", 400),
        ("GET", "ImagingStudy?_include=Patient:shoe", 400),
        ("GET", "ImagingStudy?patient.link.name=x", 400),
        ("DELETE", "Patient/1", 405),
    ],
    ids=lambda value: str(value).replace("/", "_"),
)
def test_errors_are_operation_outcomes(world: World, method: str, path: str, status: int) -> None:
    answer = world.admin.client.request(method, f"/fhir/{path}")

    assert answer.status_code == status, answer.text
    assert validated(answer.json())["resourceType"] == "OperationOutcome"
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"


def test_who_has_no_token_gets_an_outcome_too(world: World) -> None:
    answer = world.node.client("").get("/fhir/Patient", headers={"X-Forwarded-For": "203.0.113.9"})

    assert answer.status_code == 401
    assert answer.json()["issue"][0]["code"] == "login"
