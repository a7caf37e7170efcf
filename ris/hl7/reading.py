"""One message as far as it could be understood, and what its sender wants to hear of it."""

from dataclasses import dataclass
from functools import cached_property

from ris.hl7 import modes
from ris.hl7.ack import Code, Fault
from ris.hl7.dispatch import Task
from ris.hl7.message import Message
from ris.hl7.modes import Asked
from ris.hl7.profile import OnError, Profile


@dataclass(frozen=True)
class Reading:
    """A message as far as it could be understood; `fault` says why there is no `task`."""

    raw: bytes
    message: Message
    profile: Profile
    kind: str
    control_id: str
    task: Task | None
    fault: Fault | None

    @property
    def keys(self) -> list[str]:
        """What people find it by."""
        return [storable(key) for key in self.task.keys] if self.task else []

    @cached_property
    def asked(self) -> Asked | None:
        """Which acknowledgements are wanted; None: that of the original mode."""
        return modes.asked(self.message) if self.profile.enhanced else None

    @property
    def wanted_of_answer(self) -> tuple[str, str]:
        """MSH-15 and MSH-16 of its application acknowledgement, which may be a message sent."""
        if self.asked is None:
            return "", ""
        elsewhere = self.profile.application_ack and self.profile.application_ack_answered
        return ("AL" if elsewhere else "NE"), "NE"

    @property
    def refused(self) -> bool:
        """Whether it is not for us."""
        fault = self.fault
        return fault is not None and fault.code is Code.REJECT and not self.is_softened(fault)

    @property
    def first(self) -> Code:
        """What the accept acknowledgement of it says, once it is kept."""
        if self.fault is None or not self.refused:
            return Code.COMMIT_ACCEPT
        return modes.refusal(self.fault.error)

    def wants(self, code: str) -> bool:
        """Return whether this application acknowledgement is asked for in enhanced mode."""
        if self.asked is None or (self.refused and self.first in self.asked.accept):
            return False
        return code in self.asked.application

    def is_softened(self, fault: Fault) -> bool:
        """Return whether its sender is told AA all the same."""
        refused = fault.code is Code.REJECT
        queues = self.profile.on_error is OnError.QUEUE
        wanted = self.profile.accept_unsupported if refused else queues
        return wanted and fault.error != "202"


def kind_of(read: Message) -> str:
    """Return MSH-9.1 and MSH-9.2 of a message: ``ORM^O01``."""
    return storable("^".join(filter(None, (read.code, read.trigger))))[:40]


def storable(text: str) -> str:
    """Return `text` as PostgreSQL can hold it, short enough for an index."""
    return text.replace("\0", "")[:200]
