"""How much of us one peer, and all of them together, may take."""

from dataclasses import dataclass, field

from pacs.upper_layer.connection import Timeouts


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one listener; the defaults are those of `Settings`."""

    max_associations: int = 512
    max_associations_per_peer: int = 32
    """Per IP address."""
    max_object_bytes: int = 2 << 30
    max_waiting: int = 2048
    """Connections without an association yet; beyond it the oldest one must go."""
    timeouts: Timeouts = field(default_factory=Timeouts)
