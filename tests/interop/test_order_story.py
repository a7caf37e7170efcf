"""One order from the hospital's system to images, and what becomes of them when it errs.

    MLLP order ─ findscu ─ MPPS ─ status by MLLP ─ storescu ─ QIDO, C-FIND, WADO
                                            ADT^A40 and ADT^A37: who is shown, and nothing rewritten

Everything speaks to the server as it is started by its users; nothing here looks inside, but for
the bytes of the objects.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE
from pynetdicom.association import Association

from pacs.scp import models
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.hl7 import acknowledged, order_message
from tests.fixtures.hl7_receiver import Receiver, receiving
from tests.fixtures.mllp import MllpPeer
from tests.fixtures.serving import Serving

pytestmark = [pytest.mark.interop, needs_dcmtk]

ORDER = "7781001"
UNKNOWN = ("VÔ^DANH", "TN-1")
REAL = ("PHẠM^THỊ THẬT", "0001234")
STEP_UID = "1.2.826.0.1.3680043.9.80"
PATIENCE_S = 120.0


@dataclass
class Hospital:
    """The server, the hospital's system on both ends of MLLP, and a web client."""

    server: Serving
    his: Receiver
    client: httpx.Client
    folder: Path

    def tell(self, message: bytes) -> str:
        """Send one message and return MSA-1."""
        with MllpPeer(self.server.hl7_port) as peer:
            return acknowledged(peer.ask(message))[0]

    def worklist(self) -> list[Dataset]:
        """Return what DCMTK finds on the worklist of CT01."""
        return self.find(
            *("-W", "-k", "PatientName", "-k", "PatientID", "-k", "AccessionNumber"),
            *("-k", "StudyInstanceUID", "-k", "RequestedProcedureID"),
            *("-k", "(0040,0100)[0].Modality=CT", "-k", "(0040,0100)[0].(0040,0009)"),
        )

    def find(self, *keys: str) -> list[Dataset]:
        for old in self.folder.glob("rsp*.dcm"):
            old.unlink()
        found = dcmtk("findscu", self.server.dicom_port, *keys, "-X", cwd=self.folder)
        assert found.returncode == 0, found.stderr
        return [dcmread(path, force=True) for path in sorted(self.folder.glob("rsp*.dcm"))]

    def statuses(self) -> list[tuple[str, str]]:
        """Return ORC-2 and ORC-5 of what the hospital's system was told, in its order."""
        return [(field(one, "ORC", 2), field(one, "ORC", 5)) for one in self.his.taken]

    def studies(self, **keys: str) -> list[tuple[str, str, str]]:
        """Return name, number and accession of the studies that QIDO-RS finds."""
        found = self.client.get("/dicom-web/studies", params=keys).raise_for_status()
        matches = found.json() if found.content else []
        return [
            (
                one["00100010"]["Value"][0]["Alphabetic"],
                text(one, "00100020"),
                text(one, "00080050"),
            )
            for one in matches
        ]

    def shown(self, sent: Dataset) -> set[tuple[str, str]]:
        """Return whom C-FIND, WADO-RS and its metadata show an object as."""
        path = (
            f"/dicom-web/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
            f"/instances/{sent.SOPInstanceUID}"
        )
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        given = dcmread(BytesIO(self.client.get(path, headers=accept).raise_for_status().content))
        [header] = self.client.get(f"{path}/metadata").raise_for_status().json()
        [found] = self.find(
            *("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName", "-k", "PatientID"),
            *("-k", f"StudyInstanceUID={sent.StudyInstanceUID}"),
        )
        return {
            (str(given.PatientName), given.PatientID),
            (str(found.PatientName), found.PatientID),
            (header["00100010"]["Value"][0]["Alphabetic"], text(header, "00100020")),
        }

    def holds(self, path: Path) -> bool:
        """Whether the store has the dataset of a file, byte by byte."""
        whole = path.read_bytes()
        dataset = whole[whole.index(b"\x08\x00\x05\x00CS") :]
        kept = Path(self.server.environment["LIENTHONG_DATA_DIR"])
        files = (one for one in kept.rglob("*") if one.is_file() and "postgres" not in one.parts)
        return any(dataset in one.read_bytes() for one in files)


def text(match: dict[str, dict[str, list[str]]], tag: str) -> str:
    return next(iter(match.get(tag, {}).get("Value", [])), "")


def field(message: bytes, name: str, number: int) -> str:
    [fields] = [
        line.split("|") for line in message.decode().split("\r") if line.startswith(f"{name}|")
    ]
    return fields[number]


def until(ask: Callable[[], object], wanted: object) -> None:
    """Wait until it is so."""
    began = time.monotonic()
    while (found := ask()) != wanted:
        assert time.monotonic() - began < PATIENCE_S, found
        time.sleep(0.05)


@pytest.fixture
def hospital(serving: Serving, tmp_path: Path) -> Iterator[Hospital]:
    with receiving() as his, serving.client() as client:
        added = serving.run("hl7", "destination", "add", "his", "127.0.0.1", str(his.port))
        assert added.returncode == 0, added.stderr
        yield Hospital(serving, his, client, tmp_path)


