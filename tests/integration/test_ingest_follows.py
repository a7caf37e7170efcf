"""The ingest tells the RIS of the studies that got objects, so that somebody looks after them."""

from dataclasses import dataclass

import pytest
from sqlalchemy import select

from pacs.ingest import Ingest
from ris.following import Following
from ris.reconcile import Standing
from ris.study_tables import StudyRow
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.orders import place
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.server import DicomServer
from tests.fixtures.spooled import await_packs

STUDY = "2.25.4711"


@dataclass(frozen=True)
class Seen:
    watched: bool
    standing: str


def send(server: DicomServer) -> None:
    image = ct_slice(
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=f"{STUDY}.1",
        SOPInstanceUID=f"{STUDY}.1.1",
        PatientName="NGUYEN^VAN AN",
        PatientID="BN-1",
        PatientBirthDate="19600302",
    )
    with RawPeer(server.port) as peer:
        peer.associate()
        answer = peer.store(store_request(image.SOPInstanceUID), encode(image))
    assert answer.status == 0
    await_packs(server.spool)


def seen(server: DicomServer) -> list[Seen]:
    with transaction(server.engine) as session:
        rows = session.scalars(select(StudyRow)).all()
        return [Seen(row.watched, row.standing) for row in rows]


def test_received_study_is_looked_after_and_meets_its_order(dicom_server: DicomServer) -> None:
    with transaction(dicom_server.engine) as session:
        place(session, procedure={"study_instance_uid": STUDY})
    send(dicom_server)

    dicom_server.ingest()
    before = seen(dicom_server)
    Following(dicom_server.engine, dicom_server.settings.zone).run_once()

    assert before == [Seen(watched=True, standing="")]
    assert seen(dicom_server) == [Seen(watched=True, standing=Standing.ATTACHED)]


@pytest.mark.parametrize("follow", [True, False])
def test_imported_study_waits_for_no_order(dicom_server: DicomServer, *, follow: bool) -> None:
    send(dicom_server)
    ingest = Ingest(dicom_server.engine, dicom_server.store, dicom_server.spool, follow=follow)

    assert ingest.run_once() == 1

    assert bool(seen(dicom_server)) is follow
