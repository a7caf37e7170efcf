"""Every value of MSH-15 with every one of MSH-16 (HL7 table 0155)."""

import itertools

import pytest

from ris.hl7 import message, modes
from ris.hl7.ack import Code

CONDITIONS = ("", "AL", "NE", "ER", "SU")
# which of good, bad is wanted
WANTED = {"": "", "NE": "", "AL": "good bad", "ER": "bad", "SU": "good"}
ACCEPT = {"good": {"CA"}, "bad": {"CE", "CR"}}
APPLICATION = {"good": {"AA"}, "bad": {"AE", "AR"}}


def asking(accept: str, application: str) -> message.Message:
    return message.read(f"MSH|^~\\&|HIS||||||ORM^O01|7|P|2.5.1|||{accept}|{application}\r".encode())


@pytest.mark.parametrize(("accept", "application"), list(itertools.product(CONDITIONS, repeat=2)))
def test_sender_hears_what_it_asks_for(accept: str, application: str) -> None:
    asked = modes.asked(asking(accept, application))

    if accept == application == "":
        assert asked is None
        return
    assert asked is not None
    assert asked.accept == set().union(*(ACCEPT[one] for one in WANTED[accept].split()))
    assert asked.application == set().union(
        *(APPLICATION[one] for one in WANTED[application].split())
    )
    assert {code for code in Code if asked.wants(code)} == asked.accept | asked.application


def test_condition_that_nobody_knows_asks_for_everything() -> None:
    asked = modes.asked(asking("XX", "al"))

    assert asked is not None
    assert all(asked.wants(code) for code in Code)


@pytest.mark.parametrize(
    ("error", "code"),
    [("200", "CR"), ("201", "CR"), ("202", "CR"), ("203", "CR"), ("101", "CE"), ("207", "CE")],
)
def test_refusal_says_whether_the_header_is_why(error: str, code: str) -> None:
    assert modes.refusal(error) == code


@pytest.mark.parametrize(
    ("conditions", "nothing"),
    [("NE|NE", True), ("NE|NE|VNM", True), ("AL|NE", False), ("NE|AL", False), ("|", False)],
)
def test_message_says_that_it_wants_no_answer(conditions: str, *, nothing: bool) -> None:
    octets = f"MSH|^~\\&|A|||||| ACK|7|P|2.5.1|||{conditions}\rMSA|AA|1\r".encode()

    assert modes.wants_nothing(octets) is nothing


def test_message_of_two_fields_is_answered() -> None:
    assert not modes.wants_nothing(b"MSH|^~")
    assert not modes.wants_nothing(b"")
