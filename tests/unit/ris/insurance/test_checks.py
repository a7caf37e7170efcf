"""Each warning comes when its reason is there, and from a sound service none."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ris.insurance import checks, model
from ris.insurance.model import Person, Service

NOW = datetime(2026, 1, 5, 17, 0)
SOUND = Service(
    order_id=1,
    procedure_id=1,
    patient_id=1,
    placer_order_number="7781",
    accession_number="A1",
    admission_id="LK01",
    code="18.0149",
    name="Chụp CLVT sọ não",
    diagnosis="I63",
    ordered_at=datetime(2026, 1, 5, 8, 0),
    started_at=datetime(2026, 1, 5, 8, 30, 40),
    ended_at=datetime(2026, 1, 5, 8, 40),
    resulted_at=datetime(2026, 1, 5, 9, 5),
    requester=Person("Phạm Thị Chỉ Định", "0003/LĐ-CCHN"),
    performers=(Person("Vũ Kỹ Thuật", "0009/LĐ-GPHN"),),
    reader=Person("Trần Thị Ỷ", "0001/LĐ-CCHN"),
    findings="Không thấy bất thường.",
    impression="Hiện không thấy tổn thương.",
    ae_titles=("CT01",),
    machine_codes=("CT.1.68001",),
    report_uid="0" * 32,
    report_version=1,
    reports=1,
    beside=(),
)
WRONG = {
    "order_time_missing": {"ordered_at": None},
    "start_time_missing": {"started_at": None},
    "result_time_missing": {"resulted_at": None},
    "start_before_order": {"ordered_at": datetime(2026, 1, 5, 8, 31)},
    "result_before_start": {"started_at": datetime(2026, 1, 5, 9, 6)},
    "time_in_future": {"resulted_at": NOW + timedelta(minutes=3)},
    "machine_missing": {"machine_codes": ()},
    "machine_busy": {"beside": ("A2",)},
    "requester_licence_missing": {"requester": Person("Ai Đó")},
    "reader_licence_missing": {"reader": None},
    "service_code_missing": {"code": ""},
    "treatment_missing": {"admission_id": ""},
    "conclusion_short": {"impression": "BT"},
    "several_reports": {"reports": 2},
}


def test_a_sound_service_has_no_warning() -> None:
    assert checks.check(SOUND, NOW) == []


@pytest.mark.parametrize("code", [one[0] for one in checks.CHECKS])
def test_what_is_wrong_is_warned_of_and_nothing_else(code: str) -> None:
    found = checks.check(replace(SOUND, **WRONG[code]), NOW)

    assert [one.code for one in found] == [code]


def test_times_within_one_minute_are_in_order() -> None:
    same = SOUND.ordered_at
    assert same is not None
    service = replace(SOUND, started_at=same, ordered_at=same + timedelta(seconds=59))

    assert checks.check(service, NOW) == []


def test_fields_are_written_as_the_insurance_wants_them() -> None:
    xml3, xml4 = (model.fields(SOUND, names) for names in (model.XML3, model.XML4))

    assert (xml3["NGAY_YL"], xml3["NGAY_TH_YL"], xml3["NGAY_KQ"]) == (
        "202601050800",
        "202601050830",
        "202601050905",
    )
    assert xml3["NGUOI_THUC_HIEN"] == "0009/LĐ-GPHN;0001/LĐ-CCHN"
    assert (xml3["MA_MAY"], xml3["MA_BENH"], xml3["MA_LK"]) == ("CT.1.68001", "I63", "LK01")
    assert (xml4["MO_TA"], xml4["KET_LUAN"]) == (SOUND.findings, SOUND.impression)
    assert xml4["MA_BS_DOC_KQ"] == "0001/LĐ-CCHN"
