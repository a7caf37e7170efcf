"""pynetdicom as SCU of UPS Push, Pull, Watch and Query, and as the one that is told of events."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)

from pacs import service
from ris.workitems import records
from ris.workitems.contents import Json
from storage.access import peers
from storage.access.peers import Peer
from storage.base.clock import utc_now
from storage.db.engine import transaction
from tests.fixtures.server import DicomServer
from tests.fixtures.serving import free_port
from tests.fixtures.workitems import PERFORMED, attributes, workitem

pytestmark = pytest.mark.interop

CLAIM = "2.25.4711"
CLASSES = (
    UnifiedProcedureStepPush,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepWatch,
    UnifiedProcedureStepQuery,
)
CHANGE, CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = range(1, 6)


def dataset(**given: object) -> Dataset:
    return Dataset.from_json(attributes(**given))


def dataset_of(model: Json) -> Dataset:
    made = Dataset.from_json(dict(model))
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


@contextmanager
def associated(
    server: DicomServer, title: str = "AI1", syntax: str = ExplicitVRLittleEndian
) -> Iterator[Association]:
    ae = AE(title)
    for sop_class in CLASSES:
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate("127.0.0.1", server.port, ae_title="ARCHIVE")
    assert association.is_established
    assert len(association.accepted_contexts) == len(CLASSES)
    try:
        yield association
    finally:
        association.release()


def create(association: Association, **changes: object) -> str:
    uid = str(generate_uid())
    sent = dataset_of(workitem(**changes))
    answer, _ = association.send_n_create(sent, UnifiedProcedureStepPush, uid)
    assert answer.Status in {0x0000, 0xB300}, answer
    return uid


def act(association: Association, action: int, uid: str, through: str, **given: object) -> int:
    sent = dataset(**given) if given else None  # an empty one is announced, but not sent
    answer, _ = association.send_n_action(
        sent, action, UnifiedProcedureStepPush, uid, meta_uid=through
    )
    return int(answer.Status)


def change(association: Association, uid: str, state: str, claim: str = CLAIM) -> int:
    given = {"ProcedureStepState": state, "TransactionUID": claim}
    return act(association, CHANGE, uid, UnifiedProcedureStepPull, **given)


def update(association: Association, uid: str, sent: Dataset) -> int:
    answer, _ = association.send_n_set(
        sent, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull
    )
    return int(answer.Status)


def get(association: Association, uid: str, *tags: int) -> tuple[int, Dataset]:
    answer, found = association.send_n_get(
        [*tags], UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull
    )
    return int(answer.Status), found


def find(association: Association, model: str, **keys: object) -> list[Dataset]:
    asked = dataset(**keys)
    asked.SpecificCharacterSet = "ISO_IR 192"
    answers = [*association.send_c_find(asked, model)]
    assert answers[-1][0].Status == 0x0000
    return [found for _, found in answers[:-1]]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=str)
def test_workitem_lives_from_creation_to_completion(dicom_server: DicomServer, syntax: str) -> None:
    with associated(dicom_server, syntax=syntax) as association:
        uid = create(association)
        performed = Dataset.from_json(dict(PERFORMED))
        performed.TransactionUID = CLAIM

        codes = [
            change(association, uid, "COMPLETED"),
            change(association, uid, "IN PROGRESS"),
            change(association, uid, "IN PROGRESS"),
            change(association, uid, "IN PROGRESS", "2.25.1"),
            change(association, uid, "SCHEDULED"),
            change(association, uid, "COMPLETED"),
            update(association, uid, dataset(ProcedureStepLabel="stolen")),
            update(association, uid, performed),
            change(association, uid, "COMPLETED"),
            change(association, uid, "COMPLETED"),
            change(association, uid, "CANCELED"),
            update(association, uid, performed),
        ]
        status, held = get(association, uid)

    assert [f"{code:04X}" for code in codes] == [
        "C310",
        "0000",
        "C302",
        "C301",
        "C303",
        "C304",
        "C301",
        "0000",
        "0000",
        "B306",
        "C300",
        "C300",
    ]
    assert status == 0x0000
    assert held.ProcedureStepState == "COMPLETED"
    assert held.PatientName == "Nguyễn^Văn An"
    assert "TransactionUID" not in held


def test_get_gives_what_is_asked_for(dicom_server: DicomServer) -> None:
    with associated(dicom_server) as association:
        uid = create(association)
        some = get(association, uid, 0x00741000, 0x00741204)
        secret = get(association, uid, 0x00081195, 0x00741000)
        unknown, _ = get(association, "2.25.1")

    assert some[0] == 0x0000
    assert (some[1].ProcedureStepState, some[1].ProcedureStepLabel) == ("SCHEDULED", "Lung nodules")
    assert secret[0] == 0x0001
    assert "TransactionUID" not in secret[1]
    assert unknown == 0xC307


def test_creation_is_refused_with_the_status_of_its_fault(dicom_server: DicomServer) -> None:
    faulty = {
        0xC309: workitem(ProcedureStepState="IN PROGRESS"),
        0x0120: workitem(ProcedureStepLabel=None),
        0x0121: workitem(InputReadinessState=[]),
        0x0106: workitem(ScheduledProcedureStepPriority="STAT"),
    }
    with associated(dicom_server) as association:
        uid = create(association)
        codes = {
            code: association.send_n_create(
                dataset_of(sent), UnifiedProcedureStepPush, generate_uid()
            )[0].Status
            for code, sent in faulty.items()
        }
        again, _ = association.send_n_create(dataset_of(workitem()), UnifiedProcedureStepPush, uid)

    assert codes == {code: code for code in faulty}
    assert again.Status == 0x0111


@pytest.mark.parametrize(
    "model",
    [UnifiedProcedureStepPull, UnifiedProcedureStepWatch, UnifiedProcedureStepQuery],
    ids=["pull", "watch", "query"],
)
def test_query_finds_what_is_to_be_done(dicom_server: DicomServer, model: str) -> None:
    with associated(dicom_server) as association:
        uid = create(association)
        create(association, WorklistLabel="HUMAN")
        done = create(association)
        change(association, done, "IN PROGRESS")

        [found] = find(
            association,
            model,
            ProcedureStepState="SCHEDULED",
            WorklistLabel="AI",
            ScheduledProcedureStepStartDateTime="20261126-20261127",
            ScheduledWorkitemCodeSequence=attributes(CodeValue="110005"),
            PatientName="nguyen*",
            TransactionUID="",
            PatientSex="",
        )

    assert found.SOPInstanceUID == uid
    assert found.SOPClassUID == UnifiedProcedureStepPush
    assert found.PatientName == "Nguyễn^Văn An"
    assert found.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
    assert found.PatientSex == ""
    assert not found.TransactionUID


def test_actions_belong_to_their_classes(dicom_server: DicomServer) -> None:
    with associated(dicom_server) as association:
        uid = create(association)
        push = act(
            association,
            CHANGE,
            uid,
            UnifiedProcedureStepPush,
            ProcedureStepState="IN PROGRESS",
            TransactionUID=CLAIM,
        )
        watch = act(association, SUSPEND, uid, UnifiedProcedureStepWatch, ReceivingAE="WATCH")
        nobody = act(
            association,
            SUBSCRIBE,
            uid,
            UnifiedProcedureStepWatch,
            ReceivingAE="NOBODY",
            DeletionLock="FALSE",
        )

    assert (push, watch, nobody) == (0x0123, 0xC314, 0xC308)


# Events


@dataclass
class Watcher:
    """An application entity that takes events on a port of its own."""

    title: str
    port: int = field(default_factory=free_port)
    told: list[tuple[str, int, Dataset]] = field(default_factory=list)

    def register(self, server: DicomServer) -> None:
        with transaction(server.engine) as session:
            peers.add(session, Peer(self.title, "127.0.0.1", self.port))

    @contextmanager
    def listening(self) -> Iterator[None]:
        ae = AE(self.title)
        ae.add_supported_context(UnifiedProcedureStepEvent, scu_role=False, scp_role=True)

        def note(event: Event) -> tuple[int, Dataset]:
            request = event.request
            uid = str(request.AffectedSOPInstanceUID)
            assert request.AffectedSOPClassUID == UnifiedProcedureStepPush
            self.told.append((uid, event.event_type, event.event_information))
            return 0x0000, Dataset()

        handlers = [(evt.EVT_N_EVENT_REPORT, note)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield
        finally:
            server.shutdown()

    @property
    def states(self) -> list[str]:
        return [str(told.ProcedureStepState) for _, kind, told in self.told if kind == 1]


def tell(server: DicomServer, after: timedelta = timedelta()) -> int:
    """Let everybody be told who can be; return how many peers were tried."""
    telling = service.teller(server.settings, server.engine)
    tried = 0
    while telling.run_once(utc_now() + after + timedelta(seconds=1)):
        tried += 1
    return tried


def test_watcher_is_told_in_order(dicom_server: DicomServer) -> None:
    watcher = Watcher("WATCH")
    watcher.register(dicom_server)
    with associated(dicom_server) as association, watcher.listening():
        given = {"ReceivingAE": "WATCH", "DeletionLock": "FALSE"}
        watch = UnifiedProcedureStepWatch
        assert act(association, SUBSCRIBE, records.GLOBAL, watch, **given) == 0
        uid = create(association)
        change(association, uid, "IN PROGRESS")
        change(association, uid, "CANCELED")

        tell(dicom_server)

    assert {told for told, _, _ in watcher.told} == {uid}
    assert watcher.states == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
    last = watcher.told[-1][2]
    assert last.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
    assert last.InputReadinessState == "READY"


def test_filter_of_a_subscription_comes_as_matching_keys(dicom_server: DicomServer) -> None:
    watcher = Watcher("WATCH")
    watcher.register(dicom_server)
    with associated(dicom_server) as association, watcher.listening():
        watch = UnifiedProcedureStepWatch
        given = {"ReceivingAE": "WATCH", "DeletionLock": "FALSE"}
        code = attributes(CodeValue="110007")
        keys = {"ScheduledWorkitemCodeSequence": code, "WorklistLabel": "AI"}
        assert act(association, SUBSCRIBE, records.FILTERED, watch, **given, **keys) == 0
        create(association)
        uid = create(association, ScheduledWorkitemCodeSequence=code)
        create(association, ScheduledWorkitemCodeSequence=code, WorklistLabel="HUMAN")
        tell(dicom_server)
        assert act(association, UNSUBSCRIBE, records.FILTERED, watch, **given) == 0
        change(association, uid, "IN PROGRESS")
        tell(dicom_server)

    assert [(told, kind) for told, kind, _ in watcher.told] == [(uid, 1)]


def test_wish_to_cancel_reaches_the_performer(dicom_server: DicomServer) -> None:
    performer = Watcher("AI1")
    performer.register(dicom_server)
    with associated(dicom_server, "AI1") as own, associated(dicom_server, "RIS") as other:
        uid = create(other)
        change(own, uid, "IN PROGRESS")
        deaf = act(other, CANCEL, uid, UnifiedProcedureStepPush)
        given = {"ReceivingAE": "AI1", "DeletionLock": "FALSE"}
        act(own, SUBSCRIBE, uid, UnifiedProcedureStepWatch, **given)
        heard = act(
            other, CANCEL, uid, UnifiedProcedureStepPush, ReasonForCancellation="wrong patient"
        )
        with performer.listening():
            tell(dicom_server)

    assert (deaf, heard) == (0xC312, 0x0000)
    _, kind, wish = performer.told[-1]
    assert kind == 2
    assert (wish.RequestingAE, wish.ReasonForCancellation) == ("RIS", "wrong patient")


def test_watcher_that_was_away_is_told_later_and_holds_nobody_up(
    dicom_server: DicomServer,
) -> None:
    away, here = Watcher("AWAY"), Watcher("HERE")
    for one in (away, here):
        one.register(dicom_server)
    with associated(dicom_server) as association, here.listening():
        for title in ("AWAY", "HERE"):
            given = {"ReceivingAE": title, "DeletionLock": "FALSE"}
            act(association, SUBSCRIBE, records.GLOBAL, UnifiedProcedureStepWatch, **given)
        uid = create(association)

        begun = time.monotonic()
        tried = tell(dicom_server)
        taken_s = time.monotonic() - begun
        change(association, uid, "IN PROGRESS")
        with away.listening():
            tell(dicom_server, after=timedelta(minutes=11))

    assert tried == 2
    assert taken_s < 20
    assert here.states == away.states == ["SCHEDULED", "IN PROGRESS"]
