"""Which acknowledgements a message asks for (HL7 v2.5.1 2.9.2 and 2.9.3).

    original    MSH-15 and MSH-16 are empty     AA, AE, AR      at once
    enhanced    MSH-15: accept                  CA, CE, CR      at once: it is safe with us
                MSH-16: application             AA, AE, AR      when it is done

A message that was refused at the first level gets nothing at the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ris.hl7.ack import Code
from ris.hl7.message import Message

ACKNOWLEDGEMENT: Final = "ACK"
"""MSH-9.1 of what is itself one: it asks for no answer, or two systems answer for ever."""

_GOOD: Final = frozenset({Code.COMMIT_ACCEPT, Code.ACCEPT})
_BAD: Final = frozenset({Code.COMMIT_ERROR, Code.COMMIT_REJECT, Code.ERROR, Code.REJECT})
# HL7 table 0155; where only one of the two fields is valued, the other one means NE
_CONDITIONS: Final[Mapping[str, frozenset[Code]]] = {
    "AL": _GOOD | _BAD,
    "ER": _BAD,
    "SU": _GOOD,
    "NE": frozenset(),
    "": frozenset(),
}
# code of ERR-3 → MSH-9, MSH-11 or MSH-12 is not acceptable: CR; for any other reason: CE
_NOT_FOR_US: Final = frozenset({"200", "201", "202", "203"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sender in enhanced mode wants to hear."""

    accept: frozenset[Code]
    application: frozenset[Code]

    def wants(self, code: Code | str) -> bool:
        """Return whether this answer is asked for."""
        return code in self.accept or code in self.application


def asked(message: Message) -> Asked | None:
    """Return which acknowledgements a message asks for; None: that of the original mode.

    What is none of HL7 table 0155 counts as AL: too much is better than too little.
    """
    accept, application = message.header.value(15).upper(), message.header.value(16).upper()
    if not (accept or application):
        return None
    always = _CONDITIONS["AL"]
    levels = (
        frozenset({Code.COMMIT_ACCEPT, Code.COMMIT_ERROR, Code.COMMIT_REJECT}),
        frozenset({Code.ACCEPT, Code.ERROR, Code.REJECT}),
    )
    return Asked(
        _CONDITIONS.get(accept, always) & levels[0],
        _CONDITIONS.get(application, always) & levels[1],
    )


def wants_nothing(octets: bytes) -> bool:
    """Return whether a message of ours says that it is not to be answered at all."""
    line = octets.partition(b"\r")[0]
    return line.split(line[3:4] or b"|")[14:16] == [b"NE", b"NE"]  # MSH-1 is the separator itself


def refusal(error: str) -> Code:
    """Return how a message is refused at the first level, by the code of ERR-3."""
    return Code.COMMIT_REJECT if error in _NOT_FOR_US else Code.COMMIT_ERROR
