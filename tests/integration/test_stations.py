"""Health stations over HTTP: what is released arrives, and nothing else does."""

import hashlib

from storage.audit.model import Kind, Outcome
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