@pytest.fixture
def console(hospital: Hospital) -> Iterator[Association]:
    """A modality that tells of its steps."""
    ae = AE("CT01")
    ae.add_requested_context(models.PERFORMED_STEP)
    association = ae.associate("127.0.0.1", hospital.server.dicom_port, ae_title="ARCHIVE")
    assert association.is_established
    yield association
    association.release()


def begun(entry: Dataset) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = entry.StudyInstanceUID
    item.AccessionNumber = entry.AccessionNumber
    item.RequestedProcedureID = entry.RequestedProcedureID
    item.ScheduledProcedureStepID = entry.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.Modality = "CT"
    step.PatientName, step.PatientID = entry.PatientName, entry.PatientID
    step.PerformedStationAETitle = "CT01"
    step.PerformedProcedureStepID = "P1"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20260301", "0800"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.ScheduledStepAttributesSequence = [item]
    return step


def ended(series: str, *images: Dataset) -> Dataset:
    made = Dataset()
    made.SeriesInstanceUID = series
    made.ProtocolName = "Sọ não"
    made.ReferencedImageSequence = [_reference(one) for one in images]
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.PerformedProcedureStepStatus = "COMPLETED"
    step.PerformedProcedureStepEndDate, step.PerformedProcedureStepEndTime = "20260301", "0810"
    step.PerformedSeriesSequence = [made]
    return step


def _reference(image: Dataset) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = image.SOPClassUID
    made.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return made


def adt(event: str, *segments: str) -> bytes:
    head = f"MSH|^~\\&|HIS|BV|RIS|BV|20260301090000||ADT^{event}|{event}|P|2.5||||||UNICODE UTF-8"
    return "\r".join((head, f"EVN|{event}|20260301090000", *segments, "")).encode()


def slices(entry: Dataset) -> list[Dataset]:
    """Return the images of an entry, by a console that leaves the accession number out."""
    return [
        ct_slice(
            PatientName=UNKNOWN[0],
            PatientID=UNKNOWN[1],
            PatientBirthDate="19800101",
            PatientSex="F",
            StudyInstanceUID=entry.StudyInstanceUID,
            SeriesInstanceUID=f"{STEP_UID}.1",
            SOPInstanceUID=f"{STEP_UID}.1.{number}",
            AccessionNumber="",
        )
        for number in (1, 2)
    ]


def perform(hospital: Hospital, console: Association, entry: Dataset) -> list[Path]:
    """Do what an entry says, as a modality does; return the files of its images."""
    images = slices(entry)
    answer, _ = console.send_n_create(begun(entry), models.PERFORMED_STEP, STEP_UID)
    assert answer.Status == 0
    until(hospital.statuses, [(ORDER, "IP")])
    files = [hospital.folder / f"{number}.dcm" for number, _ in enumerate(images)]
    for path, image in zip(files, images, strict=True):
        path.write_bytes(part10_file(image))
    sent = dcmtk("storescu", hospital.server.dicom_port, *files)
    assert sent.returncode == 0, sent.stderr
    answer, _ = console.send_n_set(ended(f"{STEP_UID}.1", *images), models.PERFORMED_STEP, STEP_UID)
    assert answer.Status == 0
    return files


def test_story_of_an_order(hospital: Hospital, console: Association) -> None:
    # the order of a person whom nobody knows yet
    ordered = order_message(ORDER, patient=UNKNOWN[1], modality="CT", name=UNKNOWN[0])
    assert hospital.tell(ordered) == "AA"
    asked = time.monotonic()
    [entry] = hospital.worklist()
    assert time.monotonic() - asked < 1.0
    assert (str(entry.PatientName), entry.PatientID, entry.AccessionNumber) == (*UNKNOWN, ORDER)

    # performed, and the hospital's system knows; found by the number that the console left out
    files = perform(hospital, console, entry)
    until(hospital.statuses, [(ORDER, status) for status in ("IP", "CM")])
    assert hospital.worklist() == []
    until(lambda: hospital.studies(AccessionNumber=ORDER), [(*UNKNOWN, ORDER)])
    image = dcmread(files[1])
    assert hospital.shown(image) == {UNKNOWN}

    # now it is known who it is: shown everywhere, written nowhere
    identity = f"PID|||{REAL[1]}^^^BV^PI||{REAL[0]}||19800101|F"
    assert hospital.tell(adt("A40", identity, f"MRG|{UNKNOWN[1]}^^^BV^PI")) == "AA"
    until(hospital.studies, [(*REAL, ORDER)])
    until(lambda: hospital.shown(image), {REAL})
    assert hospital.studies(PatientID=UNKNOWN[1]) == []
    assert all(map(hospital.holds, files))

    # and it was a mistake
    unlinked = adt("A37", f"PID|||{REAL[1]}^^^BV^PI||", f"PID|||{UNKNOWN[1]}^^^BV^PI||")
    assert hospital.tell(unlinked) == "AA"
    until(hospital.studies, [(*UNKNOWN, ORDER)])
    until(lambda: hospital.shown(image), {UNKNOWN})
    assert all(map(hospital.holds, files))
