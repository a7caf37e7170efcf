"""What was performed, told in the fields of the insurance, counted, and handed over."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from xml.etree import ElementTree as ET

import httpx
import pytest
from sqlalchemy import text

from ris.reports import practitioners, queries
from ris.reports.model import Practitioner
from ris.reports.states import Action
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.tables import OrderRow, ProcedureRow, VisitRow
from storage.access.tokens import Role
from storage.base.clock import utc_now
from storage.db.engine import transaction
from tests.fixtures.fhir import World
from tests.fixtures.reports import HEAD

DAY = datetime(2026, 1, 5)
INSURANCE = "/api/v1/insurance"


@dataclass
class Hospital:
    """Orders that were performed on a day."""

    world: World
    client: httpx.Client

    def perform(
        self,
        number: int,
        at: datetime,
        *,
        station: str = "CT01",
        minutes: int = 10,
        sign: bool = True,
        ordered: timedelta = timedelta(minutes=20),
    ) -> str:
        """Order, perform and report one examination; return its accession number."""
        world, accession = self.world, f"INS{number}"
        patient = world.person(f"I{number}", "LÊ^VĂN HAI")
        order = world.order(
            patient,
            accession_number=accession,
            issued_at=at - ordered,
            requesting_physician="BS^Phạm Thị Chỉ Định",
            reason_code="I63",
        )
        study = world.study(800 + number, order, PatientID=f"I{number}")
        with transaction(world.node.engine) as session:
            procedure = session.query(ProcedureRow).filter_by(order_ref=int(order)).one()
            visit = VisitRow(
                patient_ref=int(patient),
                sender="his",
                admission_id=f"LK{number}",
                created_at=utc_now(),
                changed_at=utc_now(),
                status="ADMITTED",
            )
            session.add(visit)
            session.flush()
            session.get_one(OrderRow, int(order)).visit_ref = visit.id
            step = PerformedStepRow(
                sop_instance_uid=f"2.25.99.{number}",
                status="COMPLETED",
                modality="CT",
                station_ae_title=station,
                started=at,
                ended=at + timedelta(minutes=minutes),
                attributes={"PerformedSeriesSequence": [{"OperatorsName": "VŨ^KỸ THUẬT"}]},
                created_at=utc_now(),
                changed_at=utc_now(),
            )
            session.add(step)
            session.flush()
            session.add(
                PerformedItemRow(
                    performed_ref=step.id,
                    study_instance_uid=study,
                    accession_number=accession,
                    order_ref=int(order),
                    procedure_ref=procedure.id,
                )
            )
        if sign:
            world.report(study, order)
        return accession

    def get(self, path: str, **headers: str) -> httpx.Response:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    def warnings(self, accession: str) -> set[str]:
        [one] = self.get(f"{INSURANCE}/orders/{accession}").json()["services"]
        return {warning["code"] for warning in one["warnings"]}


@pytest.fixture(scope="module")
def hospital(world: World) -> Hospital:
    made = Hospital(world, world.node.client())
    with transaction(world.node.engine) as session:
        practitioners.put(session, Practitioner("KTV1", "Vũ Kỹ Thuật", "KTV", "0009/LĐ-GPHN"))
        practitioners.put(session, Practitioner("BS9", "Phạm Thị Chỉ Định", "BS", "0003/LĐ-CCHN"))
    machine = {"machine_code": "CT.1.68001", "room": "Phòng CT 1"}
    answer = made.client.put("/api/v1/machines/CT01", json=machine)
    assert answer.status_code == 200, answer.text
    return made


def test_a_service_has_every_field_and_no_warning(hospital: Hospital) -> None:
    accession = hospital.perform(1, DAY + timedelta(hours=8))

    [one] = hospital.get(f"{INSURANCE}/orders/{accession}").json()["services"]

    assert one["warnings"] == []
    assert one["xml3"] == {
        "MA_LK": "LK1",
        "MA_DICH_VU": "18.0149",
        "TEN_DICH_VU": "Chụp CLVT sọ não",
        "SO_LUONG": "1",
        "MA_BAC_SI": "0003/LĐ-CCHN",
        "NGUOI_THUC_HIEN": "0009/LĐ-GPHN;0001234/LĐ-CCHN",
        "MA_BENH": "I63",
        "NGAY_YL": "202601050740",
        "NGAY_TH_YL": "202601050800",
        "NGAY_KQ": one["xml4"]["NGAY_KQ"],
        "MA_MAY": "CT.1.68001",
    }
    assert one["xml4"]["KET_LUAN"] == "Hiện không thấy tổn thương trên phim chụp."
    assert one["xml4"]["MA_BS_DOC_KQ"] == "0001234/LĐ-CCHN"
    assert len(one["xml4"]["NGAY_KQ"]) == 12


def test_impossible_times_are_warned_of(hospital: Hospital) -> None:
    early = hospital.perform(
        2, DAY + timedelta(hours=10), ordered=timedelta(minutes=-30), sign=False
    )

    assert hospital.warnings(early) == {"start_before_order", "result_time_missing"}


def test_two_services_on_one_machine_at_once_are_warned_of(hospital: Hospital) -> None:
    one = hospital.perform(3, DAY + timedelta(hours=12), station="CT01")
    other = hospital.perform(4, DAY + timedelta(hours=12, minutes=5), station="CT01")
    beside = hospital.perform(5, DAY + timedelta(hours=12), station="CT02")

    assert hospital.warnings(one) == hospital.warnings(other) == {"machine_busy"}
    assert hospital.warnings(beside) == {"machine_missing"}


def test_result_whose_approval_was_withdrawn_is_not_told(hospital: Hospital) -> None:
    accession = hospital.perform(7, DAY + timedelta(hours=16))
    path = f"{INSURANCE}/orders/{accession}"
    [before] = hospital.get(path).json()["services"]
    desk = hospital.world.desk
    with transaction(desk.engine) as session:
        report = queries.get(session, before["report_uid"])

    withdrawn = desk.act(Action.UNAPPROVE, report, HEAD, reason="Nhầm bên")

    [after] = hospital.get(path).json()["services"]
    assert (after["xml4"]["KET_LUAN"], after["xml4"]["NGAY_KQ"]) == ("", "")
    assert hospital.warnings(accession) == {"result_time_missing"}
    desk.act(Action.CORRECT, withdrawn, HEAD, reason="Nhầm bên")
    [again] = hospital.get(path).json()["services"]
    assert again["xml4"] == before["xml4"]


def test_xml_says_the_same_as_json(hospital: Hospital) -> None:
    accession = hospital.perform(6, DAY + timedelta(hours=14))
    path = f"{INSURANCE}/orders/{accession}"

    [told] = hospital.get(path).json()["services"]
    root = ET.fromstring(hospital.get(path, accept="application/xml").content)  # noqa: S314 - ours

    [service] = root.findall("DICH_VU")
    for name, fields in (("CHI_TIET_DVKT", told["xml3"]), ("CHI_TIET_CLS", told["xml4"])):
        element = service.find(name)
        assert element is not None
        assert {one.tag: one.text or "" for one in element} == fields


@pytest.mark.parametrize("by", ["performed", "result"])
def test_a_day_is_read_page_by_page_each_order_once(hospital: Hospital, by: str) -> None:
    day = DAY + timedelta(days=40)
    made = [hospital.perform(10 * (by == "result") + number, day) for number in range(20, 25)]
    asked = (
        day.date() if by == "performed" else datetime.now(hospital.world.node.settings.zone).date()
    )

    found, after = [], 0
    while after is not None:
        query = f"day={asked}&by={by}&limit=2&after={after}"
        page = hospital.get(f"{INSURANCE}/services?{query}").json()
        assert len(page["services"]) <= 2
        found += [one["accession_number"] for one in page["services"]]
        after = page["next"]

    assert len(found) == len(set(found))
    assert {*made} <= {*found}


def test_an_order_that_is_not_there_is_404(hospital: Hospital) -> None:
    assert hospital.client.get(f"{INSURANCE}/orders/NONE").status_code == 404


# Statistics


def test_turnaround_is_counted_from_order_to_signature(hospital: Hospital) -> None:
    day = DAY + timedelta(days=80)
    for number, waited in enumerate((10, 20, 30, 40), start=60):
        hospital.perform(number, day, ordered=timedelta(minutes=waited), sign=number != 63)

    query = f"/api/v1/statistics/turnaround?first={day.date()}&last={day.date()}&by=room"
    [row] = hospital.get(query).json()

    assert (row["group"], row["services"]) == ("Phòng CT 1", 4)
    assert row["order_to_start"] == {"count": 4, "p50": 25.0, "p90": 37.0, "p95": 38.5}
    assert row["order_to_result"]["count"] == 3


def test_workload_counts_services_images_and_signatures(hospital: Hospital) -> None:
    day = DAY + timedelta(days=120)
    for number in (70, 71):
        hospital.perform(number, day)
    today = datetime.now(hospital.world.node.settings.zone).date()

    query = f"/api/v1/statistics/workload?first={day.date()}&last={day.date()}"
    done = hospital.get(query).json()
    read = hospital.get(f"/api/v1/statistics/workload?first={today}&last={today}&by=reader").json()

    assert done == [{"group": "CT", "services": 2, "images": 4, "reports": 0}]
    assert [one["group"] for one in read if one["reports"]] == ["Trần Thị Ỷ"]
    assert read[-1]["reports"] >= 2


def test_csv_has_vietnamese_headers(hospital: Hospital) -> None:
    path = "/api/v1/statistics/workload?first=2026-01-05&last=2026-01-05&by=day&format=csv"

    vietnamese = hospital.get(path).content.decode("utf-8-sig").splitlines()
    english = hospital.get(path, **{"Accept-Language": "en"}).content.decode("utf-8-sig")

    assert vietnamese[0] == "Ngày,Số ca thực hiện,Số ảnh,Số kết quả ký"
    assert vietnamese[1].startswith("2026-01-05,")
    assert english.startswith("Day,Services,Images,Reports")


def test_no_cell_is_a_formula(hospital: Hospital) -> None:
    hospital.perform(75, DAY + timedelta(days=130), station="=1+1")
    day = (DAY + timedelta(days=130)).date()

    path = f"/api/v1/statistics/workload?first={day}&last={day}&by=room&format=csv"

    assert "\n'=1+1,1," in hospital.get(path).text


@pytest.mark.parametrize(
    "days", ["first=2026-01-05&last=2026-01-04", "first=2024-01-01&last=2026-01-01"]
)
def test_a_period_is_a_year_at_most(hospital: Hospital, days: str) -> None:
    assert hospital.client.get(f"/api/v1/statistics/turnaround?{days}").status_code == 400


# Deliveries


@pytest.fixture
def handed(hospital: Hospital) -> Callable[..., httpx.Response]:
    study = hospital.world.study(900)
    report = hospital.world.report(study)

    def enter(**values: object) -> httpx.Response:
        body = {
            "channel": "film",
            "recipient_kind": "patient",
            "recipient": "người nhà",
            "report_uid": report.uid,
            "count": 2,
            "evidence": "BN 0042",
        }
        return hospital.client.post("/api/v1/deliveries", json={**body, **values})

    return enter


def test_what_was_handed_over_stands_in_the_register(
    hospital: Hospital, handed: Callable[..., httpx.Response]
) -> None:
    made = handed()

    assert made.status_code == 201, made.text
    entry = made.json()
    assert (entry["report_version"], entry["count"], entry["evidence"]) == (1, 2, "BN 0042")
    listed = hospital.get(f"/api/v1/deliveries?report_uid={entry['report_uid']}").json()
    assert listed == [entry]


def test_an_entry_is_taken_back_by_another_one_once(
    hospital: Hospital, handed: Callable[..., httpx.Response]
) -> None:
    entry = handed().json()
    path = f"/api/v1/deliveries/{entry['uid']}/revocation"

    first = hospital.client.post(path, json={"reason": "giao nhầm"})
    again = hospital.client.post(path, json={"reason": "giao nhầm"})

    assert (first.status_code, again.status_code) == (201, 409)
    listed = hospital.get(f"/api/v1/deliveries?report_uid={entry['report_uid']}").json()
    assert [one["revokes"] for one in listed] == [entry["uid"], None]
    assert listed[1]["revoked_by"] == first.json()["uid"]


@pytest.mark.parametrize("statement", ["UPDATE deliveries SET count = 9", "DELETE FROM deliveries"])
def test_the_register_is_never_changed(
    hospital: Hospital, handed: Callable[..., httpx.Response], statement: str
) -> None:
    handed()

    with (
        pytest.raises(Exception, match="only appended to"),
        transaction(hospital.world.node.engine) as session,
    ):
        session.execute(text(statement))


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"report_uid": "0" * 32}, 404),
        ({"report_uid": "", "study_instance_uid": "2.25.404"}, 404),
        ({"study_instance_uid": "2.25.900"}, 400),
        ({"report_version": 7}, 404),
        ({"delivered_at": "2999-01-01T00:00:00Z"}, 400),
        ({"delivered_at": "2026-01-01T00:00:00"}, 422),
        ({"count": 0}, 422),
        ({"channel": "pigeon"}, 422),
    ],
    ids=["report", "study", "both", "version", "future", "naive", "none", "channel"],
)
def test_what_cannot_be_is_not_entered(
    handed: Callable[..., httpx.Response], wrong: dict[str, object], status: int
) -> None:
    assert handed(**wrong).status_code == status


def test_a_viewer_enters_nothing(hospital: Hospital) -> None:
    viewer = hospital.world.as_(Role.VIEWER).client

    assert viewer.get("/api/v1/deliveries").status_code == 403
