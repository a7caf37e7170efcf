"""No door shows what is rejected: every route of DICOMweb, the pages, FHIR and DIMSE are tried."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from pacs import commitment, service
from pacs.scp.metrics import Metrics
from storage.access import peers
from storage.access.peers import Peer
from storage.archive.commitments import Reference
from storage.archive.rejection_rules import Title
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.http import HttpNode, multipart_body
from tests.fixtures.rejection_notes import KOS, rejection
from tests.fixtures.serving import free_port
from viewer_api import app

FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
GONE = {404, 204}
PATIENCE_S = 30.0
KEEP_S = 0.3
"""How long the API remembers places in these tests."""


@dataclass(frozen=True)
class Case:
    """A study of two series, of which some objects are going to be rejected."""

    node: HttpNode
    client: httpx.Client
    kept: Dataset
    bad: Dataset
    """In the series of `kept`."""
    paper: Dataset
    """In a series of its own."""

    def reject(self, *rejected: Dataset, title: Title = Title.SAFETY) -> Dataset:
        note = rejection(title, rejected)
        self.node.put(note)
        return note

    def study(self) -> str:
        return str(self.kept.StudyInstanceUID)

    def forget(self, path: str) -> httpx.Response:
        """Ask until the API has forgotten where it lay."""
        deadline = time.monotonic() + PATIENCE_S
        while (answer := self.client.get(path)).status_code not in GONE:
            assert time.monotonic() < deadline, (path, answer.status_code)
            time.sleep(0.02)
        return answer


@pytest.fixture(params=[False, True], ids=["as it came", "settled"])
def case(http_node: HttpNode, request: pytest.FixtureRequest) -> Case:
    kept = ct_slice(InstanceNumber=1)
    uids = {"StudyInstanceUID": kept.StudyInstanceUID}
    bad = ct_slice(InstanceNumber=2, SeriesInstanceUID=kept.SeriesInstanceUID, **uids)
    paper = ct_slice(Modality="DOC", SOPClassUID=EncapsulatedPDFStorage, **uids)
    paper.MIMETypeOfEncapsulatedDocument = "application/pdf"
    paper.EncapsulatedDocument = b"%PDF-1.4" + bytes(5000)
    http_node.put(kept, bad, paper)
    if request.param:
        assert http_node.settle() == 2
    places = http_node.app.state.parts.places
    places._keep_s = KEEP_S  # noqa: SLF001 - else every test takes seconds
    return Case(http_node, http_node.client(), kept, bad, paper)


def routes() -> list[str]:
    """Return the path of every way to read of a study."""
    return [
        route.path
        for router in app.DICOMWEB
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in route.methods and "{study}" in route.path
    ]


def filled(path: str, dataset: Dataset) -> str:
    values = {
        "{study}": dataset.StudyInstanceUID,
        "{series}": dataset.SeriesInstanceUID,
        "{instance}": dataset.SOPInstanceUID,
        "{frame_list}": "1",
        "{path:path}": "7FE00010",
    }
    for name, value in values.items():
        path = path.replace(name, value)
    assert "{" not in path, path
    return path


def wado_uri(dataset: Dataset) -> str:
    uids = f"studyUID={dataset.StudyInstanceUID}&seriesUID={dataset.SeriesInstanceUID}"
    kind = "contentType=application%2Fdicom"
    return f"/wado?requestType=WADO&{uids}&objectUID={dataset.SOPInstanceUID}&{kind}"


def ways_to(dataset: Dataset) -> list[str]:
    """Return the paths of everything about one instance."""
    return [*(filled(one, dataset) for one in routes() if "{instance}" in one), wado_uri(dataset)]


def test_there_are_doors_to_try() -> None:
    assert len(routes()) >= 27
    assert sum("{instance}" in one for one in routes()) >= 9


def test_instance_is_behind_no_door_after_it_was_rejected(case: Case) -> None:
    before = {path: case.client.get(path).status_code for path in ways_to(case.bad)}
    assert {200} == {*before.values()}, before

    note = case.reject(case.bad)

    for dataset in (case.bad, note):
        for path in ways_to(dataset):
            assert case.forget(path).status_code == 404
    for path in ways_to(case.kept):
        assert case.client.get(path).status_code == 200, path


def test_no_answer_names_or_counts_what_is_rejected(case: Case) -> None:
    broad = [filled(one, case.kept) for one in routes() if "{instance}" not in one]
    broad += ["/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances"]
    broad += [f"/fhir/ImagingStudy/{case.study()}", "/"]
    for path in broad:
        case.client.get(path)  # whatever remembers it, remembers it now

    note = case.reject(case.bad, case.paper)

    case.forget(filled("/dicom-web/studies/{study}/series/{series}/archive", case.paper))
    case.forget(wado_uri(case.bad))
    hidden = [str(one.SOPInstanceUID).encode() for one in (case.bad, case.paper, note)]
    hidden += [str(one.SeriesInstanceUID).encode() for one in (case.paper, note)]
    for path in broad:
        answer = case.client.get(path)
        assert answer.status_code in {200, 204, 404, 406}, (path, answer.status_code)
        assert not [uid for uid in hidden if uid in answer.content], path
    asked = {"StudyInstanceUID": case.study(), "includefield": "all"}
    [study] = case.client.get("/dicom-web/studies", params=asked).json()
    counted = {"00201206": 1, "00201208": 1, "00080061": "CT"}
    assert {tag: study[tag]["Value"][0] for tag in counted} == counted
    assert study["00080061"]["Value"] == ["CT"]
    resource = case.client.get(f"/fhir/ImagingStudy/{case.study()}").json()
    assert (resource["numberOfSeries"], resource["numberOfInstances"]) == (1, 1)


def test_study_that_is_rejected_as_a_whole_is_nowhere(case: Case) -> None:
    for path in (filled(one, case.kept) for one in routes()):
        case.client.get(path)

    case.reject(case.kept, case.bad, case.paper)

    for path in (filled(one, case.kept) for one in routes()):
        answer = case.forget(path) if "/series?" not in path else case.client.get(path)
        assert answer.status_code in GONE or answer.json() == []
    assert case.client.get("/dicom-web/studies").status_code in GONE
    assert case.client.get(f"/fhir/ImagingStudy/{case.study()}").status_code == 404
    assert case.client.get("/fhir/ImagingStudy?_summary=count").json()["total"] == 0
    assert case.study() not in case.client.get("/").text


def test_restored_object_is_behind_every_door_again(case: Case) -> None:
    note = case.reject(case.bad)
    case.forget(wado_uri(case.bad))

    answer = case.client.post(f"/api/v1/rejections/{note.SOPInstanceUID}/restore")

    assert (answer.status_code, answer.json()["in_force"]) == (200, 0)
    for path in ways_to(case.bad):
        assert case.client.get(path).status_code == 200, path
    for path in ways_to(note):
        assert case.client.get(path).status_code == 404, path


def test_note_comes_over_stow_too(case: Case) -> None:
    note = rejection(Title.QUALITY, [case.bad])
    content_type = 'multipart/related; type="application/dicom"; boundary=b'

    answer = case.client.post(
        "/dicom-web/studies",
        content=multipart_body([part10_file(note)]),
        headers={"Content-Type": content_type},
    )

    assert answer.status_code == 200
    case.node.ingest()
    case.forget(wado_uri(case.bad))


# DIMSE


Answers = Iterator[tuple[Dataset, Dataset | None]]
Send = Callable[[Association], Answers]


@dataclass
class Peers:
    """A viewer that asks over DIMSE and takes what it is sent."""

    port: int
    own: int
    taken: list[str]

    def find(self, level: str, **keys: str) -> list[Dataset]:
        identifier = self._identifier(level, keys)
        return [
            answer
            for status, answer in self._ask(FIND, lambda it: it.send_c_find(identifier, FIND))
            if status.Status in {0xFF00, 0xFF01} and answer is not None
        ]

    def get(self, level: str, **keys: str) -> set[str]:
        self.taken.clear()
        identifier = self._identifier(level, keys)
        [*self._ask(GET, lambda it: it.send_c_get(identifier, GET), storage=True)]
        return {*self.taken}

    def move(self, level: str, **keys: str) -> set[str]:
        self.taken.clear()
        identifier = self._identifier(level, keys)
        [*self._ask(MOVE, lambda it: it.send_c_move(identifier, "VIEWER", MOVE))]
        return {*self.taken}

    def take(self, event: Event) -> int:
        self.taken.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def _identifier(self, level: str, keys: dict[str, str]) -> Dataset:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        return identifier

    def _ask(self, model: str, send: Send, *, storage: bool = False) -> Answers:
        ae = AE("VIEWER")
        ae.add_requested_context(model)
        classes = ["1.2.840.10008.5.1.4.1.1.2", str(EncapsulatedPDFStorage), KOS]
        roles = []
        for uid in classes if storage else ():
            ae.add_requested_context(uid)
            roles.append(build_role(uid, scp_role=True))
        association = ae.associate(
            "127.0.0.1",
            self.port,
            ext_neg=roles,
            evt_handlers=[(evt.EVT_C_STORE, self.take)],
        )
        assert association.is_established
        try:
            yield from send(association)
        finally:
            association.release()


@pytest.fixture
def viewer(case: Case) -> Iterator[Peers]:
    """A registered peer of the archive's own DICOM port, with a port to be sent things to."""
    node = case.node
    settings = node.settings.model_copy(
        update={"dicom_port": free_port(), "dicom_processes": 1, "unknown_peers": "accept"}
    )
    parts = settings, node.engine, node.store, node.spool
    listener = service.dicom_listener(*parts, Metrics(CollectorRegistry()))
    listener.start()
    made = Peers(listener.port, free_port(), [])
    with transaction(node.engine) as session:
        peers.add(session, Peer("VIEWER", "127.0.0.1", made.own))
    ae = AE("VIEWER")
    for uid in ("1.2.840.10008.5.1.4.1.1.2", str(EncapsulatedPDFStorage), KOS):
        ae.add_supported_context(uid)
    handlers = [(evt.EVT_C_STORE, made.take)]
    running = ae.start_server(("127.0.0.1", made.own), block=False, evt_handlers=handlers)
    assert running is not None
    try:
        yield made
    finally:
        running.shutdown()
        listener.stop(grace_s=0)


