"""What can go wrong, sorted by whose move comes next.

    ImagingError
    ├─ Rejected             the peer must change its request
    │  ├─ Malformed             it cannot be read
    │  ├─ NotFound              it names something we do not hold
    │  ├─ Conflict              it contradicts what we hold
    │  ├─ NotPermitted          this peer may not do this
    │  └─ NotSupported          it asks for something this product cannot do
    └─ Unavailable          the same request may succeed later
       ├─ StoreUnavailable      spool, object store or database
       │  └─ StoreFull              a disk has no room
       └─ PeerUnavailable       remote AE, HL7 endpoint or health station

Each edge owns one table from these types to its own status codes:
`pacs.scp.status` and `viewer_api.problems`.
"""


class ImagingError(Exception):
    """Base of every error this product raises on purpose."""


class Rejected(ImagingError):
    """The peer must change its request."""


class Malformed(Rejected):
    """The request cannot be read."""


class NotFound(Rejected):
    """The request names something we do not hold."""


class Conflict(Rejected):
    """The request contradicts what we hold."""


class NotPermitted(Rejected):
    """The peer may not do what it asked."""


class NotSupported(Rejected):
    """The request is well formed and asks for something this product cannot do."""


class Unavailable(ImagingError):
    """The same request may succeed later."""


class StoreUnavailable(Unavailable):
    """The spool, the object store or the database did not answer."""


class StoreFull(StoreUnavailable):
    """There is no room for what was sent until somebody or something makes some."""


class PeerUnavailable(Unavailable):
    """A remote AE, HL7 endpoint or health station did not answer."""
