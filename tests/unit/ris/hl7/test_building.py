from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.hl7 import building, charsets, message
from ris.hl7.building import OrderNews
from ris.hl7.destinations import Style
from ris.model import (
    Order,
    OrderState,
    Patient,
    PatientIdentifier,
    RequestedProcedure,
    ScheduledStep,
    StepStatus,
    Visit,
    VisitStatus,
)
from ris.requests import Code
from tests.fixtures.hl7 import segment

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
AT = datetime(2026, 11, 23, 1, 30, 12, tzinfo=UTC)
OLD = PatientIdentifier(value="OLD", issuer="BVDK", kind="PI", identifies=True, retired=True)
PATIENT = Patient(
    id=1,
    identifiers=(
        PatientIdentifier(value="0000123456", issuer="BVDK", kind="PI", identifies=True),
        PatientIdentifier(value="DN468", issuer="BHYT", kind="HC", identifies=False),
        OLD,
    ),
    patient_name="NGUYỄN^MẪU^VĂN^^JR",
    patient_birth_date=date(1980, 1, 1),
    patient_birth_date_sent="19800101",
    patient_sex="M",
    mother_name="",
    patient_address="Thôn 1 | Lâm Đồng",
    patient_telephone="0900000001",
    ethnic_group="",
    merged_into=None,
    root=1,
)
ORDER = Order(
    id=7,
    patient_id=1,
    visit_id=None,
    sender="his",
    placer_order_number="7781001",
    placer_issuer="",
    filler_order_number="F-2026-000123",
    group_number="",
    accession_number="7781001",
    accession_issuer="",
    control="NW",
    placer_status="",
    state=OrderState.IN_PROGRESS,
    priority="STAT",
    requesting_physician="",
    requesting_service="",
    institution="",
    reason=None,
    clinical_information="",
    danger="",
    transport="",
    confidentiality="",
    comments="",
    issued_at=None,
    sent_at=None,
    awaited=False,
    changed_after_start=False,
    reported_at=None,
    created_at=AT,
    changed_at=AT,
)
PROCEDURE = RequestedProcedure(
    id=3,
    order_id=7,
    requested_procedure_id="RP1",
    study_instance_uid="1.2.3",
    code=Code("18.0119.0028", "Chụp Xquang ngực thẳng", "DMDC"),
    description="",
    canceled=False,
)
STEP = ScheduledStep(
    id=4,
    procedure_id=3,
    order_id=7,
    scheduled_procedure_step_id="SP1",
    status=StepStatus.STARTED,
    modality="DX",
    station_ae_titles=(),
    station_name="",
    location="",
    start=datetime(2026, 11, 23, 8, 30),
    end=None,
    protocol=None,
    description="",
    performing_physician="",
)
NEWS = OrderNews(
    control="SC",
    status="IP",
    happened_at=AT,
    order=ORDER,
    patient=PATIENT,
    visit=None,
    procedures=[PROCEDURE],
    steps=[STEP],
)
HIS = Style(application="HIS", facility="BVDK", our_application="PACS", our_facility="BVDK")


def lines(news: OrderNews = NEWS, style: Style = HIS) -> list[str]:
    octets = building.order_message(news, style, VIETNAM, "C1")
    return octets.decode().rstrip("\r").split("\r")


def test_status_as_a_his_expects_it() -> None:
    assert lines(style=replace(HIS, country="VNM", plain_names=True)) == [
        "MSH|^~\\&|PACS|BVDK|HIS|BVDK|20261123083012||ORM^O01|C1|P|2.4|||||VNM|UNICODE UTF-8",
        "PID|||0000123456^^^BVDK^PI~DN468^^^BHYT^HC||NGUYỄN MẪU VĂN JR||19800101|M",
        "ORC|SC|7781001|F-2026-000123||IP||^^^20261123083000^^S||20261123083012",
        segment(
            "OBR",
            {
                1: "1",
                2: "7781001",
                3: "F-2026-000123",
                4: "18.0119.0028^Chụp Xquang ngực thẳng^DMDC",
                7: "20261123083000",
                18: "7781001",
                19: "RP1",
                20: "SP1",
                22: "20261123083012",
                24: "DX",
            },
        ),
    ]


def test_general_order_tells_the_time_in_its_own_segment() -> None:
    found = lines(style=replace(HIS, version="2.5.1", message="OMG", study_uid=True))

    assert [one[:3] for one in found] == ["MSH", "PID", "ORC", "TQ1", "OBR", "ZDS"]
    assert found[0].split("|")[8] == "OMG^O19^OMG_O19"
    assert found[2] == "ORC|SC|7781001|F-2026-000123||IP||||20261123083012"
    assert found[3] == "TQ1|1||||||20261123083000||S"
    assert found[5] == "ZDS|1.2.3^^Application^DICOM"


