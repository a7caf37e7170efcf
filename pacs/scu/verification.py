"""C-ECHO SCU (PS3.4 Annex A): whether a peer answers."""

from contextlib import suppress
from typing import Final

from pacs import contexts
from pacs.scu.association import Address, Association, Refused
from pacs.upper_layer import dimse
from pacs.upper_layer.connection import Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.pdu import ProposedContext
from storage.base.errors import PeerUnavailable

_ANSWER_S: Final = 10.0
_PROPOSED: Final = (
    ProposedContext(1, contexts.VERIFICATION, (contexts.IMPLICIT_VR_LITTLE_ENDIAN,)),
)


def echo(host: str, port: int, called_ae_title: str, calling_ae_title: str) -> None:
    """Verify that the application entity at `host`:`port` answers.

    Raises
    ------
    PeerUnavailable
        It does not; the text says why.
    """
    called = Address(called_ae_title, host, port)
    timeouts = Timeouts(dataset_s=_ANSWER_S, response_s=_ANSWER_S)
    with Association(called, calling_ae_title, _PROPOSED, timeouts) as association:
        context_id = association.accepted(contexts.VERIFICATION).get(
            _PROPOSED[0].transfer_syntaxes[0]
        )
        if context_id is None:
            raise PeerUnavailable(f"{called} does not accept verification")
        request = Command(
            command_field=dimse.C_ECHO_RQ, affected_sop_class_uid=contexts.VERIFICATION
        )
        response = association.request(context_id, request)
        if response.status:
            raise PeerUnavailable(f"{called} answers C-ECHO with status {response.status:04X}")


def is_alive(host: str, port: int, ae_title: str) -> None:
    """Verify that something talks DICOM at `host`:`port`; to be rejected is an answer too.

    Raises
    ------
    PeerUnavailable
        Nothing does.
    """
    with suppress(Refused):
        echo(host, port, ae_title, ae_title)
