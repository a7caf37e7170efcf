"""Why an order is not on the worklist of a console: its last query, asked again about that order.

    no such order ─── in the ledger of messages? dead letter, refused, or never received
    an order ──────── could any worklist show it? which keys of the query leave it out?

The same `Filter` judges that answers consoles, so the explanation is what happened. Every
finding is data, and a sentence in Vietnamese or English.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Final

from ris import identity, orders, queries, worklist
from ris.hl7 import ledger
from ris.hl7.ledger import State
from ris.keys import Attributes
from ris.model import Order, OrderState, StepStatus
from ris.queries import LastQuery
from ris.worklist import MODALITY, START_DATE, START_TIME, STATION, STATUS, Filter, Query, Scheduled
from storage.access import peers
from storage.base.errors import NotFound
from storage.db.engine import Session

MOST_MESSAGES: Final = 5


class Cause(StrEnum):
    """Why an order is not shown."""

    SHOWN = "shown"
    """Nothing: it matches every key."""
    NEVER_ASKED = "never_asked"
    ASKED_BEFORE = "asked_before"
    """The console asked last before the order came, or was changed."""
    NOT_RECEIVED = "not_received"
    DEAD_LETTER = "dead_letter"
    PROFILE = "profile"
    """The profile of its sender makes nothing of it that a worklist could show."""
    CANCELED = "canceled"
    STATUS = "status"
    STATION = "station"
    DATE = "date"
    MODALITY = "modality"
    CHARACTER_SET = "character_set"
    """The console wrote a name in letters that nobody can read."""
    PATIENT = "patient"
    KEY = "key"
    """Another key of the query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason, as data."""

    cause: Cause
    keyword: str = ""
    """The key that leaves it out."""
    asked: str = ""
    held: str = ""
    step: str = ""
    """Scheduled Procedure Step ID."""
    message: int | None = None
    """In the ledger of HL7 messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known about an order and a console."""

    number: str
    ae_title: str
    query: LastQuery | None
    """None: the console never asked."""
    findings: tuple[Finding, ...]

    @property
    def is_shown(self) -> bool:
        """Whether the order is on the worklist of the console."""
        return all(one.cause is Cause.SHOWN for one in self.findings)


def explain(session: Session, number: str, ae_title: str, zone: tzinfo) -> Explanation:
    """Return why the order of this number is not on the worklist of this console.

    Parameters
    ----------
    number
        An accession number, or a placer or filler order number.
    zone
        The time zone of the hospital.
    """
    try:
        last: LastQuery | None = queries.last(session, ae_title)
    except NotFound:
        last = None
    found = orders.find_by_number(session, number)
    if not found:
        findings = [*_missing(session, number)]
    else:
        findings = [one for order in found for one in _about(session, order, last, ae_title, zone)]
        findings += _since(found, last, findings)
    if last is None:
        findings.append(Finding(cause=Cause.NEVER_ASKED, asked=ae_title))
    unique = tuple(dict.fromkeys(findings)) or (Finding(cause=Cause.SHOWN),)
    return Explanation(number=number, ae_title=ae_title, query=last, findings=unique)


# No such order


def _missing(session: Session, number: str) -> Iterator[Finding]:
    causes = {State.DEAD: Cause.DEAD_LETTER, State.REFUSED: Cause.PROFILE}
    messages = ledger.mentioning(session, number, MOST_MESSAGES)
    told = [one for one in messages if one.state in causes]
    for one in told:
        yield Finding(cause=causes[one.state], held=one.reason, message=one.id)
    if not told:
        yield Finding(cause=Cause.NOT_RECEIVED)


# An order


def _about(
    session: Session, order: Order, last: LastQuery | None, ae_title: str, zone: tzinfo
) -> Iterator[Finding]:
    if order.awaited or order.state is OrderState.CANCELED:
        yield Finding(cause=Cause.CANCELED, held=order.control)
        return
    steps = worklist.load(session, [step.id for step in orders.steps_of(session, order.id)])
    if not steps:
        yield _dropped(session, order)
    wanted = Filter(_query(session, last, ae_title), zone)
    judged = [_findings(session, wanted, one) for one in steps]
    if judged and all(judged):  # no step is shown: say of each why
        for findings in judged:
            yield from findings


def _query(session: Session, last: LastQuery | None, ae_title: str) -> Query:
    try:
        every_station = peers.get(session, ae_title).every_station
    except NotFound:
        every_station = False
    keys = last.keys if last else {}
    return Query(keys=keys, calling_ae_title=ae_title, every_station=every_station)


def _findings(session: Session, wanted: Filter, one: Scheduled) -> list[Finding]:
    number = one.step.scheduled_procedure_step_id
    if one.procedure.canceled or one.step.status is StepStatus.CANCELED:
        return [Finding(cause=Cause.CANCELED, held=one.order.control, step=number)]
    if not one.step.modality and not one.step.station_ae_titles:
        return [_dropped(session, one.order, number)]
    found = []
    if not wanted.shows(one):
        held = one.step.status.value
        found.append(Finding(cause=Cause.STATUS, keyword=STATUS, held=held, step=number))
    entry = wanted.entry(one)
    failing = wanted.failing(entry)
    found += [_excluded(wanted, keyword, entry, number) for keyword in failing]
    return found


def _dropped(session: Session, order: Order, step: str = "") -> Finding:
    """Say what the sender's profile left of an order that no worklist can show."""
    message = orders.message_of(session, order.id)
    try:
        notes = ledger.get(session, message).reason if message else ""
    except NotFound:
        notes = ""
    return Finding(cause=Cause.PROFILE, held=notes, step=step, message=message or None)


