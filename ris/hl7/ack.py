r"""Acknowledgements (HL7 v2.5.1 2.9.2), and how our errors read in them.

    AA   safe in the ledger and applied, or known already
    AE   a person at the sender must mend something; the same bytes would fail again
    AR   not for us or not understood, or not now: the sender keeps it and tries again

The answer is in the sender's delimiters, version and character set; MSA-2 is MSH-10 byte by byte.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import uuid4

from ris.hl7 import charsets
from ris.hl7.delimiters import STANDARD
from ris.hl7.escapes import escape
from ris.hl7.message import Message, NoMessage, is_enveloped
from ris.hl7.message import read as message_reader
from ris.model import Cycle
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotFound,
    NotPermitted,
    NotSupported,
    Unavailable,
)

OUR_NAME: Final = "LIENTHONG"
VIETNAM: Final = "VNM"
_OLD: Final = "2.3.1"
_TOLD_MAX: Final = 300


class Code(StrEnum):
    """MSA-1 (HL7 table 0008)."""

    ACCEPT = "AA"
    ERROR = "AE"
    REJECT = "AR"
    COMMIT_ACCEPT = "CA"
    COMMIT_ERROR = "CE"
    COMMIT_REJECT = "CR"


# HL7 table 0357: code → its text, and what a Vietnamese reader is told
ERRORS: Final[Mapping[str, tuple[str, str]]] = {
    "100": ("Segment sequence error", "Sai thứ tự hoặc thiếu đoạn (segment)"),
    "101": ("Required field missing", "Thiếu trường bắt buộc"),
    "102": ("Data type error", "Sai kiểu dữ liệu"),
    "103": ("Table value not found", "Giá trị không có trong bảng mã"),
    "200": ("Unsupported message type", "Không hỗ trợ loại bản tin này"),
    "201": ("Unsupported event code", "Không hỗ trợ sự kiện này"),
    "202": ("Unsupported processing id", "Bản tin thử nghiệm gửi vào hệ thống thật"),
    "203": ("Unsupported version id", "Không hỗ trợ phiên bản này"),
    "204": ("Unknown key identifier", "Mã không tồn tại"),
    "205": ("Duplicate key identifier", "Mã đã tồn tại"),
    "206": ("Application record locked", "Bản ghi đang bị khoá"),
    "207": ("Application internal error", "Lỗi xử lý, xin gửi lại sau"),
}


class MissingValue(Malformed):
    """A value that we insist on is not sent."""


class UnknownValue(Malformed):
    """A value is none of its table."""


class UnsupportedEvent(NotSupported):
    """The message type is known, its trigger event is not."""


class TrialMessage(NotSupported):
    """MSH-11 says that it is not meant for a system that works on real patients."""


class NoSequence(Malformed):
    """A segment is missing that such a message cannot be without."""


# our error → MSA-1 and the code of ERR-3; the nearest ancestor counts
_ANSWERS: Final[Mapping[type[ImagingError], tuple[Code, str]]] = {
    NoMessage: (Code.REJECT, "100"),
    NoSequence: (Code.ERROR, "100"),
    MissingValue: (Code.ERROR, "101"),
    UnknownValue: (Code.ERROR, "103"),
    Malformed: (Code.ERROR, "102"),
    NotFound: (Code.ERROR, "204"),
    Cycle: (Code.ERROR, "207"),
    Conflict: (Code.ERROR, "205"),
    NotPermitted: (Code.REJECT, "207"),
    UnsupportedEvent: (Code.REJECT, "201"),
    TrialMessage: (Code.REJECT, "202"),
    NotSupported: (Code.REJECT, "200"),
    Unavailable: (Code.REJECT, "207"),
}
_POSITION: Final = re.compile(r"([A-Z][A-Z0-9]{2})(?:-(\d+)(?:\.(\d+))?)?(?=[\s:]|$)")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is said of a message that was not applied."""

    code: Code
    error: str
    text: str

    @property
    def position(self) -> tuple[str, str, str] | None:
        """Segment, field and component that the text begins with."""
        match = _POSITION.match(self.text)
        return (match[1], match[2] or "", match[3] or "") if match else None


