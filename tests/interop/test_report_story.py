"""One report from its order to the hospital's system, and its correction the same way.

MLLP order ─ worklist ─ images ─ draft ─ signature ─┬─ ORU^R01 with text, PDF and link
                                                    ├─ Encapsulated PDF and SR in the study
                                                    ├─ DiagnosticReport over FHIR
                                                    ├─ the paper at the station that sent
                                                    │  the patient, and its receipt
                                                    └─ correction: all of it again
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pynetdicom.association import Association

from tests.fixtures.dcmtk import needs_dcmtk
from tests.fixtures.dicom3tools import errors_of
from tests.fixtures.hl7 import order_message
from tests.fixtures.hl7_receiver import value
from tests.fixtures.serving import Serving
from tests.fixtures.station_desk import StationDesk
from tests.fixtures.story import (
    ORDER,
    UNKNOWN,
    Hospital,
    console_of,
    hospital_of,
    perform,
    text,
    until,
)

pytestmark = [pytest.mark.interop, needs_dcmtk]

REPORTS = "/api/v1/reports"
FINDINGS = "Không thấy ổ bất thường tỷ trọng nhu mô não."
IMPRESSION = "Hiện không thấy tổn thương."
RIGHT = "Tụ máu dưới màng cứng bán cầu phải."
STATION, OTHER = "68002", "68003"


@pytest.fixture
def hospital(serving: Serving, tmp_path: Path) -> Iterator[Hospital]:
    options = ("tells=orders,reports", "person_id=licence", "viewer_url=https://pacs/v/{study}")
    with hospital_of(serving, tmp_path, *options) as made:
        yield made


@pytest.fixture
def console(hospital: Hospital) -> Iterator[Association]:
    with console_of(hospital) as association:
        yield association


@pytest.fixture
def doctor(hospital: Hospital) -> Iterator[httpx.Client]:
    """A radiologist who writes and signs."""
    made = hospital.server.run("token", "create", "--role", "radiologist")
    token = made.stdout.strip()
    person = {"name": "Đỗ Văn Ường", "qualification": "BS.CKII", "licence_number": "0005678"}
    body = {**person, "may_approve": True, "caller": token.split("_")[1]}
    hospital.client.put("/api/v1/practitioners/BS02", json=body).raise_for_status()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=hospital.server.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def station(hospital: Hospital, tmp_path: Path) -> StationDesk:
    """The desk of the station that has sent the patient."""
    return StationDesk.opened(hospital.server, STATION, "Trạm y tế Hải Lý", tmp_path)


@pytest.fixture
def neighbour(hospital: Hospital, tmp_path: Path) -> StationDesk:
    return StationDesk.opened(hospital.server, OTHER, "Trạm y tế Hải Triều", tmp_path)


def shared(hospital: Hospital, report_uid: str) -> tuple[str, str]:
    """Return status and conclusion of a report over FHIR."""
    given = hospital.client.get(f"/fhir/DiagnosticReport/{report_uid}").raise_for_status().json()
    return given["status"], given["conclusion"]


def delivered(hospital: Hospital, report_uid: str) -> list[tuple[int, str, str]]:
    """Return version, channel and recipient of the register of deliveries, oldest first."""
    asked = hospital.client.get("/api/v1/deliveries", params={"report_uid": report_uid})
    found = asked.raise_for_status().json()
    return [(one["report_version"], one["channel"], one["recipient"]) for one in reversed(found)]


def results(hospital: Hospital) -> list[bytes]:
    return [one for one in hospital.his.taken if b"|ORU^R01|" in one]


def told(hospital: Hospital) -> list[tuple[str, ...]]:
    """Return ORC-2, OBR-2, OBR-25 and OBX-11 of each report that the hospital's system took."""
    places = ((b"ORC", 2), (b"OBR", 2), (b"OBR", 25), (b"OBX", 11))
    return [tuple(value(one, *place) for place in places) for one in results(hospital)]


def observations(message: bytes) -> dict[str, str]:
    """Return OBX-3.1 → OBX-5 of a message."""
    lines = [line.split("|") for line in message.decode().split("\r") if line.startswith("OBX")]
    return {fields[3].split("^")[0]: fields[5] for fields in lines}


