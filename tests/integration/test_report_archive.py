"""What becomes of a signed report: its paper, and objects in the study that others accept."""

import re
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from pacs import illustrating, part10
from pacs.rejecting import KEY_OBJECT_SELECTION
from pacs.report_objects import BASIC_TEXT_SR, ENCAPSULATED_PDF
from pacs.reporting import Reporting
from ris.reports import documents, key_images, practitioners
from ris.reports.key_images import KeyImage
from ris.reports.model import Report
from ris.reports.paper.model import Letterhead
from ris.reports.signing.csc import CscProvider
from ris.reports.signing.local import LocalSigner
from ris.reports.signing.remote import RemoteSigner
from ris.reports.states import Action
from storage.archive import instances, search
from storage.archive.instances import Scope
from storage.archive.model import Level, Query, StoredInstance
from storage.db.engine import transaction
from storage.jobs import queue
from storage.jobs.queue import State
from storage.jobs.runner import Runner
from tests.fixtures import programs
from tests.fixtures.csc_server import TOKEN, signing_service
from tests.fixtures.dicom3tools import errors_of
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode
from tests.fixtures.papers import is_marked, text_of
from tests.fixtures.reports import HEAD, OTHER_HEAD, READER, TEXT, Desk

A = Action


class Archive:
    """A node whose jobs and ingest run when a test says so."""

    def __init__(self, node: HttpNode) -> None:
        self.node = node
        self.desk = Desk(node.engine)
        self.slice = ct_slice(PatientName="NGUYỄN^VĂN AN", PatientID="BN1", StudyID="S1")
        self.study = str(self.slice.StudyInstanceUID)
        node.put(self.slice)
        self.reporting = Reporting(
            node.settings,
            node.engine,
            node.store,
            node.spool,
            LocalSigner(node.settings.secrets_dir),
        )

    def work(self) -> None:
        runner = Runner(self.node.engine, self.reporting.handlers())
        while runner.run_once():
            pass
        self.node.ingest()

    def open_jobs(self) -> list[queue.Job]:
        with transaction(self.node.engine) as session:
            return [*queue.list_open(session)]

    def signed(self, **values: object) -> Report:
        return self.desk.signed(study_instance_uids=(self.study,), **values)

    def stored(self, sop_class_uid: str, scope: Scope = Scope.SHOWN) -> list[StoredInstance]:
        with transaction(self.node.engine) as session:
            keys = {"StudyInstanceUID": self.study}
            found = instances.locate(session, keys, scope)
        return [one for one in found if one.sop_class_uid == sop_class_uid]

    def objects(self, sop_class_uid: str) -> list[Dataset]:
        return [dcmread(BytesIO(self.file(one))) for one in self.stored(sop_class_uid)]

    def file(self, one: StoredInstance) -> bytes:
        content = self.node.store.read(one.object_key, one.dataset_offset, one.dataset_size)
        uids = one.sop_class_uid, one.sop_instance_uid
        return part10.head(*uids, ExplicitVRLittleEndian) + content


@pytest.fixture
def archive(http_node: HttpNode) -> Archive:
    return Archive(http_node)


def test_signed_report_is_a_paper_and_two_objects_of_its_study(archive: Archive) -> None:
    report = archive.signed()

    archive.work()

    assert archive.open_jobs() == []
    [pdf] = archive.objects(ENCAPSULATED_PDF)
    [sr] = archive.objects(BASIC_TEXT_SR)
    with transaction(archive.node.engine) as session:
        document = documents.find(session, report.uid, report.revision)
    assert document is not None
    paper = archive.node.store.read(document.object_key)
    assert pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength] == paper
    assert document.evidence.method == "local"
    for one in (pdf, sr):
        assert one.SpecificCharacterSet == "ISO_IR 192"
        assert one.StudyInstanceUID == archive.study
        assert str(one.PatientName) == "NGUYỄN^VĂN AN"
        assert one.VerificationFlag == "VERIFIED"
    assert sr.CompletionFlag == "COMPLETE"
    assert sr.VerifyingObserverSequence[0].VerifyingObserverName == HEAD.name
    told = {
        section.ConceptNameCodeSequence[0].CodeValue: section.ContentSequence[0].TextValue
        for section in sr.ContentSequence
        if section.ValueType == "CONTAINER"
    }
    assert told["121070"] == TEXT.findings.replace("\n", "\r\n")
    assert told["121072"] == TEXT.impression
    [evidence] = sr.CurrentRequestedProcedureEvidenceSequence
    [named] = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == archive.slice.SOPInstanceUID


