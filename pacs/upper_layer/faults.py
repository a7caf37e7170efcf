"""How an association ends before its time; sorted by who broke off.

Malformed
└─ ProtocolFault     the peer broke the rules: we answer A-ABORT with `reason`
PeerUnavailable
└─ AssociationLost   the peer is gone, silent or has aborted: nothing to answer
   ├─ TimedOut           it was silent for too long
   ├─ HandshakeFailed    it does not talk TLS as we do, or we do not trust its certificate
   └─ Released           it asked for release in the middle of an operation
"""

from typing import Final

from storage.base.errors import Malformed, PeerUnavailable

# PS3.8 Table 9-26, reasons of the service-provider
NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNEXPECTED_PARAMETER: Final = 5
INVALID_PARAMETER: Final = 6


class ProtocolFault(Malformed):
    """The peer broke PS3.7 or PS3.8; `reason` goes into the A-ABORT."""

    def __init__(self, text: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(text)
        self.reason = reason


class AssociationLost(PeerUnavailable):
    """The connection is closed, reset or aborted by the peer."""


class TimedOut(AssociationLost):
    """The peer was silent for longer than it may be."""


class HandshakeFailed(AssociationLost):
    """No TLS connection came about."""


class Released(AssociationLost):
    """The peer asked for release."""
