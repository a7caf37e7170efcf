from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.hl7 import mllp
from ris.hl7.mllp import Deframer, FrameTooLong, NoFrame, frame

ONE = b"MSH|^~\\&|A|B\rPID|1\r"
TWO = b"MSH|^~\\&|C|D\rPID|2\r"


def messages(*pieces: bytes) -> list[bytes]:
    deframer = Deframer()
    found = [message for piece in pieces for message in deframer.feed(piece)]
    last = deframer.finish()
    return found if last is None else [*found, last]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (frame(ONE), [ONE]),
        (frame(ONE) + frame(TWO), [ONE, TWO]),
        (b"\r\n\0 " + frame(ONE) + b"\n", [ONE]),
        (b"junk " + frame(ONE), [ONE]),
        (b"\x0b" + ONE + b"\x1c\x0b" + TWO + b"\x1c\r", [ONE, TWO]),
        (b"\x0b" + ONE + b"\x1c", [ONE]),
        (b"\x0b" + ONE + b"\x1c\n" + frame(TWO), [ONE, TWO]),
        (ONE + b"\x1c\r" + frame(TWO), [ONE, TWO]),
        (frame(b"MSH|a\x0bb\x1cc"), [b"MSH|a\x0bb\x1cc"]),
        (b"\x0b" + ONE[:9] + frame(TWO), [TWO]),
        (b"\x0b" + ONE, []),
        (b"\x0b\x1c\r" + frame(TWO), [b"", TWO]),
        (b"", []),
    ],
    ids=[
        "one",
        "two in one piece",
        "noise around",
        "junk before",
        "no CR before the next",
        "no CR at the end",
        "LF for CR",
        "no start byte",
        "start and end bytes inside text",
        "given up and begun again",
        "unfinished",
        "empty frame",
        "nothing",
    ],
)
def test_every_oddity_of_frames_is_read(sent: bytes, expected: list[bytes]) -> None:
    assert messages(sent) == expected


@given(st.lists(st.integers(0, 200), max_size=8))
def test_frames_come_out_alike_however_they_are_cut(cuts: list[int]) -> None:
    sent = b"\0" + frame(ONE) + b"\n" + frame(TWO) + frame(ONE)
    borders = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})

    assert messages(*(sent[a:b] for a, b in pairwise(borders))) == [ONE, TWO, ONE]


@pytest.mark.parametrize("offset", range(len(frame(ONE)) - 1))
def test_nothing_comes_of_a_frame_that_is_cut(offset: int) -> None:
    assert messages(frame(ONE)[:offset]) == []


def test_frame_without_end_is_refused_at_the_limit() -> None:
    deframer = Deframer(max_frame=100)
    deframer.feed(b"\x0b" + ONE)

    with pytest.raises(FrameTooLong, match="100 bytes") as refused:
        deframer.feed(b"x" * 100)

    assert refused.value.head.startswith(b"MSH|")


def test_peer_that_speaks_something_else_is_refused() -> None:
    deframer = Deframer()

    deframer.feed(b"x" * mllp.MAX_NOISE)

    with pytest.raises(NoFrame):
        deframer.feed(b"GET / HTTP/1.1\r\n")


def test_noise_that_is_no_junk_may_go_on_for_ever() -> None:
    deframer = Deframer()

    for _ in range(mllp.MAX_NOISE):
        assert deframer.feed(b"\r\n") == []

    assert deframer.feed(frame(ONE)) == [ONE]


def test_frame_given_up_is_counted() -> None:
    deframer = Deframer()

    deframer.feed(b"\x0b" + ONE[:9] + frame(TWO))

    assert deframer.restarts == 1


def test_end_byte_waits_for_what_follows() -> None:
    deframer = Deframer()

    assert deframer.feed(b"\x0b" + ONE + b"\x1c") == []
    assert deframer.ending
    assert deframer.feed(b"\r") == [ONE]
    assert not deframer.begun
