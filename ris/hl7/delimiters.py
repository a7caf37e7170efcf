"""The delimiters of a message, from its own MSH-1 and MSH-2 and not from the book."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Delimiters:
    """What parts fields, components, repetitions and sub-components, and what escapes."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding(self) -> str:
        """As they stand in MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent


STANDARD: Final = Delimiters()
_SMALL_TILDE: Final = "\u02dc"


def read(head: str) -> Delimiters:
    r"""Return the delimiters that the line `head`, ``MSH|^~\&|…``, declares.

    What senders make of MSH-2: the backslash doubled by a template, a small tilde for the
    tilde, the truncation character of 2.7 behind, one missing, or nothing at all. A missing or
    impossible one is the standard's.
    """
    separator = head[3:4]
    if not _possible(separator):
        return STANDARD
    declared = head[4:].partition(separator)[0].replace("\\\\", "\\").replace(_SMALL_TILDE, "~")
    wanted = [*declared[:4]]
    standard = STANDARD.encoding
    chosen: list[str] = []
    for at, usual in enumerate(standard):
        given = wanted[at] if at < len(wanted) else usual
        fits = _possible(given) and given != separator and given not in chosen
        chosen.append(given if fits else usual)
    return Delimiters(separator, *chosen)


def _possible(one: str) -> bool:
    return len(one) == 1 and not one.isalnum() and not one.isspace() and one.isprintable()
