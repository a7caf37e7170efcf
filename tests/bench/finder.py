"""C-FIND over an association that stays open, reading answers and no more."""

import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from pydicom import Dataset
from pynetdicom.dsutils import encode

from pacs.upper_layer import dimse, pdu
from pacs.upper_layer.connection import MAX_PDU_BYTES, Connection, Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.messages import Messages
from pacs.upper_layer.pdu import AssociateRequest, ProposedContext, UserInformation
from tests.bench import web
from tests.bench.peers import Archive

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT_VR: Final = "1.2.840.10008.1.2"
C_FIND_RQ: Final = 0x0020
PENDING: Final = frozenset({0xFF00, 0xFF01})
RETURNED: Final = ("StudyInstanceUID", "StudyTime", "PatientID", "StudyDescription")


class Finder:
    """One association for Study Root C-FIND."""

    def __init__(self, archive: Archive) -> None:
        plug = socket.create_connection(("127.0.0.1", archive.dicom_port), 10)
        self._connection = Connection(plug, Timeouts())
        context = ProposedContext(1, STUDY_ROOT_FIND, (IMPLICIT_VR,))
        user = UserInformation(MAX_PDU_BYTES)
        request = AssociateRequest(archive.ae_title, "BENCH", (context,), user)
        self._connection.send((pdu.encode_request(request),))
        kind, body = self._connection.read_pdu(10)
        if kind != pdu.ASSOCIATE_AC:
            raise RuntimeError(f"{archive.name} rejects us")
        self._messages = Messages(self._connection, pdu.decode_accept(body).user.max_length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self._connection.send((pdu.RELEASE_REQUEST,))
        self._connection.read_pdu(10)
        self._connection.close()

    def find(self, identifier: bytes) -> int:
        """Return how many answers come."""
        request = Command(
            command_field=C_FIND_RQ,
            affected_sop_class_uid=STUDY_ROOT_FIND,
            message_id=1,
            priority=dimse.MEDIUM,
            command_data_set_type=dimse.DATA_SET,
        )
        self._messages.send(1, request, [identifier])
        answers = 0
        while True:
            context_id, response = self._messages.read_command(60)
            if response.has_data_set:
                for _ in self._messages.read_dataset(context_id):
                    pass
            if response.status not in PENDING:
                break
            answers += 1
        if response.status:
            raise RuntimeError(f"C-FIND ends with status {response.status:04X}H")
        return answers


def identifier(keys: Mapping[str, str]) -> bytes:
    """Return the identifier of a study query that wants the usual attributes back."""
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    for keyword, value in (dict.fromkeys(RETURNED, "") | dict(keys)).items():
        setattr(wanted, keyword, value)
    encoded = encode(wanted, True, True)
    if encoded is None:
        raise ValueError("the keys cannot be encoded")
    return encoded


def measure(
    archive: Archive, keys: Mapping[str, str], answers: range, seconds: float = 1.5
) -> dict[str, float]:
    """Ask again and again; every time as many answers as `answers` allows must come."""
    asked = identifier(keys)
    taken: list[tuple[float, float]] = []
    with Finder(archive) as finder:
        begun = now = time.monotonic()
        while now - begun < seconds:
            found = finder.find(asked)
            before, now = now, time.monotonic()
            if found not in answers:
                raise RuntimeError(f"{archive.name}: {found} answers to C-FIND")
            taken.append((before, now))
    return {**web.summary(taken, 0), "answers": found}