def test_objects_are_what_the_standard_says(archive: Archive, tmp_path: Path) -> None:
    order = archive.desk.order(archive.desk.patient(), "A77", study=archive.study)
    with transaction(archive.node.engine) as session:
        documents.put_letterhead(session, Letterhead(hospital="BỆNH VIỆN ĐA KHOA TỈNH"))
    report = archive.signed(order_ids=(order,))
    report = archive.desk.act(A.CORRECT, report, HEAD, reason="x", content=TEXT)
    report = archive.desk.act(A.ADDEND, report, HEAD, addendum="Đã hội chẩn.")
    report = archive.desk.act(A.REQUEST_RETRACTION, report, READER, reason="x")
    archive.work()
    archive.desk.act(A.RETRACT, report, OTHER_HEAD)
    archive.work()

    for sop_class, count in (
        (ENCAPSULATED_PDF, 3),
        (BASIC_TEXT_SR, 3),
        (KEY_OBJECT_SELECTION, 1),
    ):
        found = archive.stored(sop_class, Scope.KEPT)
        assert len(found) == count
        assert archive.stored(sop_class) == [], "a note rejects the documents of the report"
        for one in found:
            assert errors_of(archive.file(one), tmp_path) == []


def test_document_that_comes_after_its_retraction_is_hidden(archive: Archive) -> None:
    report = archive.signed()
    report = archive.desk.act(A.REQUEST_RETRACTION, report, READER, reason="x")
    retracted = archive.desk.act(A.RETRACT, report, OTHER_HEAD)

    archive.reporting.reject_report(retracted.uid, retracted.revision)
    archive.node.ingest()
    archive.work()

    for sop_class in (ENCAPSULATED_PDF, BASIC_TEXT_SR):
        assert len(archive.stored(sop_class, Scope.KEPT)) == 1
        assert archive.stored(sop_class) == []


