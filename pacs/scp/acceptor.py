"""One connection from its first PDU to its last: the acceptor's side of PS3.8 9.2."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from pacs.scp import negotiation
from pacs.scp.association import Association
from pacs.scp.exchange import Caller, Offers
from pacs.scp.limits import Limits
from pacs.scp.metrics import Metrics
from pacs.scp.negotiation import Admit
from pacs.scp.roster import Roster
from pacs.upper_layer import pdu
from pacs.upper_layer.connection import Connection
from pacs.upper_layer.faults import (
    NOT_SPECIFIED,
    UNEXPECTED_PDU,
    AssociationLost,
    HandshakeFailed,
    ProtocolFault,
    Released,
    TimedOut,
)
from pacs.upper_layer.messages import Messages
from pacs.upper_layer.pdu import AssociateRequest, Rejection
from storage.base.errors import Unavailable
from storage.base.logs import bound

log = logging.getLogger(__name__)

_PROVIDER: Final = 2
"""A-ABORT source: DICOM UL service-provider (PS3.8 Table 9-26)."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who may associate, and what is served."""

    ae_title: str | None
    """Our AE title, which must be called; None: any will do."""
    admit: Admit
    offers: Offers
    """What is served."""


@dataclass(frozen=True, slots=True)
class Acceptor:
    """Holds associations by the same rules; each `converse` runs in its own thread."""

    acceptance: Acceptance
    limits: Limits
    metrics: Metrics
    roster: Roster

    def converse(self, connection: Connection, address: str) -> None:
        """Hold one association, if it comes to one, and close the connection; never raises."""
        with bound(address=address):
            farewell = self._guarded(partial(self._hold, connection, address))
            self.roster.leave(connection)
            _part(connection, farewell)

    def _guarded(self, conversation: Callable[[], bytes | None]) -> bytes | None:
        """Return the last PDU to send, if any, whatever the conversation comes to."""
        try:
            return conversation()
        except Released:
            return pdu.RELEASE_REPLY
        except ProtocolFault as fault:
            log.warning("association_aborted", extra={"reason": str(fault)})
            self.metrics.refused("protocol")
            return pdu.encode_abort(_PROVIDER, fault.reason)
        except AssociationLost as lost:
            log.warning("association_lost", extra={"reason": str(lost)})
            self.metrics.refused("lost")
            return pdu.encode_abort(_PROVIDER, NOT_SPECIFIED)
        except Exception:
            log.exception("association_failed")
            self.metrics.refused("defect")
            return pdu.encode_abort(_PROVIDER, NOT_SPECIFIED)

    def _hold(self, connection: Connection, address: str) -> bytes | None:
        """Read and judge the request; serve it, or return the rejection to send."""
        try:
            connection.open()
            request = _read_request(connection)
        except HandshakeFailed as failed:
            log.warning("tls_refused", extra={"reason": str(failed)})
            self.metrics.refused("tls")
            return None
        except AssociationLost:  # a port scan, or the ARTIM timer: nobody to answer
            self.metrics.refused("no request")
            return None
        with bound(
            calling_ae_title=request.calling_ae_title, called_ae_title=request.called_ae_title
        ):
            rejection = self._rejection(request, address)
            if rejection is not None:
                return self._reject(rejection)
            return self._guarded(partial(self._serve, connection, request, address))

    def _serve(
        self, connection: Connection, request: AssociateRequest, address: str
    ) -> bytes | None:
        answer, contexts = negotiation.negotiate(request, self.acceptance.offers)
        association = Association(
            Messages(connection, request.user.max_length),
            contexts,
            Caller(request.calling_ae_title, request.called_ae_title, address),
            self.acceptance.offers,
            self.metrics,
            self.limits,
        )
        if not self.roster.establish(connection, address, lambda: association.idle_since):
            return self._reject(negotiation.LOCAL_LIMIT)
        log.info(
            "association_accepted",
            extra={
                "version": request.user.implementation_version_name,
                "protection": connection.protection,
            },
        )
        with self.metrics.associations.track_inprogress():
            connection.send((pdu.encode_accept(answer),))
            association.serve()
        return None

    def _rejection(self, request: AssociateRequest, address: str) -> Rejection | None:
        try:
            return negotiation.refuse(
                request, self.acceptance.ae_title, self.acceptance.admit, address
            )
        except Unavailable as error:  # the peers cannot be looked up now
            log.warning("admission_unavailable", extra={"reason": str(error)})
            return negotiation.CONGESTION

    def _reject(self, rejection: Rejection) -> bytes:
        log.warning("association_rejected", extra={"reason": rejection.text})
        self.metrics.refused(rejection.text)
        return pdu.encode_reject(rejection)


def _read_request(connection: Connection) -> AssociateRequest:
    """Read the A-ASSOCIATE-RQ; the whole of it has to come within one time-out."""
    kind, body = connection.read_pdu(connection.timeouts.request_s, finish_s=0)
    if kind != pdu.ASSOCIATE_RQ:
        raise ProtocolFault(f"PDU type {kind:02X}H before an association", UNEXPECTED_PDU)
    return pdu.decode_request(body)


def _part(connection: Connection, farewell: bytes | None) -> None:
    """Send the last PDU, if any, and see that it arrives before the connection is closed."""
    if farewell is None:
        connection.close()
        return
    try:
        connection.send((farewell,))
    except (AssociationLost, TimedOut):
        connection.close()
    else:
        connection.hang_up()
