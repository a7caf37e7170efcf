"""C-STORE SCU (PS3.4 Annex B): SOP Instances to one peer, each dataset byte for byte."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pacs import contexts
from pacs.scu.association import Address, Association
from pacs.upper_layer import dimse
from pacs.upper_layer.connection import Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.messages import Fragment
from pacs.upper_layer.pdu import MAX_CONTEXTS, ProposedContext
from storage.base.errors import NotSupported, PeerUnavailable

# PS3.4 Table B.2-1: coerced, does not match SOP class, elements discarded
WARNINGS: Final = frozenset((0xB000, 0xB006, 0xB007))
LOSSES: Final = 3
"""After so many associations that were lost without an answer between, the peer is gone."""


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE that a C-STORE is a sub-operation of (PS3.7 9.1.1.1)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What to send: SOP class, SOP Instance UID, and the dataset in its transfer syntax."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: Iterable[Fragment]


def plan(wanted: Iterable[tuple[str, str]]) -> list[tuple[ProposedContext, ...]]:
    """Return the contexts for (SOP class, stored transfer syntax) pairs, by association.

    Each stored transfer syntax has a context of its own, so that the peer cannot
    choose another one although it takes it; one more context per class offers what
    can be converted to. A class's contexts stay together; 128 fit one association.
    """
    syntaxes: dict[str, list[str]] = {}
    for sop_class_uid, stored in wanted:
        known = syntaxes.setdefault(sop_class_uid, [])
        if stored not in known:
            known.append(stored)
    groups: list[list[tuple[str, tuple[str, ...]]]] = [[]]
    for sop_class_uid, stored_ones in syntaxes.items():
        proposed = [(sop_class_uid, offer) for offer in _offers(stored_ones)]
        if len(groups[-1]) + len(proposed) > MAX_CONTEXTS:
            groups.append([])
        groups[-1] += proposed[:MAX_CONTEXTS]
    return [
        tuple(
            ProposedContext(2 * number + 1, uid, offer) for number, (uid, offer) in enumerate(group)
        )
        for group in groups
        if group
    ]


def _offers(stored_ones: list[str]) -> Iterator[tuple[str, ...]]:
    for stored in stored_ones:
        yield (stored,)
    others = dict.fromkeys(uid for stored in stored_ones for uid in contexts.offers(stored))
    converted = tuple(uid for uid in others if uid not in stored_ones)
    if converted:
        yield converted


class Sender:
    """Sends SOP Instances to `called`, over as many associations as their contexts need.

    An association is opened when it is first needed, kept, and released at the
    end of the block. One that is lost is opened once more; when the peer cannot be reached, or
    `LOSSES` were lost in a row, every further call says so at once.

    Parameters
    ----------
    wanted
        (SOP class, stored transfer syntax) of everything that will be sent.
    """

    def __init__(
        self,
        called: Address,
        calling_ae_title: str,
        wanted: Iterable[tuple[str, str]],
        timeouts: Timeouts | None = None,
    ) -> None:
        self._called = called
        self._calling_ae_title = calling_ae_title
        self._timeouts = timeouts
        self._plan = plan(wanted)
        self._group_of = {
            context.abstract_syntax: number
            for number, group in enumerate(self._plan)
            for context in group
        }
        self._open: dict[int, Association] = {}
        self._losses = 0
        self._gone = ""

    def accepted(self, sop_class_uid: str) -> Mapping[str, int]:
        """Return transfer syntax → context ID in which the peer takes a SOP class.

        Raises
        ------
        PeerUnavailable
            The peer cannot be reached.
        """
        return self._association(sop_class_uid).accepted(sop_class_uid)

    def send(self, outgoing: Outgoing, originator: Originator | None = None) -> int:
        """Send one SOP Instance and return the peer's status (PS3.4 Table B.2-1).

        Raises
        ------
        NotSupported, PeerUnavailable
            As `exchange`.
        """
        return self.exchange(outgoing, originator).status or 0

    def exchange(self, outgoing: Outgoing, originator: Originator | None = None) -> Command:
        """Send one SOP Instance and return the peer's C-STORE-RSP (PS3.7 9.3.1.2).

        Raises
        ------
        NotSupported
            The peer does not take this SOP class in this transfer syntax.
        PeerUnavailable
            The peer is gone.
        """
        association = self._association(outgoing.sop_class_uid)
        accepted = association.accepted(outgoing.sop_class_uid)
        context_id = accepted.get(outgoing.transfer_syntax_uid)
        if context_id is None:
            raise NotSupported(
                f"{self._called} does not take {contexts.name_of(outgoing.sop_class_uid)} "
                f"in {contexts.name_of(outgoing.transfer_syntax_uid)}"
            )
        try:
            response = association.request(
                context_id, store_request(outgoing, originator), outgoing.dataset
            )
        except BaseException as error:
            del self._open[self._group_of[outgoing.sop_class_uid]]
            if isinstance(error, PeerUnavailable):
                self._lost(error)
            raise
        self._losses = 0
        return response

    def _lost(self, error: PeerUnavailable) -> None:
        self._losses += 1
        if self._losses == LOSSES:
            self._gone = str(error)

    def close(self) -> None:
        """Release what is open."""
        while self._open:
            self._open.popitem()[1].release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _association(self, sop_class_uid: str) -> Association:
        group = self._group_of.get(sop_class_uid)
        if group is None:
            raise NotSupported(f"{contexts.name_of(sop_class_uid)} was not announced")
        if group not in self._open:
            if self._gone:
                raise PeerUnavailable(self._gone)
            try:
                self._open[group] = Association(
                    self._called, self._calling_ae_title, self._plan[group], self._timeouts
                )
            except PeerUnavailable as error:
                self._gone = str(error)
                raise
        return self._open[group]


def store_request(outgoing: Outgoing, originator: Originator | None = None) -> Command:
    """Return the C-STORE-RQ; its message ID is given when it is sent (PS3.7 9.3.1.1)."""
    return Command(
        command_field=dimse.C_STORE_RQ,
        affected_sop_class_uid=outgoing.sop_class_uid,
        affected_sop_instance_uid=outgoing.sop_instance_uid,
        priority=dimse.MEDIUM,
        command_data_set_type=dimse.DATA_SET,
        move_originator_application_entity_title=originator.ae_title if originator else None,
        move_originator_message_id=originator.message_id if originator else None,
    )
