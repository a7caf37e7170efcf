"""Which segments belong together: by what stands near what, not by any version's structure.

    MSH PID PV1            the message's own
    ORC TQ1 OBR IPC ZDS    one order: OBR belongs to the ORC before it,
        OBR                and a second OBR is a second order under the same ORC

Everything behind an OBR up to the next ORC or OBR is its own. An order finds there first what it
looks for, then in what stands before all orders. A Study Instance UID for the whole message (one
ZDS at its end) counts for every order that has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ris.hl7.message import Message, Position, Segment

_OF_ORC: Final = frozenset({"TQ1", "TQ2", "BLG"})
_OF_ALL: Final = frozenset({"ZDS"})
_OF_PATIENT: Final = frozenset({"PID", "PV1", "PV2", "PD1", "MRG", "IN1", "AL1"})


@dataclass(slots=True)
class Scope:
    """Segments in which values are looked for: a group's own, then those it shares."""

    own: list[Segment] = field(default_factory=list)
    shared: Sequence[Segment] = ()

    def all(self, name: str) -> list[Segment]:
        """Return the segments of that name nearest to the group."""
        return _named(self.own, name) or _named(self.shared, name)

    def first(self, name: str) -> Segment | None:
        """Return the first segment of that name nearest to the group."""
        return next(iter(self.all(name)), None)

    def value(self, at: Position) -> str:
        """Return what stands there, escapes resolved, '' when nothing does."""
        segment = self.first(at.segment)
        return segment.value(at.field, at.component, at.subcomponent) if segment else ""

    def raw(self, at: Position) -> str:
        """Return what stands there as it was sent."""
        segment = self.first(at.segment)
        return segment.raw(at.field, at.component, at.subcomponent) if segment else ""


def whole(message: Message) -> Scope:
    """Return the scope of what stands once in a message."""
    return Scope(list(message.segments))


def patients(message: Message) -> list[Scope]:
    """Return one scope for each PID, with the MRG and PV1 that follow it (ADT^A40 repeats them)."""
    head = [one for one in message.segments if one.name not in _OF_PATIENT]
    scopes: list[Scope] = []
    for segment in message.segments:
        if segment.name == "PID":
            scopes.append(Scope([segment], head))
        elif segment.name in _OF_PATIENT and scopes:
            scopes[-1].own.append(segment)
    return scopes


def orders(message: Message, *, per_order: bool = False) -> list[Scope]:
    """Return one scope for each order of a message; `per_order`: one for each ORC.

    A message with OBR and no ORC has one order for each OBR.
    """
    shared: list[Segment] = []
    groups: list[Scope] = []
    current: Scope | None = None
    for segment in message.segments:
        if segment.name == "ORC":
            current = Scope([segment], shared)
            groups.append(current)
        elif segment.name == "OBR" and (current is None or _begun(current, per_order=per_order)):
            head = [one for one in current.own if one.name in _OF_ORC | {"ORC"}] if current else []
            current = Scope([*head, segment], shared)
            groups.append(current)
        elif current is None or segment.name in _OF_PATIENT:
            shared.append(segment)
        else:
            current.own.append(segment)
    _share(groups, shared)
    return groups


def _begun(scope: Scope, *, per_order: bool) -> bool:
    """Whether an OBR would be the group's second one."""
    return not per_order and any(one.name == "OBR" for one in scope.own)


def _share(groups: Sequence[Scope], shared: list[Segment]) -> None:
    """Let a segment that stands once for all count for all."""
    for name in _OF_ALL:
        found = [one for group in groups for one in group.own if one.name == name]
        if len(found) == 1 and len(groups) > 1 and found[0] is groups[-1].own[-1]:
            shared.append(found[0])


def _named(segments: Sequence[Segment], name: str) -> list[Segment]:
    return [one for one in segments if one.name == name]