def fault_of(error: ImagingError) -> Fault:
    """Return how `error` is answered."""
    kind = next((one for one in type(error).__mro__ if one in _ANSWERS), None)
    code, number = _ANSWERS[kind] if kind else (Code.REJECT, "207")
    return Fault(code, number, str(error))


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """One order in an answer of the ORR kind: ORC-1, ORC-2 and ORC-3."""

    control: str
    placer_order_number: str
    filler_order_number: str


# The answers that name the orders, where a sender asks for them (HL7 v2.5.1 chapter 4)
ORDER_ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "ORM": ("ORR", "O02"),
    "OMG": ("ORG", "O20"),
    "OMI": ("ORI", "O24"),
}


def build(
    message: Message,
    code: Code,
    now: datetime,
    fault: Fault | None = None,
    orders: Sequence[OrderAnswer] | None = None,
    conditions: tuple[str, str] = ("", ""),
) -> bytes:
    """Return the acknowledgement of `message`.

    Parameters
    ----------
    now
        Local time of the hospital, aware.
    orders
        When given, the answer is of the ORR kind and names these orders.
    conditions
        MSH-15 and MSH-16 of the answer: which acknowledgement it asks for itself.
    """
    parted, version = message.delimiters, _version(message.version)
    separator = parted.field
    head = _header(message, now, _kind(message, version, orders is not None), conditions)
    vietnamese = message.header.value(17).upper() == VIETNAM
    lines = []
    if fault is not None:
        lines.append(_error(fault, version, separator, parted.component, vietnamese=vietnamese))
    for order in orders or ():
        values = (order.control, order.placer_order_number, order.filler_order_number)
        lines.append(separator.join(["ORC", *(escape(value, parted) for value in values)]))
    told = f"{separator}{escape(_told(fault, vietnamese=False), parted)}" if fault else ""
    charset = _charset(message)
    pieces = [
        charsets.encode(f"{head}\rMSA{separator}{code}{separator}", charset),
        message.control_id_octets or charsets.encode(message.header.raw(10), charset),
        charsets.encode("".join([told if version < (2, 5) else "", "\r"]), charset),
        charsets.encode("".join(f"{line}\r" for line in lines), charset),
    ]
    return b"".join(pieces)


def build_blind(octets: bytes, now: datetime, fault: Fault) -> bytes:
    """Return the answer to something whose MSH cannot be read; `octets` is how it begins."""
    control_id = _control_id(octets)
    head = f"MSH|^~\\&|{OUR_NAME}||||{_timestamp(now)}||ACK|{_new_id()}|P|2.5.1"
    error = _error(fault, (2, 5, 1), "|", "^", vietnamese=False)
    return f"{head}\rMSA|{fault.code}|".encode() + control_id + f"\r{error}\r".encode()


def build_batch(answers: Sequence[bytes], octets: bytes, now: datetime) -> bytes:
    """Return the answers to the messages of one batch as a batch (HL7 v2.5.1 2.10.3).

    One without headers is answered without them.
    """
    if not is_enveloped(octets):
        return b"".join(answers)
    head = f"BHS|^~\\&|{OUR_NAME}||||{_timestamp(now)}".encode()
    body = b"".join([head, b"\r", *answers, f"BTS|{len(answers)}\r".encode()])
    if octets.lstrip(b"\xef\xbb\xbf\0\r\n\t ").startswith(b"FHS"):
        file_head = f"FHS|^~\\&|{OUR_NAME}||||{_timestamp(now)}\r".encode()
        return file_head + body + b"FTS|1\r"
    return body


def code_in(answer: bytes) -> str:
    """Return MSA-1 of an acknowledgement, '' when it has none."""
    match = re.search(rb"(?:^|[\r\n])MSA[^A-Za-z0-9\s]([A-Z]{2})", answer)
    return match[1].decode() if match else ""


