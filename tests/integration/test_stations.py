"""Health stations over HTTP: what is released arrives, and nothing else does."""

import hashlib
import io

from PIL import Image

from ris.reports import criticals, key_images
from ris.reports.key_images import KeyImage
from storage.archive.rejection_rules import Title
from storage.audit.model import Kind, Outcome
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.rejection_notes import rejection
from tests.fixtures.reports import HEAD
from tests.fixtures.stations import API, Province


def test_report_of_a_referred_patient_reaches_the_station(province: Province) -> None:
    station, other = province.station("68001"), province.station("68002")
    patient = province.patient()
    order = province.order(patient, "68001")
    draft = province.draft(order)
    assert province.shown("68001") == {}
    report = province.desk.act("approve", draft)
    sha256 = province.document(report)

    page = province.changes("68001")
    [item] = page["items"]
    text = station.get(f"{API}/reports/{item['id']}")
    paper = station.get(f"{API}/reports/{item['id']}/pdf")
    receipt = station.post(
        f"{API}/reports/{item['id']}/receipt",
        json={"version": 1, "kind": "printed", "sha256": sha256},
    )

    assert (item["state"], item["version"], item["status"]) == ("released", 1, "final")
    assert item["patient"]["name"] == "NGUYỄN VĂN AN"
    assert item["paper"] == {"sha256": sha256, "bytes": len(paper.content)}
    assert item["basis"]["kind"] == "referral"
    assert item["changed_at"].endswith("+07:00")
    assert text.json()["conclusion"].startswith("Hiện không thấy tổn thương")
    assert hashlib.sha256(paper.content).hexdigest() == paper.headers["x-content-sha256"] == sha256
    assert receipt.status_code == 201, receipt.text
    assert province.changes("68001", page["next_cursor"])["items"] == []

    assert province.shown("68002") == {}
    for path in ("", "/pdf", "/key-images", "/key-images/1"):
        assert other.get(f"{API}/reports/{item['id']}{path}").status_code == 404
    refused = province.journal(station="68002", outcomes=(Outcome.REFUSED,))
    assert [one.report_uid for one in refused] == [item["id"]] * 4
    seen = province.journal(station="68001", report_uid=item["id"])
    assert {one.kind for one in seen} == {Kind.LIST, Kind.VIEW, Kind.DOWNLOAD, Kind.PRINT}
    assert {one.basis for one in seen if one.kind is not Kind.PRINT} == {"referral"}
    assert {one.patient_id for one in seen} == {patient}


def test_station_gets_the_pictures_that_were_chosen_for_it_and_no_others(
    province: Province,
) -> None:
    station, other = province.station("68001"), province.station("68002")
    image = ct_slice(PatientName="NGUYỄN^VĂN AN", PatientID="BN1")
    province.node.put(image)
    study = str(image.StudyInstanceUID)
    order = province.order(province.patient(), "68001", study=study)
    draft = province.draft(order)
    uids = study, str(image.SOPInstanceUID)
    with transaction(province.engine) as session:
        chosen = [KeyImage(*uids, label="của chúng tôi"), KeyImage(*uids, 1, "tổn thương", True)]
        key_images.put(session, HEAD, draft.uid, chosen)
    report = province.desk.act("approve", draft)
    path = f"{API}/reports/{report.uid}/key-images"

    listed = station.get(path).json()
    small = station.get(f"{path}/1", params={"w": 64})
    usual = station.get(f"{path}/1")

    assert [(one["id"], one["label"]) for one in listed] == [(1, "tổn thương")]
    assert len(usual.content) == listed[0]["bytes"]
    assert usual.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(usual.content)) as picture:
        assert picture.size == (listed[0]["w"], listed[0]["h"])
    with Image.open(io.BytesIO(small.content)) as picture:
        assert max(picture.size) <= 64
    assert station.get(f"{path}/2").status_code == 404
    assert other.get(f"{path}/1").status_code == 404


def test_station_hears_of_a_finding_that_is_called_critical_later(province: Province) -> None:
    province.station("68001")
    report = province.signed(province.order(province.patient(), "68001"))
    seen = province.changes("68001")["next_cursor"]

    with transaction(province.engine) as session:
        criticals.raise_critical(session, HEAD, report.uid, "red", "Xuất huyết")

    [item] = province.changes("68001", seen)["items"]
    assert (item["id"], item["version"], item["critical"]) == (report.uid, 1, "red")


def test_picture_that_cannot_be_drawn_keeps_no_other_away(province: Province) -> None:
    station = province.station("68001")
    good = ct_slice(PatientName="NGUYỄN^VĂN AN", PatientID="BN1")
    study = str(good.StudyInstanceUID)
    broken = ct_slice(PatientName="NGUYỄN^VĂN AN", PatientID="BN1", StudyInstanceUID=study)
    broken.Rows = broken.Columns = 512
    broken.PixelData = bytes(2)
    province.node.put(good, broken)
    report = province.signed(province.order(province.patient(), "68001", study=study))
    seen = province.changes("68001")["next_cursor"]

    with transaction(province.engine) as session:  # after the signature
        chosen = [
            KeyImage(study, str(one.SOPInstanceUID), 1, for_provider=True) for one in (broken, good)
        ]
        key_images.put(session, HEAD, report.uid, chosen)

    [item] = province.changes("68001", seen)["items"]
    assert (item["id"], item["key_images"]) == (report.uid, 2), "the station hears of them"
    path = f"{API}/reports/{report.uid}/key-images"
    assert [one["id"] for one in station.get(path).json()] == [2]
    assert station.get(f"{path}/2").status_code == 200


def test_station_is_shown_no_picture_that_was_rejected(province: Province) -> None:
    station = province.station("68001")
    first = ct_slice(PatientName="NGUYỄN^VĂN AN", PatientID="BN1")
    uids = {"StudyInstanceUID": first.StudyInstanceUID}
    second = ct_slice(PatientName="NGUYỄN^VĂN AN", PatientID="BN1", **uids)
    province.node.put(first, second)
    study = str(first.StudyInstanceUID)
    draft = province.draft(province.order(province.patient(), "68001", study=study))
    with transaction(province.engine) as session:
        chosen = [
            KeyImage(study, str(one.SOPInstanceUID), 1, label, for_provider=True)
            for one, label in ((first, "nhầm bên"), (second, "đúng bên"))
        ]
        key_images.put(session, HEAD, draft.uid, chosen)
    path = f"{API}/reports/{province.desk.act('approve', draft).uid}/key-images"
    assert len(station.get(path).json()) == 2

    province.node.put(rejection(Title.SAFETY, [first]))

    assert [one["label"] for one in station.get(path).json()] == ["đúng bên"]
    assert station.get(f"{path}/2").status_code == 404
    province.node.put(rejection(Title.SAFETY, [second]))
    assert station.get(path).json() == []