def test_structured_text_can_be_read_by_dcmtk(archive: Archive, tmp_path: Path) -> None:
    if not programs.find("dsrdump"):
        pytest.skip("LEFT OUT: DCMTK is not installed")
    archive.signed()
    archive.work()
    path = tmp_path / "sr.dcm"
    path.write_bytes(archive.file(archive.stored(BASIC_TEXT_SR)[0]))

    command = [programs.need("dsrdump"), "+U8", "+Pl", "-Ei", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Hiện không thấy tổn thương" in done.stdout


def test_correction_names_the_document_before_it(archive: Archive) -> None:
    report = archive.signed()
    report = archive.desk.act(A.UNAPPROVE, report, HEAD, reason="Nhầm bên")
    archive.desk.act(
        A.CORRECT, report, HEAD, reason="Nhầm bên", content=replace(TEXT, findings="Trái.")
    )
    archive.work()

    by_number = {int(one.SeriesNumber): one for one in archive.objects(BASIC_TEXT_SR)}

    [before] = by_number[9003].PredecessorDocumentsSequence
    named = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == by_number[9001].SOPInstanceUID


def test_job_that_runs_twice_adds_nothing(archive: Archive) -> None:
    report = archive.signed()
    archive.work()

    archive.reporting.document_report(report.uid, report.revision)
    archive.node.ingest()

    assert len(archive.stored(ENCAPSULATED_PDF)) == len(archive.stored(BASIC_TEXT_SR)) == 1
    with transaction(archive.node.engine) as session:
        studies = search.find(session, Query(Level.STUDY), limit=9).matches
    assert studies[0]["NumberOfStudyRelatedInstances"] == 3
    held = archive.node.client().get("/api/v1/quarantine").json()
    assert held == []


def test_signing_service_that_is_away_stops_nobody_from_reading(archive: Archive) -> None:
    with signing_service() as service:
        service.enrol("key-1", HEAD.name)
        provider = CscProvider(service.url(), TOKEN, "Test CSC")
        signer = RemoteSigner(provider)
        archive.reporting = replace(archive.reporting, signer=signer)
        service.refuses["signatures/signHash"] = (503, b"")
        _give_credential(archive, "key-1")
        report = archive.signed()

        archive.work()

        [job] = archive.open_jobs()
        assert (job.state, job.name) == (State.WAITING, "pacs.document_report")
        waiting = archive.node.client().get(f"/api/v1/reports/{report.uid}/pdf")
        assert is_marked(waiting.content)
        assert TEXT.impression in text_of(waiting.content)

        service.refuses.clear()
        with transaction(archive.node.engine) as session:
            queue.retry(session, job.id)
        archive.work()

    paper = archive.node.client().get(f"/api/v1/reports/{report.uid}/pdf").content
    assert "Đã ký số qua Test CSC" in text_of(paper)
    [signature] = archive.node.client().get(f"/api/v1/reports/{report.uid}/signatures").json()
    assert (signature["method"], signature["qualified"]) == ("Test CSC", True)


def _give_credential(archive: Archive, credential: str) -> None:
    with transaction(archive.node.engine) as session:
        practitioners.put(session, HEAD, credential=credential)


def test_signer_without_a_credential_is_parked_for_a_person(archive: Archive) -> None:
    with signing_service() as service:
        signer = RemoteSigner(CscProvider(service.url(), TOKEN, "Test CSC"))
        archive.reporting = replace(archive.reporting, signer=signer)
        archive.signed()
        archive.work()

    [job] = archive.open_jobs()
    assert job.state is State.PARKED
    assert "no credential" in job.reason


def test_report_of_an_order_without_images_has_a_paper(archive: Archive) -> None:
    order = archive.desk.order(archive.desk.patient(), "A9")
    report = archive.desk.signed(study_instance_uids=(), order_ids=(order,))

    archive.work()

    assert archive.open_jobs() == []
    answer = archive.node.client().get(f"/api/v1/reports/{report.uid}/pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["etag"]
    assert "Phiếu A9" in " ".join(text_of(answer.content).split())


def test_paper_on_the_wire_is_the_one_that_was_signed(archive: Archive) -> None:
    report = archive.signed()
    client = archive.node.client(archive.node.token())
    before = client.get(f"/api/v1/reports/{report.uid}/pdf")
    archive.work()

    after = client.get(f"/api/v1/reports/{report.uid}/pdf")
    again = client.get(f"/api/v1/reports/{report.uid}/pdf?version=1")

    assert is_marked(before.content)
    assert not is_marked(after.content)
    assert "etag" not in before.headers
    assert after.content == again.content
    assert re.search(rb"ETSI.CAdES.detached", after.content)
    assert client.get(f"/api/v1/reports/{report.uid}/pdf?version=2").status_code == 404


def chosen(archive: Archive, *frames: int, label: str = "Tụ máu dưới màng cứng") -> Report:
    """Open a report, choose frames of its image, and sign it."""
    opened = archive.desk.open(study_instance_uids=(archive.study,))
    uid = str(archive.slice.SOPInstanceUID)
    images = [KeyImage(archive.study, uid, frame, label) for frame in frames]
    with transaction(archive.node.engine) as session:
        key_images.put(session, READER, opened.uid, images)
    return archive.desk.act(A.APPROVE, archive.desk.release(opened), HEAD)


def paper_of(archive: Archive, report: Report) -> bytes:
    with transaction(archive.node.engine) as session:
        document = documents.find(session, report.uid, report.revision)
    assert document is not None
    return archive.node.store.read(document.object_key)


def test_key_images_stand_on_a_page_of_their_own(archive: Archive) -> None:
    report = chosen(archive, 1)

    archive.work()

    paper = paper_of(archive, report)
    first, second = text_of(paper).rstrip("\f").split("\f")
    assert "HÌNH ẢNH MINH HOẠ" not in first
    assert "HÌNH ẢNH MINH HOẠ" in second
    assert "Tụ máu dưới màng cứng" in second
    assert b"/DCTDecode" in paper
    assert len(archive.stored(KEY_OBJECT_SELECTION)) == 1


def test_image_that_cannot_be_drawn_keeps_no_paper_away(archive: Archive) -> None:
    report = chosen(archive, 1)
    with transaction(archive.node.engine) as session:
        [stored] = instances.locate(session, {"StudyInstanceUID": archive.study})
    broken = replace(stored, number_of_frames=1, transfer_syntax_uid="1.2.840.10008.1.2.4.100")

    assert [*illustrating.pictures(archive.node.store, [(KeyImage("", ""), broken)])] == []
    archive.work()
    assert paper_of(archive, report)