def named_in(answer: bytes) -> tuple[str, str]:
    """Return the kind (``ACK^O01``) and the control id of an acknowledgement that we built."""
    line = answer.partition(b"\r")[0].decode("ascii", "replace")
    fields = line.split(line[3:4] or "|")
    if len(fields) <= 9:  # noqa: PLR2004 - MSH-10; MSH-1 is the separator
        return "ACK", ""
    return "^".join(re.split(r"[^A-Z0-9]", fields[8])[:2]), fields[9]


def told_in(answer: bytes) -> str:
    """Return what an acknowledgement says of an error: ERR-3 and ERR-8, or MSA-3; in short."""
    try:
        read = message_reader(answer)
    except ImagingError:
        return ""
    said = [
        read.value("ERR-3.1") or read.value("ERR-1.4"),
        read.value("ERR-8") or read.value("ERR-7") or read.value("MSA-3"),
    ]
    return " ".join(filter(None, said))[:_TOLD_MAX]


def _header(message: Message, now: datetime, kind: str, conditions: tuple[str, str]) -> str:
    header, parted = message.header, message.delimiters

    def sent(number: int) -> str:
        return header.fields[number] if number < len(header.fields) else ""

    fields = [
        parted.encoding,
        *(sent(5) or OUR_NAME, sent(6), sent(3), sent(4)),
        *(_timestamp(now), "", kind.replace("^", parted.component), _new_id()),
        *(sent(11) or "P", sent(12) or _OLD, "", "", *conditions, sent(17), sent(18)),
    ]
    text = parted.field.join(["MSH", *fields])
    return text.replace("\n", " ").rstrip(parted.field)


def _charset(message: Message) -> str:
    """Return the message's character set; of one in ASCII letters alone, what it declares."""
    if message.decoded.charset != "ascii":
        return message.decoded.charset
    return charsets.codec_of(message.header.value(18)) or "ascii"


def _kind(message: Message, version: tuple[int, ...], ask_orders: bool) -> str:  # noqa: FBT001
    if ask_orders and message.code in ORDER_ANSWERS:
        code, event = ORDER_ANSWERS[message.code]
        return f"{code}^{event}^{code}_{event}" if version >= (2, 5) else f"{code}^{event}"
    trigger = escape(message.trigger, STANDARD)
    if version < (2, 3, 1) or not trigger:
        return "ACK"
    return f"ACK^{trigger}^ACK" if version >= (2, 5) else f"ACK^{trigger}"


def _error(
    fault: Fault, version: tuple[int, ...], separator: str, part: str, *, vietnamese: bool
) -> str:
    segment, number, component = fault.position or ("", "", "")
    told = escape(_told(fault, vietnamese=vietnamese), STANDARD)
    if version < (2, 5):
        return separator.join(["ERR", part.join([segment, "1", number, fault.error])])
    place = part.join([segment, "1", number, component]).rstrip(part) if segment else ""
    code = part.join([fault.error, ERRORS[fault.error][0], "HL70357"])
    return separator.join(["ERR", "", place, code, "E", "", "", told])


def _told(fault: Fault, *, vietnamese: bool) -> str:
    english, local = ERRORS[fault.error]
    if not vietnamese:
        return fault.text or english
    segment, number, component = fault.position or ("", "", "")
    if not segment:
        return local
    place = segment + (f"-{number}" if number else "") + (f".{component}" if component else "")
    return f"{local} ({place})"


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part) if found else (2, 3, 1)


def _control_id(octets: bytes) -> bytes:
    """Return MSH-10 of a message that is cut or broken, as far as it can be told."""
    line = re.split(rb"[\r\n]", octets.lstrip(b"\xef\xbb\xbf\0\r\n\t "), maxsplit=1)[0]
    fields = line.split(b"|")
    return fields[9] if fields[0] == b"MSH" and len(fields) > 9 else b""  # noqa: PLR2004 - MSH-10


def _timestamp(now: datetime) -> str:
    return now.strftime("%Y%m%d%H%M%S") + f".{now.microsecond // 1000:03}" + now.strftime("%z")


def _new_id() -> str:
    return uuid4().hex[:20]
