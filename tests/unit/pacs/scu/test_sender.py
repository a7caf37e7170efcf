import time

import pytest

from pacs.scu.association import Address
from pacs.scu.sender import LOSSES, Outgoing, Sender
from pacs.upper_layer.connection import Timeouts
from storage.base.errors import PeerUnavailable
from tests.fixtures.raw_peer import CT, EXPLICIT
from tests.fixtures.receiver import Receiver

QUICK = Timeouts(response_s=0.2)


def send(receiver: Receiver, count: int) -> list[str]:
    """Send `count` objects and return what became of each, 'sent' or the fault."""
    outcomes = []
    to = Address("RECEIVER", "127.0.0.1", receiver.port)
    with Sender(to, "US", [(CT, EXPLICIT)], QUICK) as sender:
        for number in range(count):
            try:
                status = sender.send(Outgoing(CT, f"1.2.{number}", EXPLICIT, (b"the dataset",)))
                outcomes.append("sent" if status == 0 else f"{status:04X}")
            except PeerUnavailable:
                outcomes.append("failed")
    return outcomes


def test_everything_goes_over_one_association() -> None:
    with Receiver(answers=100) as receiver:
        assert send(receiver, 10) == ["sent"] * 10

    assert receiver.associations == 1


def test_a_lost_association_is_opened_again_and_costs_one_object() -> None:
    with Receiver(answers=3) as receiver:
        assert send(receiver, 8) == (["sent"] * 3 + ["failed"]) * 2

    assert receiver.associations == 2


@pytest.mark.parametrize("fault", ["gone", "mute"])
def test_a_peer_that_answers_nothing_is_given_up(fault: str) -> None:
    started_s = time.monotonic()
    with Receiver(answers=0, fault=fault) as receiver:
        assert send(receiver, 50) == ["failed"] * 50

    assert receiver.associations == receiver.received == LOSSES
    assert time.monotonic() - started_s < 5
