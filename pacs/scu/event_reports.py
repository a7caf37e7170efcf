"""Events of instances that we look after, reported on associations of ours: N-EVENT-REPORT.

Results of Storage Commitment (PS3.4 J.3.3) and events of workitems (PS3.4 CC.2.4).
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pacs import contexts
from pacs.scu.association import Address, Association
from pacs.upper_layer import dimse
from pacs.upper_layer.connection import Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.pdu import ProposedContext, Roles
from storage.base.errors import NotSupported

_SYNTAXES: Final = (contexts.EXPLICIT_VR_LITTLE_ENDIAN, contexts.IMPLICIT_VR_LITTLE_ENDIAN)
_CONTEXT: Final = 1


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one SOP Instance."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type_id: int


class EventReports:
    """An association on which we are the SCP of a SOP class, by role selection (PS3.7 D.3.3.4).

    Released at the end of its block.

    Parameters
    ----------
    negotiated
        The SOP class of the presentation context; events may be of instances of another.

    Raises
    ------
    PeerUnavailable
        The peer cannot be reached, or rejects us.
    NotSupported
        The peer takes no such reports.
    """

    def __init__(
        self,
        called: Address,
        calling_ae_title: str,
        negotiated: str,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._association = Association(
            called,
            calling_ae_title,
            [ProposedContext(_CONTEXT, negotiated, _SYNTAXES)],
            timeouts,
            {negotiated: Roles(scu=False, scp=True)},
        )
        accepted = self._association.accepted(negotiated)
        if not accepted:
            self._association.release()
            raise NotSupported(f"{called} takes no event reports of {contexts.name_of(negotiated)}")
        self.transfer_syntax = next(uid for uid in _SYNTAXES if uid in accepted)
        """How the data sets have to be encoded."""

    def send(self, event: Event, dataset: bytes) -> int:
        """Send one N-EVENT-REPORT and return the peer's status.

        Raises
        ------
        PeerUnavailable
            The peer is gone; the association is over.
        """
        command = Command(
            command_field=dimse.N_EVENT_REPORT_RQ,
            affected_sop_class_uid=event.sop_class_uid,
            affected_sop_instance_uid=event.sop_instance_uid,
            event_type_id=event.event_type_id,
            command_data_set_type=dimse.DATA_SET,
        )
        return self._association.request(_CONTEXT, command, (dataset,)).status or 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._association.__exit__(kind, error, trace)
