"""Storage Commitment results, reported on an association of ours (PS3.4 J.3.3)."""

from typing import Final

from pacs import contexts
from pacs.scu.association import Address, Association
from pacs.upper_layer import dimse
from pacs.upper_layer.connection import Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.pdu import ProposedContext, Roles
from storage.base.errors import NotSupported

SOP_CLASS: Final = "1.2.840.10008.1.20.1"
SOP_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
_SYNTAXES: Final = (contexts.EXPLICIT_VR_LITTLE_ENDIAN, contexts.IMPLICIT_VR_LITTLE_ENDIAN)
_CONTEXT: Final = 1


class Reporting:
    """An association on which we are the SCP of Storage Commitment, by role selection.

    Raises
    ------
    PeerUnavailable
        The peer cannot be reached, or rejects us.
    NotSupported
        The peer takes no reports.
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
            raise NotSupported(f"{called} takes no Storage Commitment reports")
        self.transfer_syntax = next(uid for uid in _SYNTAXES if uid in accepted)
        """How the data set of the report has to be encoded."""

    def report(self, event_type_id: int, dataset: bytes) -> int:
        """Send one N-EVENT-REPORT, release the association and return the peer's status."""
        command = Command(
            command_field=dimse.N_EVENT_REPORT_RQ,
            affected_sop_class_uid=SOP_CLASS,
            affected_sop_instance_uid=SOP_INSTANCE,
            event_type_id=event_type_id,
            command_data_set_type=dimse.DATA_SET,
        )
        response = self._association.request(_CONTEXT, command, (dataset,))
        self._association.release()
        return response.status or 0