def documents(hospital: Hospital, study: str) -> dict[str, list[bytes]]:
    """Return the Encapsulated PDF and the SR of a study, by modality, as WADO-RS gives them."""
    path = f"/dicom-web/studies/{study}"
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    found: dict[str, list[bytes]] = {}
    for one in hospital.client.get(f"{path}/instances").raise_for_status().json():
        modality, series, uid = (text(one, tag) for tag in ("00080060", "0020000E", "00080018"))
        if modality in {"DOC", "SR"}:
            where = f"{path}/series/{series}/instances/{uid}"
            content = hospital.client.get(where, headers=accept).raise_for_status().content
            found.setdefault(modality, []).append(content)
    return found


def act(doctor: httpx.Client, action: str, report: dict[str, object], **more: object) -> dict:  # type: ignore[type-arg]
    body = {"revision": report["revision"], **more}
    answer = doctor.post(f"{REPORTS}/{report['uid']}/actions/{action}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def examined(hospital: Hospital, console: Association) -> str:
    """Order an examination and perform it; return its Study Instance UID."""
    named = {"patient": UNKNOWN[1], "name": UNKNOWN[0]}
    ordered = order_message(ORDER, modality="CT", referrer=STATION, **named)
    assert hospital.tell(ordered) == "AA"
    [entry] = hospital.worklist()
    perform(hospital, console, entry)
    until(lambda: hospital.studies(AccessionNumber=ORDER) != [], wanted=True)
    return str(entry.StudyInstanceUID)


def test_story_of_a_report(  # noqa: PLR0915 - a story has its people
    hospital: Hospital,
    console: Association,
    doctor: httpx.Client,
    station: StationDesk,
    neighbour: StationDesk,
    tmp_path: Path,
) -> None:
    study = examined(hospital, console)

    # written, signed
    content = {"findings": FINDINGS, "impression": IMPRESSION}
    opened = doctor.post(REPORTS, json={"study_instance_uids": [study], "content": content})
    assert opened.status_code == 201, opened.text
    signed = act(doctor, "approve", opened.json())

    # the hospital's system has it, with the paper that is in the study too
    until(lambda: told(hospital), [(ORDER, ORDER, "F", "F")])
    sent = observations(results(hospital)[0])
    assert (sent["MO_TA"], sent["KET_LUAN"], sent["113014"]) == (FINDINGS, IMPRESSION, study)
    assert sent["VIEWER"] == f"https://pacs/v/{study}"
    paper = base64.b64decode(sent["PDF"].split("^")[4])
    assert doctor.get(f"{REPORTS}/{signed['uid']}/pdf").content == paper
    until(lambda: sorted(documents(hospital, study)), ["DOC", "SR"])
    for [file] in documents(hospital, study).values():
        assert errors_of(file, tmp_path) == []
    assert paper in documents(hospital, study)["DOC"][0]

    # others read it over FHIR; the station prints it, and the register knows that it did
    uid = signed["uid"]
    assert shared(hospital, uid) == ("final", IMPRESSION)
    assert station.paper(uid) == paper
    until(lambda: delivered(hospital, uid), [(1, "station", STATION)])

    # corrected: told again, and what stood there before is still there
    right = {"findings": RIGHT, "impression": RIGHT}
    act(doctor, "correct", signed, content=right, reason="nhầm bên")
    until(lambda: told(hospital), [(ORDER, ORDER, "F", "F"), (ORDER, ORDER, "C", "C")])
    corrected = observations(results(hospital)[1])
    assert corrected["MO_TA"].startswith("ĐÍNH CHÍNH phiên bản 1")
    assert corrected["MO_TA"].endswith(f"Lý do: nhầm bên~{RIGHT}")
    new_paper = base64.b64decode(corrected["PDF"].split("^")[4])
    assert new_paper != paper
    assert shared(hospital, uid) == ("corrected", RIGHT)
    assert station.paper(uid) == new_paper
    until(lambda: delivered(hospital, uid), [(1, "station", STATION), (2, "station", STATION)])
    assert neighbour.run("sync").startswith("0 changes")
    assert [uid[:12] in desk.run("find") for desk in (station, neighbour)] == [True, False]
    until(lambda: [len(some) for some in documents(hospital, study).values()], [2, 2])
    versions = doctor.get(f"{REPORTS}/{signed['uid']}/versions").json()
    issued = [one for one in versions if one["version"]]
    assert [one["content"]["impression"] for one in issued] == [IMPRESSION, RIGHT]
    assert doctor.get(f"{REPORTS}/{signed['uid']}/pdf", params={"version": 1}).content == paper
