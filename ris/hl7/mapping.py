"""Values out of a scope by the paths of a profile: what is not sent, deleted, or not readable."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final, TypeVar

from ris.hl7.grouping import Scope
from ris.hl7.message import NULL, Segment
from ris.hl7.profile import Path, Profile
from ris.requests import Code, Identifier

Value = TypeVar("Value")

_AGE: Final = re.compile(r"\s+\d{1,3}\s?(?:TH|NT|T)$", re.IGNORECASE)
_NAME_DELIMITERS: Final = re.compile(r"[\\^=]+")
# IN PN, of XPN: family, given, middle, prefix, suffix; of XCN the same one component later
_XPN_ORDER: Final = (1, 2, 3, 5, 4)
_XCN_ORDER: Final = (2, 3, 4, 6, 5)


@dataclass(slots=True)
class Reader:
    """Reads one scope by one profile and notes what it had to pass over."""

    scope: Scope
    profile: Profile
    zone: tzinfo
    notes: list[str] = field(default_factory=list)

    def within(self, scope: Scope) -> "Reader":
        """Return a reader of another scope that writes the same notes."""
        return Reader(scope, self.profile, self.zone, self.notes)

    def text(self, name: str) -> str:
        """Return the value of that name, '' when it is not sent or deleted."""
        return self.maybe(name) or ""

    def maybe(self, name: str) -> str | None:
        """Return the value of that name: None when it is not sent, '' when it is deleted."""
        path = self.path(name)
        if path is None:
            return None
        value = self.scope.value(path.at)
        return "" if value == NULL else value

    def path(self, name: str) -> Path | None:
        """Return the first path of that name at which something stands."""
        return next((path for path in self.profile.of(name) if self._stands(path)), None)

    def first(self, name: str, read: Callable[[str], Value]) -> Value | None:
        """Return the first value of that name that `read` can read; note the others."""
        for path in self.profile.of(name):
            if self._stands(path) and (text := self.scope.value(path.at)) != NULL:
                try:
                    return read(text)
                except ValueError as error:
                    at = path.at
                    self.notes.append(f"{at.segment}-{at.field} passed over: {error}")
        return None

    def segment(self, name: str) -> tuple[Segment, str] | None:
        """Return the segment of the value of that name, and its first repetition as sent."""
        path = self.path(name)
        segment = self.scope.first(path.at.segment) if path else None
        if path is None or segment is None:
            return None
        return segment, segment.raw(path.at.field)

    def free_text(self, name: str) -> str | None:
        """Return a field in which every delimiter is a letter."""
        path = self.path(name)
        segment = self.scope.first(path.at.segment) if path else None
        if path is None or segment is None:
            return None
        text = segment.text(path.at.field)
        return "" if text == NULL else text

    def code(self, name: str) -> Code | None:
        """Return a coded value (CE, CWE), from the component on that the path names."""
        path, found = self.path(name), self.segment(name)
        if path is None or found is None:
            return None
        segment, repetition = found
        first = path.at.component or 1
        value, meaning, scheme = (
            segment.meant(segment.part(repetition, n)) for n in range(first, first + 3)
        )
        if value == NULL or not (value or meaning):
            return None
        return Code(value, meaning, scheme)

    def words(self, name: str) -> str | None:
        """Return the components of a field as one text, parted by commas."""
        found = self.segment(name)
        if found is None:
            return None
        segment, repetition = found
        if repetition == NULL:
            return ""
        parts = repetition.split(segment.delimiters.component)
        meant = (
            segment.meant(part.replace(segment.delimiters.subcomponent, " ")) for part in parts
        )
        return ", ".join(part for part in meant if part)

    def description(self, name: str) -> str | None:
        """Return the meaning of a coded value, its code when it has none."""
        path = self.path(name)
        if path is not None and self.scope.raw(path.at) == NULL:
            return ""
        code = self.code(name)
        return (code.meaning or code.value) if code else None

    def person(self, name: str) -> str | None:
        """Return the first person of a field (XCN) in VR PN."""
        found = self.segment(name)
        if found is None:
            return None
        segment, repetition = found
        if repetition == NULL:
            return ""
        written = person_name(segment, repetition, _XCN_ORDER)
        if "^" not in written.strip("^"):  # one part alone is the whole name
            written = written.strip("^")
        return written or segment.meant(segment.part(repetition, 1))

    def _stands(self, path: Path) -> bool:
        text = self.scope.raw(path.at)
        if not text or (path.number and not re.search(r"\d", text)):
            return False
        return path.unlike is None or text != self.scope.raw(path.unlike)


def patient_name(segment: Segment, number: int, *, strip_age: bool) -> str | None:
    """Return the name of PID-5 in VR PN, None when it is not sent.

    A name in one component stays in one: nobody can tell family from given name by looking.
    """
    repetition = segment.raw(number)
    if not repetition:
        return None
    if repetition == NULL:
        return ""
    name = person_name(segment, repetition, _XPN_ORDER)
    return _AGE.sub("", name) if strip_age else name


def person_name(segment: Segment, repetition: str, order: Sequence[int]) -> str:
    """Return the name in a repetition of XPN or XCN, its components in the order of VR PN."""
    parts = [_plain(segment, segment.part(repetition, component)) for component in order]
    return "^".join(parts).rstrip("^")


def identifiers(segment: Segment, number: int, issuer: str) -> list[Identifier]:
    """Return the identifiers of a field (CX), `issuer` where none is named."""
    found = []
    for repetition in segment.repetitions(number):
        value = segment.meant(segment.part(repetition, 1))
        if value and value != NULL:
            authority = segment.meant(segment.part(repetition, 4, 1))
            kind = segment.meant(segment.part(repetition, 5))
            found.append(Identifier(value, authority or issuer, kind))
    return found


def _plain(segment: Segment, text: str) -> str:
    """Return a part of a name; a surname's own parts (FN) are in its first sub-component."""
    mark = segment.delimiters.subcomponent
    whole = text if f" {mark}" in text or f"{mark} " in text else text.partition(mark)[0]
    return _NAME_DELIMITERS.sub(" ", segment.meant(whole)).strip()