def _excluded(wanted: Filter, keyword: str, entry: Attributes, step: str) -> Finding:
    asked = wanted.keys[keyword]
    cause = _CAUSES.get(keyword) or (
        Cause.PATIENT if keyword.startswith(("Patient", "Issuer", "OtherPatient")) else Cause.KEY
    )
    if keyword.endswith("Name") and _is_garbled(asked):
        cause = Cause.CHARACTER_SET
    return Finding(cause=cause, keyword=keyword, asked=asked, held=_held(entry, keyword), step=step)


_CAUSES: Final[Mapping[str, Cause]] = {
    STATION: Cause.STATION,
    START_DATE: Cause.DATE,
    START_TIME: Cause.DATE,
    MODALITY: Cause.MODALITY,
    STATUS: Cause.STATUS,
}
_CONTROL: Final = re.compile("[\x80-\x9f]")


def _is_garbled(name: str) -> bool:
    """Return whether letters were lost, or are those of another character set."""
    if identity.is_damaged(name) or _CONTROL.search(name):
        return True
    for charset in ("cp1252", "latin-1"):
        try:
            return not name.isascii() and bool(name.encode(charset).decode("utf-8"))
        except UnicodeError:
            continue
    return False


def _held(entry: Attributes, keyword: str) -> str:
    """Return the value of the entry that a dotted keyword names, of the first item."""
    name, _, rest = keyword.partition(".")
    value = entry.get(name, "")
    if not rest:
        return value if isinstance(value, str) else ""
    return "" if isinstance(value, str) or not value else _held(value[0], rest)


def _since(
    found: Sequence[Order], last: LastQuery | None, findings: Sequence[Finding]
) -> list[Finding]:
    """Tell of an order that came, or was changed, only after the console asked."""
    changed = max(order.changed_at for order in found)
    if last is None or findings or changed <= last.asked_at:
        return []
    asked, held = (_instant(one) for one in (last.asked_at, changed))
    return [Finding(cause=Cause.ASKED_BEFORE, asked=asked, held=held)]


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


# Sentences


class Language(StrEnum):
    """Of the people who read it."""

    VI = "vi"
    EN = "en"