def test_dimse_finds_and_sends_nothing_that_is_rejected(case: Case, viewer: Peers) -> None:
    study = {"StudyInstanceUID": case.study()}
    one = {**study, "SeriesInstanceUID": str(case.bad.SeriesInstanceUID)}
    bad = {**one, "SOPInstanceUID": str(case.bad.SOPInstanceUID)}
    everything = {str(each.SOPInstanceUID) for each in (case.kept, case.bad, case.paper)}
    assert viewer.get("STUDY", **study) == viewer.move("STUDY", **study) == everything

    note = case.reject(case.bad, case.paper)

    kept = {str(case.kept.SOPInstanceUID)}
    for ask in (viewer.get, viewer.move):
        assert ask("STUDY", **study) == kept
        assert ask("SERIES", **one) == kept
        assert ask("IMAGE", **bad) == set()
        assert ask("IMAGE", **{**bad, "SOPInstanceUID": str(note.SOPInstanceUID)}) == set()
    counts = {"NumberOfStudyRelatedInstances": "", "NumberOfStudyRelatedSeries": ""}
    [found] = viewer.find("STUDY", **study, **counts, ModalitiesInStudy="")
    assert (found.NumberOfStudyRelatedInstances, found.NumberOfStudyRelatedSeries) == (1, 1)
    assert found.ModalitiesInStudy == "CT"
    series = viewer.find("SERIES", **study, SeriesInstanceUID="")
    assert [each.SeriesInstanceUID for each in series] == [case.kept.SeriesInstanceUID]
    images = viewer.find("IMAGE", **one, SOPInstanceUID="")
    assert {each.SOPInstanceUID for each in images} == kept


def test_study_that_is_rejected_is_not_found_over_dimse(case: Case, viewer: Peers) -> None:
    study = {"StudyInstanceUID": case.study()}

    case.reject(case.kept, case.bad, case.paper)

    assert viewer.find("STUDY", **study) == []
    assert viewer.get("STUDY", **study) == viewer.move("STUDY", **study) == set()


def test_commitment_vouches_for_the_note_and_not_for_what_it_rejects(case: Case) -> None:
    node = case.node
    reporter = service.reporter(node.settings, node.engine, node.store)
    note = case.reject(case.bad)
    asked = [
        Reference(str(one.SOPClassUID), str(one.SOPInstanceUID))
        for one in (case.kept, case.bad, note)
    ]

    failed = commitment.verify(reporter.locate, node.store, asked)

    assert failed == {str(case.bad.SOPInstanceUID): commitment.NO_SUCH_OBJECT}
