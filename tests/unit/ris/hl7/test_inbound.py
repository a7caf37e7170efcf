"""Typical messages of each kind of sender, read by its profile into what we ask for."""

from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from ris.hl7 import inbound, message, profile
from ris.hl7.ack import MissingValue, NoSequence, UnknownValue
from ris.hl7.profile import Profile
from ris.requests import (
    AppointmentRequest,
    Code,
    Identifier,
    MergeRequest,
    OrderRequest,
    PatientRequest,
    StepRequest,
    VisitRequest,
)
from tests.fixtures.hl7 import segment

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
GENERIC = profile.named("generic")

IHE_231 = (
    "MSH|^~\\&|RIS|BV|PACS|BV|20260401090000||ORM^O01|1|P|2.3.1||||||UNICODE UTF-8",
    segment(
        "PID",
        {
            3: "99002^^^BV&1.2.3&ISO^PI~068099000001^^^CCCD^NI",
            5: "NGUYỄN^AN^VĂN",
            7: "19800101",
            8: "F",
            11: "Thôn 1^^Lâm Đồng",
            13: "0900000001^PRN~0900000002",
        },
    ),
    segment(
        "PV1",
        {2: "I", 3: "NOI^P3^G2", 7: "BS1^Lê^Mẫu", 8: "BS2^Phạm^Thử", 19: "V77"},
    ),
    segment(
        "ORC",
        {
            1: "NW",
            2: "4711^HIS",
            3: "F11^RIS",
            4: "G1^HIS",
            5: "SC",
            7: "^^^20260401093000^^S",
            9: "20260401085959",
        },
    ),
    segment(
        "OBR",
        {
            1: "1",
            2: "4711^HIS",
            3: "F11^RIS",
            4: "71020^Ngực hai tư thế^L^P1^Ngực PA^LP",
            12: "Thận trọng",
            13: "ho kéo dài & sốt",
            16: "BS2^Phạm^Thử",
            18: "A4711",
            19: "RP4711",
            20: "SP4711",
            24: "DX",
            27: "^^^20260401093000^^S",
            30: "WALK",
            31: "J18^Viêm phổi^I10",
            34: "KTV1&Trần&Tư",
        },
    ),
    "NTE|1||dòng một",
    "NTE|2||dòng hai",
    "ZDS|1.2.826.0.1.3680043.10.543.4711^^Application^DICOM",
)
IHE_251 = (
    "MSH|^~\\&|RIS|BV|PACS|BV|20260401110000||OMI^O23^OMI_O23|2|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||0000200002^^^BVDK^PI||HOÀNG^THỊ MẪU||19700505|F",
    "PV1|1|E|CC",
    "ORC|NW|500001^HIS|500001^RIS|500000^HIS|SC",
    "TQ1|1||||||20260401113000||A",
    "OBR|1|500001^HIS|500001^RIS|18.0149.0040^Chụp CLVT sọ não^DMDC",
    "IPC|A500001^RIS|RP500001|1.2.3|SPS1|CT|P1^Sọ não^L|MÁY 1|PHÒNG CT|CT01",
    "IPC|A500001^RIS|RP500001|1.2.3|SPS2|CT|P2^Xoang^L|MÁY 2|PHÒNG CT|CT 02 TOO LONG A TITLE",
)
HISPRO = (
    "MSH|^~\\&|HIS|01829|PACS|SANCY|20260310083000||ORM^O01|7781001|P|2.4",
    "PID|||0000123456||LÊ VĂN BÉ 5TH||20251001|M|||Thôn 1, Xã Thử, Tỉnh Lâm Đồng||0900000003",
    "PV1||O|KKB^Khoa khám bệnh||||||||||||||||TE1680000000003",
    "ORC|NW|7781001||||||^^^20260310083000^^R||||bsA^Bác sĩ A",
    segment(
        "OBR",
        {
            2: "7781001",
            4: "XQ.NGUC^Chụp Xquang ngực thẳng",
            7: "20260310083000",
            16: "bsA^Bác sĩ A",
            18: "7781001",
            19: "7781001",
            20: "7781001",
            24: "DX",
        },
    ),
)
INFOMED = (
    "MSH|^~\\&|HIS|0|PACS||20230904230126||OMI^O23^OMI_O23|3|P|2.7|||||VNM|UNICODE UTF-8",
    "PID|||23990001||NGUYỄN THỊ VÍ DỤ||1962|2|||Phường Mẫu, Tỉnh Ví Dụ||0900000002",
    "PV1|1|O|K01,Khoa Khám bệnh^Phòng khám số 5^|R",
    "IN1|1|DN4409900000002",
    "ORC|NW|139905|||SC|N||||||bs01^BS. Phạm Thử|||20230904230126||CDHA^Khoa CĐHA",
    "TQ1|1|1|||||20230904230126||R",
    segment("OBR", {1: "1", 2: "139905^139905", 4: "18.0119.0028^Chụp Xquang ngực", 24: "XQ"}),
    segment("OBR", {1: "2", 2: "139905^1399099", 4: "18.0001.0001^Siêu âm tuyến giáp", 24: "SA"}),
)


