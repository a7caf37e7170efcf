"""HL7 v2 messages, read by position and without belief in any version's structure.

A message is a list of segments, a segment a list of fields, and what a field holds is cut up
when somebody asks for it. Segments of no version, out of place, too many or too few are no
error here: what is needed and missing is the mapping's business.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from ris.hl7 import charsets, delimiters
from ris.hl7.charsets import Decoded
from ris.hl7.delimiters import Delimiters
from ris.hl7.escapes import unescape
from storage.base.errors import Malformed

MAX_SEGMENTS: Final = 2000
MAX_REPETITIONS: Final = 500
MAX_FIELD: Final = 64 << 10
"""Characters; texts and attachments may be longer (`_LONG`)."""
_LONG: Final = frozenset({"OBX", "NTE", "TXA"})
NULL: Final = '""'
"""The value that deletes, where an empty one leaves as it is (HL7 v2.5.1 2.5.3)."""

_SEGMENT: Final = re.compile(r"[ \t]*([A-Z][A-Z0-9]{2})(?=$|[^\w\s])")
_HEAD: Final = re.compile(rb"[\0\s]*(?:\xef\xbb\xbf)?[\0\s]*(MSH[^\r\n]*)")
_LITERAL: Final = "\\r\\n"
_LITERAL_BREAK: Final = re.compile(r"(?:\\r\\n|\\r|\\n)(?=[A-Z][A-Z0-9]{2}[^\w\s]|$)")


class NoMessage(Malformed):
    """The bytes do not begin with an MSH segment that can be read."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a message: ``PID-3.1``, all counted from 1 as HL7 does; 0 is the whole."""

    segment: str
    field: int
    component: int = 0
    subcomponent: int = 0

    @classmethod
    def of(cls, path: str) -> "Position":
        """Read ``SEG-field[.component[.subcomponent]]``.

        Raises
        ------
        Malformed
            It is not written so.
        """
        match = re.fullmatch(r"([A-Z][A-Z0-9]{2})-(\d+)(?:\.(\d+))?(?:\.(\d+))?", path)
        if match is None:
            raise Malformed(f"{path!r} is no position: SEG-field.component")
        return cls(match[1], int(match[2]), int(match[3] or 0), int(match[4] or 0))


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; `fields[0]` is its name, and in MSH `fields[1]` the separator."""

    name: str
    fields: Sequence[str]
    delimiters: Delimiters
    charset: str = "utf-8"

    def repetitions(self, number: int) -> list[str]:
        """Return the repetitions of a field as they stand, [] when it is not sent."""
        text = self.fields[number] if number < len(self.fields) else ""
        if not text:
            return []
        if len(text) > MAX_FIELD and self.name not in _LONG:
            raise Malformed(f"{self.name}-{number}: more than {MAX_FIELD} characters")
        if text.count(self.delimiters.repetition) >= MAX_REPETITIONS:
            raise Malformed(f"{self.name}-{number}: more than {MAX_REPETITIONS} repetitions")
        return text.split(self.delimiters.repetition)

    def raw(self, number: int, component: int = 0, subcomponent: int = 0) -> str:
        """Return the first repetition of a field, or a part of it, escapes and all."""
        repetitions = self.repetitions(number)
        return self.part(repetitions[0], component, subcomponent) if repetitions else ""

    def value(self, number: int, component: int = 0, subcomponent: int = 0) -> str:
        """Return the first repetition of a field, or a part of it, as it is meant.

        The first sub-component of the only component that a sender fills is the field itself.
        """
        return self.meant(self.raw(number, component, subcomponent))

    def text(self, number: int) -> str:
        """Return a whole field of free text: delimiters in it are letters, repetitions lines."""
        text = self.fields[number] if number < len(self.fields) else ""
        return self.meant(text.replace(self.delimiters.repetition, "\n")).strip()

    def part(self, repetition: str, component: int, subcomponent: int = 0) -> str:
        """Return one component of a repetition, '' when it is not sent."""
        if not component:
            return repetition
        components = repetition.split(self.delimiters.component)
        text = components[component - 1] if component <= len(components) else ""
        if not subcomponent:
            return text
        parts = text.split(self.delimiters.subcomponent)
        return parts[subcomponent - 1] if subcomponent <= len(parts) else ""

    def meant(self, text: str) -> str:
        """Return `text` without its escapes and its outer blanks."""
        return unescape(text, self.delimiters, self.charset).strip()


@dataclass(frozen=True)
class Message:
    """One message as it was received."""

    decoded: Decoded
    delimiters: Delimiters
    segments: Sequence[Segment]
    control_id_octets: bytes = field(default=b"", repr=False)
    """MSH-10 as it came, for MSA-2."""

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @cached_property
    def code(self) -> str:
        """MSH-9.1, the message code: ``ORM``."""
        return self.header.value(9, 1).upper()

    @cached_property
    def trigger(self) -> str:
        """MSH-9.2, the trigger event: ``O01``; of EVN-1 where MSH-9 names none."""
        return (self.header.value(9, 2) or self.value("EVN-1")).upper()

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.value(10)

    @property
    def version(self) -> str:
        """MSH-12.1."""
        return self.header.value(12, 1)

    def all(self, name: str) -> Iterator[Segment]:
        """Yield the segments of that name in their order."""
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment | None:
        """Return the first segment of that name."""
        return next(self.all(name), None)

    def value(self, path: str) -> str:
        """Return what stands at `path` in the first segment of that name, '' when nothing does."""
        at = Position.of(path)
        segment = self.first(at.segment)
        return segment.value(at.field, at.component, at.subcomponent) if segment else ""


def read(octets: bytes, usual_charset: str = "") -> Message:
    """Read one message.

    Raises
    ------
    NoMessage
        It does not begin with MSH.
    Malformed
        It has more segments than we take.
    """
    head = _head(octets)
    decoded = charsets.decode(octets.lstrip(b"\0\r\n\t "), _declared(head), usual_charset)
    lines = segment_lines(decoded.text)
    if not lines or not lines[0].startswith("MSH"):
        raise NoMessage("the message does not begin with MSH")
    if len(lines) > MAX_SEGMENTS:
        raise Malformed(f"more than {MAX_SEGMENTS} segments")
    parted = delimiters.read(lines[0])
    segments = [_segment(line, parted, decoded.charset) for line in lines]
    return Message(decoded, parted, segments, _control_id(head))


def segment_lines(text: str) -> list[str]:
    r"""Return the segments of `text`, one a line, whatever ends them.

    CR as the standard has it, LF, CRLF, a mixture, or the four characters ``\r\n``. A line that
    does not begin like a segment belongs to the field before it: base64 with line ends in it.
    """
    bare = text.strip("\ufeff\0\r\n\t ")
    if "\r" not in bare and "\n" not in bare and _LITERAL[:2] in bare:
        bare = _LITERAL_BREAK.sub("\r", bare)
    lines: list[list[str]] = []
    for line in bare.replace("\r\n", "\r").replace("\n", "\r").split("\r"):
        if match := _SEGMENT.match(line):
            lines.append([line[match.start(1) :]])
        elif line.strip() and lines:
            lines[-1].append(line)
    return ["\n".join(parts) for parts in lines]


def split_batch(octets: bytes) -> list[bytes]:
    """Return the messages of a batch or file (HL7 v2.5.1 2.10.3), or the one message itself.

    A batch is FHS, BHS … BTS, FTS around its messages, each of the four optional: what has more
    than one MSH is one too. [] is a batch without a message.
    """
    bare = octets.lstrip(_BEFORE)
    starts = [found.start(1) for found in _BATCHED.finditer(bare)]
    if not is_enveloped(octets) and (not bare.startswith(b"MSH") or len(starts) < 2):  # noqa: PLR2004
        return [octets]
    borders = [*starts, len(bare)]
    parts = (bare[a:b] for a, b in zip(starts, borders[1:], strict=True))
    return [_TRAILER.sub(b"", part) for part in parts]


def is_enveloped(octets: bytes) -> bool:
    """Whether something begins with the header of a file or of a batch."""
    return octets.lstrip(_BEFORE).startswith((b"FHS", b"BHS"))


def declared_count(octets: bytes) -> int | None:
    """Return how many messages the batches of `octets` say they have (BTS-1), None if none does."""
    said = [int(one) for one in _COUNT.findall(octets)]
    return sum(said) if said else None


_BEFORE: Final = b"\xef\xbb\xbf\0\r\n\t "
_BATCHED: Final = re.compile(rb"(?:^|[\r\n])[ \t]*(MSH[^A-Za-z0-9\s])")
_COUNT: Final = re.compile(rb"[\r\n][ \t]*BTS[^A-Za-z0-9\s](\d{1,9})")
_TRAILER: Final = re.compile(
    rb"[\r\n]+[ \t]*(?:BTS|FTS|BHS|FHS)(?:[^A-Za-z0-9\s][^\r\n]*)?", re.DOTALL
)


def _segment(line: str, parted: Delimiters, charset: str) -> Segment:
    fields = line.split(parted.field)
    if fields[0] in {"MSH", "FHS", "BHS"}:
        fields.insert(1, parted.field)
    return Segment(fields[0].strip(), fields, parted, charset)


def _head(octets: bytes) -> list[bytes]:
    """Return the fields of MSH as bytes; [] when only a decoder can tell them (UTF-16)."""
    match = _HEAD.match(octets)
    if match is None:
        if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
            return []
        raise NoMessage("the message does not begin with MSH")
    line = match[1].partition(b"\\r\\n")[0]
    separator = line[3:4]
    if not separator or separator.isalnum() or not b"!" <= separator <= b"~":
        raise NoMessage("MSH-1 is no field separator")
    fields = line.split(separator)
    fields.insert(1, separator)
    return fields


def _declared(head: Sequence[bytes]) -> str:
    return head[18].decode("ascii", "replace").strip() if len(head) > 18 else ""  # noqa: PLR2004 - MSH-18


def _control_id(head: Sequence[bytes]) -> bytes:
    return head[10] if len(head) > 10 else b""  # noqa: PLR2004 - MSH-10