_SENTENCES: Final[Mapping[Cause, Mapping[Language, str]]] = {
    Cause.SHOWN: {
        Language.VI: "Chỉ định có trong danh sách của máy này: mọi điều kiện tìm đều khớp.",
        Language.EN: "The order is on this console's worklist: it matches every key.",
    },
    Cause.NEVER_ASKED: {
        Language.VI: "Chưa có lần hỏi danh sách nào từ AE “{asked}”: máy chưa kết nối được, "
        "hoặc dùng AE title khác.",
        Language.EN: "No worklist query ever came from “{asked}”: it does not reach this server, "
        "or calls itself otherwise.",
    },
    Cause.ASKED_BEFORE: {
        Language.VI: "Máy hỏi lần cuối lúc {asked}, trước khi chỉ định đến hoặc thay đổi "
        "lúc {held}: hãy làm mới danh sách trên máy.",
        Language.EN: "The console asked last at {asked}, before the order came or was changed "
        "at {held}: refresh the list on the console.",
    },
    Cause.NOT_RECEIVED: {
        Language.VI: "Chưa nhận được chỉ định có số này.",
        Language.EN: "No order of this number was received.",
    },
    Cause.DEAD_LETTER: {
        Language.VI: "Bản tin HL7 số {message} không xử lý được: {held}",
        Language.EN: "HL7 message {message} could not be applied: {held}",
    },
    Cause.PROFILE: {
        Language.VI: "Theo cấu hình của nơi gửi, chỉ định không có thiết bị hay loại máy để đưa "
        "vào danh sách (bản tin {message}). {held}",
        Language.EN: "By the profile of its sender nothing of it can be put on a worklist "
        "(message {message}). {held}",
    },
    Cause.CANCELED: {
        Language.VI: "Chỉ định đã bị hủy ({held}).",
        Language.EN: "The order was cancelled ({held}).",
    },
    Cause.STATUS: {
        Language.VI: "Trạng thái của bước {step} là {held}, không còn trong danh sách.",
        Language.EN: "Step {step} is {held}, and not on the list.",
    },
    Cause.STATION: {
        Language.VI: "Máy hỏi cho trạm “{asked}”, bước {step} được hẹn ở “{held}”.",
        Language.EN: "The console asks for station “{asked}”, step {step} is for “{held}”.",
    },
    Cause.DATE: {
        Language.VI: "Máy hỏi ngày giờ {asked}, bước {step} được hẹn {held}.",
        Language.EN: "The console asks for {asked}, step {step} is scheduled for {held}.",
    },
    Cause.MODALITY: {
        Language.VI: "Máy hỏi loại máy {asked}, bước {step} là {held}.",
        Language.EN: "The console asks for modality {asked}, step {step} is {held}.",
    },
    Cause.CHARACTER_SET: {
        Language.VI: "Máy gửi tên “{asked}” sai bộ ký tự, không khớp với “{held}”: "
        "tìm theo mã bệnh nhân, hoặc gõ không dấu.",
        Language.EN: "The console sends the name “{asked}” in a wrong character set, which does "
        "not match “{held}”: ask by Patient ID, or without accents.",
    },
    Cause.PATIENT: {
        Language.VI: "Máy hỏi bệnh nhân {keyword} “{asked}”, chỉ định là của “{held}”.",
        Language.EN: "The console asks for {keyword} “{asked}”, the order has “{held}”.",
    },
    Cause.KEY: {
        Language.VI: "Điều kiện {keyword} của máy là “{asked}”, chỉ định có “{held}”.",
        Language.EN: "The console's key {keyword} is “{asked}”, the order has “{held}”.",
    },
}


def tell(finding: Finding, language: Language) -> str:
    """Return a finding as a sentence."""
    facts = {
        "keyword": finding.keyword.rpartition(".")[2],
        "asked": finding.asked,
        "held": finding.held,
        "step": finding.step,
        "message": finding.message or "-",
    }
    return _SENTENCES[finding.cause][language].format_map(facts).strip()