def orders(
    segments: tuple[str, ...], name: str | Profile = GENERIC
) -> tuple[list[OrderRequest], list[str]]:
    given = profile.named(name) if isinstance(name, str) else name
    return inbound.orders(message.read("\r".join(segments).encode()), given, VIETNAM)


def patient_and_visit(
    segments: tuple[str, ...], name: str | Profile = GENERIC
) -> tuple[PatientRequest, VisitRequest, list[str]]:
    given = profile.named(name) if isinstance(name, str) else name
    read = inbound.reader(message.read("\r".join(segments).encode()), given, VIETNAM)
    return inbound.patient(read), inbound.visit(read), read.notes


def changed(segments: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    assert any(old in one for one in segments)
    return tuple(one.replace(old, new) for one in segments)


def test_ihe_231_order() -> None:
    [order], notes = orders(IHE_231, "ihe-2.3.1")

    assert order == OrderRequest(
        control="NW",
        status="SC",
        placer_order_number="4711",
        placer_issuer="HIS",
        filler_order_number="F11",
        group_number="G1",
        accession_number="A4711",
        requested_procedure_id="RP4711",
        study_instance_uid="1.2.826.0.1.3680043.10.543.4711",
        procedure=Code("71020", "Ngực hai tư thế", "L"),
        priority="STAT",
        reason=Code("J18", "Viêm phổi", "I10"),
        clinical_information="ho kéo dài & sốt",
        requesting_physician="Phạm^Thử",
        institution="BV",
        transport="WALK",
        danger="Thận trọng",
        comments="dòng một\ndòng hai",
        steps=(
            StepRequest(
                scheduled_procedure_step_id="SP4711",
                modality="DX",
                start=datetime(2026, 4, 1, 9, 30),
                performing_physician="Trần^Tư",
                protocol=Code("P1", "Ngực PA", "LP"),
            ),
        ),
    )
    assert notes == []


def test_ihe_231_patient_and_visit() -> None:
    patient, visit, notes = patient_and_visit(IHE_231, "ihe-2.3.1")

    assert patient == PatientRequest(
        identifier=Identifier("99002", "BV", "PI"),
        other_identifiers=(Identifier("068099000001", "CCCD", "NI"),),
        patient_name="NGUYỄN^AN^VĂN",
        patient_birth_date=date(1980, 1, 1),
        patient_birth_date_sent="19800101",
        patient_sex="F",
        patient_address="Thôn 1, Lâm Đồng",
        patient_telephone="0900000001, 0900000002",
    )
    assert visit == VisitRequest(
        admission_id="V77",
        patient_class="I",
        location="NOI, P3, G2",
        attending_physician="Lê^Mẫu",
        referring_physician="Phạm^Thử",
    )
    assert notes == []


def test_ihe_251_order_has_a_step_for_each_ipc() -> None:
    [order], notes = orders(IHE_251, "ihe-2.5.1")

    first = StepRequest(
        scheduled_procedure_step_id="SPS1",
        modality="CT",
        scheduled_station_ae_title="CT01",
        scheduled_station_name="MÁY 1",
        location="PHÒNG CT",
        start=datetime(2026, 4, 1, 11, 30),
        protocol=Code("P1", "Sọ não", "L"),
    )
    second = replace(
        first,
        scheduled_procedure_step_id="SPS2",
        scheduled_station_ae_title="",
        scheduled_station_name="MÁY 2",
        protocol=Code("P2", "Xoang", "L"),
    )
    assert order.steps == (first, second)
    assert (order.accession_number, order.requested_procedure_id) == ("A500001", "RP500001")
    assert (order.study_instance_uid, order.priority) == ("1.2.3", "HIGH")
    assert notes == ["IPC-9 passed over: not an AE title"]


def test_hispro_number_is_everything_at_once() -> None:
    [order], _ = orders(HISPRO, "hispro")
    patient, visit, _ = patient_and_visit(HISPRO, "hispro")

    assert order.placer_order_number == order.accession_number == "7781001"
    assert order.requested_procedure_id == "7781001"
    assert order.steps[0].scheduled_procedure_step_id == "7781001"
    assert order.steps[0].start == datetime(2026, 3, 10, 8, 30)
    assert patient.patient_name == "LÊ VĂN BÉ"
    assert (visit.admission_id, order.study_instance_uid) == ("TE1680000000003", "")


def test_infomed_lines_are_orders_of_their_own() -> None:
    found, _ = orders(INFOMED, "infomed")
    patient, visit, notes = patient_and_visit(INFOMED, "infomed")

    assert [(one.placer_order_number, one.accession_number) for one in found] == [
        ("139905", "139905"),
        ("139905", "1399099"),
    ]
    assert [one.steps[0].modality for one in found] == ["DX", "US"]
    assert {one.steps[0].start for one in found} == {datetime(2023, 9, 4, 23, 1, 26)}
    assert {one.priority for one in found} == {"ROUTINE"}
    assert patient.patient_birth_date is None
    assert patient.patient_birth_date_sent == "1962"
    assert patient.patient_sex is None
    assert notes == ["PID-8 passed over: no such sex"]
    assert visit.insurance_number == "DN4409900000002"


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_reads_a_plain_order(name: str) -> None:
    [order], _ = orders(IHE_231, name)

    assert (order.placer_order_number, order.steps[0].modality) == ("4711", "DX")


@pytest.mark.parametrize(
    ("segments", "old", "new", "error", "text"),
    [
        (IHE_231, "ORC|NW|4711^HIS|F11^RIS", "ORC|NW||", MissingValue, "ORC-2.1 is required"),
        (IHE_231, "ORC|NW|", "ORC|ZZ|", UnknownValue, "ORC-1: no such control code"),
    ],
    ids=["no number", "no such control code"],
)
def test_order_lacks_what_we_insist_on(
    segments: tuple[str, ...], old: str, new: str, error: type[Exception], text: str
) -> None:
    broken = changed(changed(segments, "OBR|1|4711^HIS|F11^RIS", "OBR|1||"), old, new)

    with pytest.raises(error, match=text):
        orders(broken, "ihe-2.3.1")


def test_patient_lacks_what_we_insist_on() -> None:
    with pytest.raises(MissingValue, match=r"PID-3\.1 is required"):
        patient_and_visit(changed(IHE_251, "|0000200002^^^BVDK^PI|", "||"))
    with pytest.raises(NoSequence, match="PID: there is none"):
        patient_and_visit(IHE_251[:1] + IHE_251[2:])
    with pytest.raises(NoSequence, match="ORC: there is none"):
        orders(IHE_251[:3])


def test_control_code_may_be_missing_where_the_profile_says_so() -> None:
    without = changed(HISPRO, "ORC|NW|", "ORC||")

    assert orders(without, "hispro")[0][0].control == "NW"
    with pytest.raises(MissingValue, match="ORC-1 is required"):
        orders(without, profile.changed(GENERIC, {"without_control": ""}))


def test_senders_own_control_codes_are_ours() -> None:
    spoken = profile.changed(GENERIC, {"control": {"HUY": "CA"}})

    assert orders(changed(HISPRO, "ORC|NW|", "ORC|huy|"), spoken)[0][0].control == "CA"


@pytest.mark.parametrize(
    ("sent", "modality", "notes"),
    [
        ("CT", "CT", []),
        ("MRI", "MR", []),
        ("xq", "DX", []),
        ("", "DX", []),
        ("X quang", "DX", ["OBR-24 passed over: not a modality"]),
        ("SIÊUÂM", "DX", ["OBR-24 passed over: not a modality"]),
    ],
)
def test_modality_is_the_senders_word_or_the_procedures(
    sent: str, modality: str, notes: list[str]
) -> None:
    [order], told = orders(changed(HISPRO, "||||DX", f"||||{sent}"), "hispro")

    assert (order.steps[0].modality, told) == (modality, notes)


def test_room_gives_modality_and_station() -> None:
    rooms = profile.changed(
        GENERIC, {"modality_of_location": {"PSADT": "US"}, "stations": {"PSADT": "SA_01"}}
    )
    segments = (
        *INFOMED[:4],
        "ORC|NW|5|||SC|N|||||||||||PSADT^Phòng siêu âm",
        "OBR|1|5||99^Không rõ",
    )

    [order], _ = orders(segments, rooms)

    step = order.steps[0]
    assert (step.modality, step.scheduled_station_ae_title) == ("US", "SA_01")


def test_order_without_any_modality_is_an_order() -> None:
    [order], _ = orders((*INFOMED[:4], "ORC|NW|5", "OBR|1|5||99^Không rõ"))

    assert order.steps[0].modality == ""


def test_accession_of_more_than_16_characters_is_passed_over() -> None:
    [order], notes = orders(changed(IHE_231, "|A4711|", "|A12345678901234567|"))

    assert order.accession_number == ""
    assert notes == ["accession number of more than 16 characters passed over"]


def test_study_uid_that_is_none_is_passed_over() -> None:
    [order], notes = orders(changed(IHE_231, "ZDS|1.2.826", "ZDS|1.2.x"))

    assert order.study_instance_uid == ""
    assert notes == ["ZDS-1 passed over: not a UID"]


def test_time_that_cannot_be_read_is_passed_over_for_the_next() -> None:
    [order], notes = orders(
        changed(IHE_231, "SC||^^^20260401093000^^S", "SC||^^^soon^^S"), "ihe-2.3.1"
    )

    assert order.steps[0].start == datetime(2026, 4, 1, 9, 30)
    assert notes == ["ORC-7 passed over: not YYYYMMDD[HHMM[SS]]"]


def test_null_deletes_and_nothing_leaves() -> None:
    segments = (IHE_231[0], 'PID|||7||""||""|""|||""||""', 'PV1||""')

    patient, visit, notes = patient_and_visit(segments)

    assert patient.patient_name == patient.patient_sex == patient.patient_address == ""
    assert (patient.patient_birth_date, patient.patient_birth_date_sent) == (None, "")
    assert patient.patient_telephone == ""
    assert patient.mother_name is None
    assert visit.patient_class == ""
    assert notes == []


def test_number_of_the_hospital_comes_before_the_cards() -> None:
    segments = (IHE_231[0], "PID|||DN468^^^BHYT^HC~7^^^BV^PI~068^^^CCCD^NI||A")

    patient, _, _ = patient_and_visit(segments)

    assert patient.identifier == Identifier("7", "BV", "PI")
    assert [one.kind for one in patient.other_identifiers] == ["HC", "NI"]


def test_pregnancy_is_read_from_the_visit() -> None:
    _, visit, _ = patient_and_visit((*IHE_251[:2], "PV1||O|||||||||||||B6"))

    assert visit.pregnant


def test_merge_has_a_pair_for_each_patient() -> None:
    read = message.read(
        "\r".join(
            [
                "MSH|^~\\&|HIS|BV|||20260401||ADT^A40^ADT_A39|M1|P|2.5.1",
                *("PID|||1^^^BV", "MRG|TN-1^^^BV"),
                *("PID|||2^^^BV", "MRG|TN-2"),
            ]
        ).encode()
    )

    assert inbound.merges(read, GENERIC, VIETNAM) == [
        MergeRequest(PatientRequest(identifier=Identifier("1", "BV")), Identifier("TN-1", "BV")),
        MergeRequest(PatientRequest(identifier=Identifier("2", "BV")), Identifier("TN-2")),
    ]


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        (["PID|||1"], "MRG-1.1 is required"),
        (["PID|||1", "MRG"], "MRG-1.1 is required"),
        (["PID|||", "MRG|2"], "PID-3.1 is required"),
        (["MRG|2"], "PID: there is none"),
    ],
    ids=["no MRG", "empty MRG", "no survivor", "no PID"],
)
def test_merge_without_two_patients_is_refused(segments: list[str], text: str) -> None:
    head = "MSH|^~\\&|HIS|BV|||20260401||ADT^A40|M1|P|2.5.1"
    read = message.read("\r".join([head, *segments]).encode())

    with pytest.raises((MissingValue, NoSequence), match=text):
        inbound.merges(read, GENERIC, VIETNAM)


