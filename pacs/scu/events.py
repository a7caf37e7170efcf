"""Events of workitems, reported on an association of ours (PS3.4 CC.2.4)."""

from types import TracebackType
from typing import Final, Self

from pacs import contexts
from pacs.scu.association import Address, Association
from pacs.upper_layer import dimse
from pacs.upper_layer.connection import Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.pdu import ProposedContext, Roles
from storage.base.errors import NotSupported

SOP_CLASS: Final = "1.2.840.10008.5.1.4.34.6.4"
"""UPS Event, which is negotiated; the events are of instances of UPS Push (CC.3.1)."""
PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
_SYNTAXES: Final = (contexts.EXPLICIT_VR_LITTLE_ENDIAN, contexts.IMPLICIT_VR_LITTLE_ENDIAN)
_CONTEXT: Final = 1


class Reporting:
    """An association on which we are the SCP of UPS Event, by role selection.

    Raises
    ------
    PeerUnavailable
        The peer cannot be reached, or rejects us.
    NotSupported
        The peer takes no events.
    """

    def __init__(
        self, called: Address, calling_ae_title: str, timeouts: Timeouts | None = None
    ) -> None:
        self._association = Association(
            called,
            calling_ae_title,
            [ProposedContext(_CONTEXT, SOP_CLASS, _SYNTAXES)],
            timeouts,
            {SOP_CLASS: Roles(scu=False, scp=True)},
        )
        accepted = self._association.accepted(SOP_CLASS)
        if not accepted:
            self._association.release()
            raise NotSupported(f"{called} takes no events of workitems")
        self.transfer_syntax = next(uid for uid in _SYNTAXES if uid in accepted)
        """How the data sets have to be encoded."""

    def report(self, sop_instance_uid: str, event_type_id: int, dataset: bytes) -> int:
        """Send one N-EVENT-REPORT and return the peer's status.

        Raises
        ------
        PeerUnavailable
            The peer is gone; the association is over.
        """
        command = Command(
            command_field=dimse.N_EVENT_REPORT_RQ,
            affected_sop_class_uid=PUSH,
            affected_sop_instance_uid=sop_instance_uid,
            event_type_id=event_type_id,
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