def test_visit_and_every_procedure_are_told() -> None:
    visit = Visit(
        id=1,
        patient_id=1,
        sender="his",
        admission_id="V1",
        patient_class="I",
        location="NOI",
        referring_physician="",
        attending_physician="",
        pregnant=False,
        insurance_number="",
        status=VisitStatus.PRESENT,
    )
    second = replace(PROCEDURE, id=5, requested_procedure_id="RP2")
    gone = replace(PROCEDURE, id=6, requested_procedure_id="RP3", canceled=True)

    found = lines(replace(NEWS, visit=visit, procedures=[PROCEDURE, second, gone]))

    assert found[2] == "PV1||I|NOI||||||||||||||||V1"
    assert [one.split("|")[1:3] for one in found if one.startswith("OBR")] == [
        ["1", "7781001"],
        ["2", "7781001"],
    ]


def test_canceled_order_still_says_what_it_was() -> None:
    gone = replace(PROCEDURE, canceled=True)

    found = lines(replace(NEWS, control="OC", status="CA", procedures=[gone]))

    assert found[2].startswith("ORC|OC|7781001|F-2026-000123||CA|")
    assert found[3].startswith("OBR|1|7781001|F-2026-000123|18.0119.0028^")
    assert found[3].split("|")[7] == ""


def test_number_of_the_placer_goes_back_as_it_came() -> None:
    order = replace(ORDER, placer_order_number="0007781001 ", placer_issuer="HIS")

    assert lines(replace(NEWS, order=order))[2].split("|")[2] == "0007781001 ^HIS"


def test_letters_that_a_destination_cannot_show_are_folded() -> None:
    octets = building.order_message(NEWS, replace(HIS, charset="ASCII"), VIETNAM, "C1")

    assert octets.isascii()
    assert b"NGUYEN^MAU^VAN^JR" in octets


def test_name_is_turned_from_pn_into_xpn() -> None:
    assert building.name("NGUYỄN^MẪU^VĂN^ÔNG^JR=阮", HIS) == "NGUYỄN^MẪU^VĂN^JR^ÔNG"
    assert building.name("NGUYỄN VĂN MẪU", HIS) == "NGUYỄN VĂN MẪU"
    assert building.name("", HIS) == ""


@pytest.mark.parametrize("control", ["SC", "OC", "UC", "NA"])
@pytest.mark.parametrize(
    ("version", "kind"),
    [("2.3.1", "ORM"), ("2.4", "ORM"), ("2.5", "OMG"), ("2.5.1", "OMG"), ("2.6", "OMG")],
)
def test_standard_has_nothing_against_what_we_send(version: str, kind: str, control: str) -> None:
    style = replace(HIS, version=version, message=kind)

    octets = building.order_message(replace(NEWS, control=control), style, VIETNAM, "C1")

    # values of tables are recommendations: IHE has modalities in OBR-24, Vietnam its own codes
    assert [one for one in building.faults(octets) if "not in table" not in one] == []


@pytest.mark.parametrize(
    "octets",
    [
        b"PID|1",
        b"",
        b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.4\r",
        b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.7\rPID|1\rORC|NW\rTQ1|1|1\r",
    ],
    ids=["no message", "nothing", "lacks segments", "what the library cannot read"],
)
def test_faults_are_told_and_never_raised(octets: bytes) -> None:
    assert building.faults(octets)


def test_control_ids_are_new_and_short_enough() -> None:
    ids = {building.new_control_id() for _ in range(100)}

    assert len(ids) == 100
    assert {len(one) for one in ids} == {20}


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)


@given(TEXT)
def test_any_text_comes_back_from_the_field_it_was_put_in(text: str) -> None:
    """H06: whatever stands in a value, the other side finds the same segments and the value."""
    order = replace(ORDER, placer_order_number=text, accession_number=text)
    patient = replace(PATIENT, patient_name=f"A^{text}")
    news = replace(NEWS, order=order, patient=patient)

    found = message.read(building.order_message(news, HIS, VIETNAM, "C1"), "UTF-8")

    assert [one.name for one in found.segments] == ["MSH", "PID", "ORC", "OBR"]
    meant = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    assert found.value("ORC-2.1") == found.value("OBR-18") == normal(meant)


def normal(text: str) -> str:
    """Return `text` as every reading makes it: NFC, with double-encoded letters repaired."""
    return charsets.decode(text.encode(), "UTF-8").text