def test_link_has_two_patients() -> None:
    head = "MSH|^~\\&|HIS|BV|||20260401||ADT^A24|M1|P|2.5.1"
    two = message.read("\r".join([head, "PID|||1", "PID|||2"]).encode())
    one = message.read("\r".join([head, "PID|||1"]).encode())

    assert inbound.linked(two, GENERIC, VIETNAM) == (Identifier("1"), Identifier("2"))
    with pytest.raises(NoSequence, match="two are wanted"):
        inbound.linked(one, GENERIC, VIETNAM)


def test_appointment_says_when_and_where() -> None:
    segments = [
        "MSH|^~\\&|HIS|BV|||20260401||SIU^S12|A1|P|2.5.1",
        segment("SCH", {1: "AP1", 2: "FA1", 11: "^^^20260402083000", 26: "4711", 27: "F11"}),
        "PID|||1",
        "RGS|1",
        "AIS|1||71020|20260402090000",
        "AIL|1||PXQ1",
    ]
    rooms = profile.changed(GENERIC, {"stations": {"PXQ1": "XQ_01"}})
    read = inbound.reader(message.read("\r".join(segments).encode()), rooms, VIETNAM)

    assert inbound.appointment(read, cancelled=False) == AppointmentRequest(
        cancelled=False,
        placer_order_numbers=("4711", "AP1"),
        filler_order_numbers=("F11", "FA1"),
        start=datetime(2026, 4, 2, 9, 0),
        scheduled_station_ae_title="XQ_01",
        location="PXQ1",
    )


def test_appointment_of_nothing_is_refused() -> None:
    head = "MSH|^~\\&|HIS|BV|||20260401||SIU^S12|A1|P|2.5.1"
    empty = message.read(f"{head}\rSCH|".encode())
    none = message.read(head.encode())

    with pytest.raises(MissingValue, match=r"SCH-1\.1 is required"):
        inbound.appointment(inbound.reader(empty, GENERIC, VIETNAM), cancelled=False)
    with pytest.raises(NoSequence, match="SCH: there is none"):
        inbound.appointment(inbound.reader(none, GENERIC, VIETNAM), cancelled=False)
