"""Every message of the shared set goes through the real listener, in a process of its own.

What is expected is read from the bytes by a few lines here that share nothing with the product:
which message types are taken (deploy/docs/conformance/hl7.md), how an acknowledgement must look
(HL7 v2.5.1 2.9.2), and what MANIFEST.tsv says of each synthetic message.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, func, select

from ris import orders, worklist
from ris.hl7 import ledger, senders
from ris.hl7.ledger import Entry, State
from ris.hl7.senders import Sender
from ris.model import Order, Patient
from ris.tables import IdentifierRow, OrderRow, PatientRow, StepRow, VisitRow
from storage.db.engine import Engine, create, transaction
from tests.fixtures.database import temporary_database
from tests.fixtures.his import ZONE, patients
from tests.fixtures.hl7_role import Hl7Role
from tests.fixtures.http import HttpNode
from tests.fixtures.mllp import MllpPeer

SHARED = Path(__file__).parents[3] / "shared" / "data" / "hl7"
SYNTHETIC = SHARED / "vietnam-synthetic"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared HL7 messages are not there"),
]

SENDERS = (
    Sender("infomed-a", "infomed", application="HIS", facility="INFOMED"),
    Sender("infomed-b", "infomed", application="HIS", facility="0"),
    Sender("hispro", "hispro", application="HIS", facility="01829"),
)

ADMISSIONS = {*(f"A{number:02}" for number in range(1, 17)), "A25", "A26", "A27", "A28", "A31"}
MERGES = {"A40", "A47"}
TAKEN = {
    "ADT": ADMISSIONS | MERGES,
    "ORM": {"O01"},
    "OMG": {"O19"},
    "OMI": {"O23"},
    "SIU": {"S12", "S13", "S14", "S15"},
}
"""Message code → the events that are taken, of those in the set."""

MENDED_BY_A_PERSON = {
    "ansforge+interop-ig-hl7v2-teleradiologie/acquittement_430_ORM-O01.hl7": "100",  # no PID
    "microsoft+FHIR-Converter/ADT-A47-02.hl7": "205",  # its second number is taken
}
"""File → the code of the AE that it gets."""
INLINE = "LinuxForHealth+hl7v2-fhir-converter/inline"
NO_REPORTS = {
    f"{INLINE}/ORU-R01_FHIRConverterTest_329.hl7": "101",  # no patient id
    f"{INLINE}/ORU-R01_Hl7MessageTest_401.hl7": "100",  # no OBR
    f"{INLINE}/ORU-R01_Hl7MessageTest_454.hl7": "100",
    f"{INLINE}/ORU-R01_Hl7MessageTest_484.hl7": "100",
    f"{INLINE}/ORU-R01_Hl7MessageTest_515.hl7": "100",
    "ansforge+interop-ig-hl7v2-teleradiologie/exemples_55_ORU-R01.hl7": "101",  # no text, no PDF
    "johnpaulett+python-hl7/rep_sample_hl7.hl7": "100",
    "johnpaulett+python-hl7/sample_hl7.hl7": "101",  # of a laboratory
    "microsoft+FHIR-Converter/ORU-R01-RMGEAD.hl7": "101",
}
"""ORU^R01 that cannot be a report of an examination."""
REPORT = "vietnam-synthetic/04_ORU-R01_base64-html-in-TX_charset-UTF-8.hl7"
"""The only ORU^R01 of an order that the set has."""
NO_MESSAGE = {
    "johnpaulett+python-hl7/sample_bad_batch.hl7",
    "johnpaulett+python-hl7/sample_bad_file.hl7",
    "johnpaulett+python-hl7/sample_bad_file3.hl7",
    "vietnam-synthetic/23_HISPRO_api_envelope_ORU.json",
}
"""There is no MSH in them."""


@dataclass(frozen=True)
class Sent:
    """One message of a file, as the test reads it, and the acknowledgement that it got."""

    name: str
    raw: bytes
    answer: bytes

    def field(self, number: int) -> bytes:
        """Return a field of MSH, counted as HL7 does."""
        line = re.split(rb"[\r\n]|\\r\\n", self.raw.removeprefix(b"\xef\xbb\xbf"))[0]
        fields = line.split(line[3:4])
        return fields[number - 1] if number <= len(fields) else b""

    @property
    def kind(self) -> tuple[str, str]:
        code, _, event = self.field(9).decode().partition("^")
        return code, event.partition("^")[0]

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """What makes two messages the same: all but MSH-7."""
        separator = self.raw[3:4]
        fields = re.split(rb"[\r\n]", self.raw)[0].split(separator)
        rest = self.raw[len(separator.join(fields)) :]
        return separator.join(fields[:6] + fields[7:]), rest.rstrip()

    def expected(self) -> tuple[str, str]:
        """Return MSA-1 and the code of ERR-3."""
        code, event = self.kind
        if self.field(11).partition(b"^")[0] not in (b"P", b""):
            return "AR", "202"
        if self.name in MENDED_BY_A_PERSON:
            return "AE", MENDED_BY_A_PERSON[self.name]
        if code == "ORU":
            known = self.name == REPORT
            return ("AA", "") if known else ("AE", NO_REPORTS.get(self.name, "204"))
        if code not in TAKEN:
            return "AR", "200"
        return ("AA", "") if event in TAKEN[code] else ("AR", "201")


@dataclass(frozen=True)
class Run:
    """The role, its database, and what was sent to it."""

    role: Hl7Role
    engine: Engine
    sent: list[Sent]
    refused: dict[str, bytes]
    """File without a message → its answer."""

    def entries(self) -> list[Entry]:
        with transaction(self.engine) as session:
            return list(reversed(ledger.search(session, ledger.Search(), 10_000)))

    def census(self) -> list[int]:
        """Count patients, identifiers, visits, orders and steps."""
        tables = (PatientRow, IdentifierRow, VisitRow, OrderRow, StepRow)
        with transaction(self.engine) as session:
            return [session.scalar(select(func.count()).select_from(one)) or 0 for one in tables]

    def orders(self, number: str) -> list[Order]:
        with transaction(self.engine) as session:
            return list(orders.find_by_placer_number(session, number))

    def patient(self, number: str) -> Patient:
        """Return who is shown for a number."""
        with transaction(self.engine) as session:
            wanted = select(IdentifierRow.patient_ref).where(
                IdentifierRow.value == number, IdentifierRow.identifies
            )
            found = patients.get(session, session.scalars(wanted).one())
            return patients.get(session, found.root)

    def worklist(self, **keys: str) -> list[dict[str, object]]:
        with transaction(self.engine) as session:
            query = worklist.Query(keys)
            return [dict(one) for one in worklist.find_steps(session, query, 100, ZONE)]


def files() -> list[str]:
    """List the set in the order of its manifest."""
    with (SHARED / "MANIFEST.tsv").open(encoding="utf-8") as table:
        return [row["file"] for row in csv.DictReader(table, delimiter="\t")]


def messages_in(octets: bytes) -> list[bytes]:
    """Return the whole of what holds one message; else each from its MSH on, without its batch."""
    begins = rb"(?:(?<=^)|(?<=[\r\n]))"
    starts = len(re.findall(begins + rb"\xef?\xbb?\xbf?MSH\|", octets))
    if starts == 1 and not octets.startswith((b"FHS", b"BHS")):
        return [octets]
    parts = re.split(begins + rb"(?=MSH\|)", octets)
    envelope = re.compile(begins + rb"(?:FHS|BHS|BTS|FTS)[^\r\n]*[\r\n]*")
    return [envelope.sub(b"", part) for part in parts if part.startswith(b"MSH")]


def answers_in(octets: bytes) -> list[bytes]:
    """Cut an answer before each MSH."""
    return re.split(rb"(?<=\r)(?=MSH\||BHS\||FHS\|)", octets)


def send_everything(port: int) -> tuple[list[Sent], dict[str, bytes]]:
    """Send each file in one frame of one connection, and those that are frames as they are."""
    sent, refused = [], {}
    with MllpPeer(port) as peer:
        for name in files():
            octets = (SHARED / name).read_bytes()
            if name.endswith(".mllp"):
                continue
            answer = peer.ask(octets)
            parts = messages_in(octets)
            if not parts:
                refused[name] = answer
                continue
            told = [one for one in answers_in(answer) if one.startswith(b"MSH")]
            assert len(told) == len(parts), name
            sent += [Sent(name, part, one) for part, one in zip(parts, told, strict=True)]
    return sent, refused


@pytest.fixture(scope="module")
def role(
    tmp_path_factory: pytest.TempPathFactory,
    database_server: URL,
    empty_database_template: URL,
) -> Iterator[tuple[Hl7Role, Engine]]:
    with temporary_database(database_server, str(empty_database_template.database)) as url:
        engine = create(url)
        with transaction(engine) as session:
            for one in SENDERS:
                senders.add(session, one)
        role = Hl7Role(tmp_path_factory.mktemp("hl7-set"), url)
        role.start()
        try:
            yield role, engine
        finally:
            role.stop()
            engine.dispose()


@pytest.fixture(scope="module")
def run(role: tuple[Hl7Role, Engine]) -> Run:
    return Run(*role, *send_everything(role[0].port))


def segments(answer: bytes) -> dict[bytes, list[bytes]]:
    return {line[:3]: line.split(b"|") for line in answer.split(b"\r") if line}


def test_every_message_gets_the_answer_that_it_must_get(run: Run) -> None:
    wrong = []
    for one in run.sent:
        found = segments(one.answer)
        error = found[b"ERR"][3 if len(found[b"ERR"]) > 2 else 1] if b"ERR" in found else b""
        code = re.search(rb"(?:^|\^)(\d{3})(?:\^|$)", error)
        told = found[b"MSA"][1].decode(), code[1].decode() if code else ""
        if told != one.expected():
            wrong.append((one.name, told, one.expected()))

    assert wrong == []
    assert len(run.sent) > 185


def test_every_answer_goes_back_in_the_senders_words(run: Run) -> None:
    for one in run.sent:
        found = segments(one.answer)
        header, version = [b"MSH", *found[b"MSH"]], one.field(12).partition(b"^")[0]
        assert found[b"MSA"][2] == one.field(10), one.name  # byte by byte
        assert header[5:7] == [one.field(3), one.field(4)], one.name
        assert header[3] == one.field(5) or header[3] == b"LIENTHONG", one.name
        assert header[4] == one.field(6), one.name
        assert header[12] == one.field(12) or not version, one.name
        assert header[9].startswith(b"ACK"), one.name
        assert header[10] not in {b"", one.field(10)}, one.name
        assert (b"^" in header[9]) == (version >= b"2.3.1" and b"^" in one.field(9)), one.name
        assert found[b"MSA"][1] == b"AA" or b"ERR" in found, one.name


def test_what_is_no_message_is_rejected_and_kept(run: Run) -> None:
    kept = [one.raw for one in run.entries() if one.reason.startswith("100 ") and not one.kind]

    assert run.refused.keys() == NO_MESSAGE
    for name, answer in run.refused.items():
        assert b"\rMSA|AR|" in answer
        assert b"100^Segment sequence error" in answer
        assert (SHARED / name).read_bytes() in kept


def test_every_message_is_kept_byte_by_byte(run: Run) -> None:
    kept = {one.raw for one in run.entries()}
    first = {one.identity: one for one in reversed(run.sent)}

    assert [one.name for one in first.values() if one.raw not in kept] == []
    assert len(first) > 170


def test_every_message_is_settled_and_none_met_a_defect(run: Run) -> None:
    entries = run.entries()

    assert {one.state for one in entries} <= {State.APPLIED, State.REFUSED, State.DEAD}
    assert run.role.alive()
    events = {json.loads(line)["event"] for line in run.role.events()}
    assert not events & {"hl7_defect", "hl7_verb_failed", "hl7_connection_failed", "hl7_not_now"}
    assert not any("NGUY" in line or "trace" in json.loads(line) for line in run.role.events())


def test_whole_set_once_more_gets_the_same_answers_and_does_nothing(run: Run) -> None:
    before, census = sum(one.repeats for one in run.entries()), run.census()

    again, _ = send_everything(run.role.port)

    assert [one.answer for one in again] == [one.answer for one in run.sent]
    assert run.census() == census
    assert sum(one.repeats for one in run.entries()) - before == len(run.sent)


# What the manifest says of the synthetic ones


def told(name: str) -> bytes:
    """Return a synthetic message by the number that its file begins with."""
    [path] = SYNTHETIC.glob(f"{name}_*")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "charset", "patient_name"),
    [
        ("09", "utf-8", "NGUYỄN^THỊ ĐIỂM"),
        ("10", "utf-8", "NGUYỄN^THỊ ĐIỂM"),
        ("11", "utf-8", "NGUYỄN^THỊ ĐIỂM"),
        ("12", "windows-1258", "NGUYỄN^THỊ ĐIỂM"),
        ("13", "TCVN3", "Nguyễn^Thị Điểm"),
        ("14", "utf-8", "NGUYỄN^THỊ ĐIỂM"),
        ("15", "ascii", "NGUYEN^THI DIEM"),
        ("16", "utf-8", "NGUYỄN^THỊ ĐIỂM"),
    ],
)
def test_name_is_read_whatever_it_is_written_in(
    run: Run, name: str, charset: str, patient_name: str
) -> None:
    """The same bytes, under a patient and an order of their own."""
    number = f"88{name}"
    octets = told(name).replace(b"99002^^^BV", number.encode() + b"^^^BV")
    octets = octets.replace(b"900002", number.encode())

    with MllpPeer(run.role.port) as peer:
        assert segments(peer.ask(octets))[b"MSA"][1] == b"AA"

    assert run.patient(number).patient_name == patient_name
    assert run.entries()[-1].charset == charset


def test_one_control_id_on_many_bodies_is_many_messages(run: Run) -> None:
    """09 to 16 all call themselves CS1: one order, told eight times."""
    entries = [one for one in run.entries() if one.control_id == "CS1" and b"|900002^" in one.raw]

    assert [one.raw for one in entries[:8]] == [told(f"{number:02}") for number in range(9, 17)]
    assert len(run.orders("900002")) == 1
    assert [one.outcome for one in entries[:8]] == ["created", *["unchanged"] * 6, "changed"]
    reused = [line for line in run.role.events() if "hl7_control_id_reused" in line]
    assert sum('"message_control_id": "CS1"' in line for line in reused) >= 7


def test_escapes_and_a_bare_ampersand_are_read_as_they_are_meant(run: Run) -> None:
    [order] = run.orders("900002")

    with transaction(run.engine) as session:
        [procedure] = orders.procedures_of(session, order.id)

    assert "X-quang tim & phổi thẳng & nghiêng | 2 tư thế" in procedure.description
    assert procedure.description.endswith("ghi chú Đ")
    assert procedure.study_instance_uid == "1.2.826.0.1.3680043.10.543.900002"


def test_outpatient_of_infomed_is_scheduled(run: Run) -> None:
    [order] = run.orders("311371289")
    [entry] = run.worklist(AccessionNumber="311371289")

    assert run.patient("9900192").patient_name == "TRẦN THỊ THỬ NGHIỆM"
    assert order.accession_number == "311371289"
    assert entry["PatientID"] == "9900192"


def test_two_lines_of_one_order_are_two_orders_of_their_modality(run: Run) -> None:
    found = {one.accession_number: one for one in run.orders("139905")}

    assert found.keys() == {"139905", "1399099"}
    with transaction(run.engine) as session:
        modalities = {
            number: [step.modality for step in orders.steps_of(session, one.id)]
            for number, one in found.items()
        }
    assert modalities == {"139905": ["DX"], "1399099": ["US"]}


def test_cancellation_of_an_order_never_seen_is_remembered(run: Run) -> None:
    [order] = run.orders("139987")

    assert order.awaited is True
    assert order.state.value == "CANCELED"


@pytest.mark.parametrize(
    ("patient", "name", "sex"),
    [
        ("0000123456", "LÊ VĂN BÉ", "M"),
        ("0000123457", "NGUYỄN THỊ BÌNH AN", "F"),
    ],
    ids=["5TH cut off", "corrected by A08"],
)
def test_child_of_hispro_is_named_without_its_age(
    run: Run, patient: str, name: str, sex: str
) -> None:
    found = run.patient(patient)

    assert (found.patient_name, found.patient_sex) == (name, sex)
    [entry] = run.worklist(PatientID=patient)
    assert (entry["PatientName"], entry["PatientSex"]) == (name, sex)


def test_segments_joined_by_four_characters_are_parted(run: Run) -> None:
    assert run.patient("99001").patient_name == "^Nguyễn Văn Thử"
    assert [one.placer_order_number for one in run.orders("1")] == ["1"]


def test_unknown_patient_is_merged_into_the_one_with_three_numbers(run: Run) -> None:
    survivor = run.patient("0000200001")

    assert survivor.patient_name == "PHẠM^VĂN THỬ"
    assert run.patient("TN-20260401-0007").id == survivor.id
    others = {(one.value, one.issuer) for one in survivor.identifiers}
    assert {("DN4689900000004", "BHYT"), ("068099000001", "CCCD")} <= others


def test_two_orders_of_one_study_are_a_group(run: Run) -> None:
    found = [*run.orders("500001"), *run.orders("500002")]

    with transaction(run.engine) as session:
        studies = [
            one.study_instance_uid
            for order in found
            for one in orders.procedures_of(session, order.id)
        ]
    assert studies == ["1.2.826.0.1.3680043.10.543.500000"] * 2
    assert {one.group_number for one in found} == {"500000"}


def test_change_that_comes_before_its_order_makes_it(run: Run) -> None:
    [order] = run.orders("600001")

    assert order.state.value == "SCHEDULED"


def frames() -> dict[str, list[str]]:
    """Return the files that are frames: the control ids that are answered."""
    return {"17": ["CS1", "CS2"], "18": ["CS1"], "19": ["CS1"]}


@pytest.mark.parametrize("name", ["17", "18", "19"])
@pytest.mark.parametrize("step", [1, 7, 4096], ids=["byte by byte", "by sevens", "at once"])
def test_frames_are_read_in_any_pieces(run: Run, name: str, step: int) -> None:
    octets = told(name)
    messages = [one.strip(b"\x1c\r\n") + b"\r" for one in octets.split(b"\x0b")[1:]]

    with MllpPeer(run.role.port) as peer:
        for at in range(0, len(octets), step):
            peer.send(octets[at : at + step])
        answers = [peer.receive() for _ in messages]
        assert segments(peer.ask(told("15")))[b"MSA"][1] == b"AA"  # the connection is good still

    assert [segments(one)[b"MSA"][1:3] for one in answers] == [
        [b"AA", number.encode()] for number in frames()[name]
    ]
    kept = {one.raw for one in run.entries()}
    assert set(messages) <= kept


def test_envelope_of_hispro_is_answered_in_an_envelope(http_node: HttpNode) -> None:
    """The order of the result is not known; the answer says so, in its envelope."""
    answer = http_node.client().post(
        "/api/v1/hl7", content=told("23"), headers={"Content-Type": "application/json"}
    )

    message = json.loads(told("23"))["message"].encode()
    found = segments(answer.json()["message"].encode())
    assert found[b"MSA"][1:3] == [b"AE", b"9001"]
    assert found[b"ERR"][1] == b"OBR^1^2^204"
    with transaction(http_node.engine) as session:
        [entry] = ledger.search(session, ledger.Search(), 10)
    assert (entry.raw, entry.wire) == (message, "http")
