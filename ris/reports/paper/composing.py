"""A version of a report made ready for paper: whose it is, what was asked, who answers for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from ris import orders, patients
from ris.model import Order, Patient
from ris.reports import ages, queries, subjects
from ris.reports.faults import Words
from ris.reports.model import Practitioner, Report, Version
from ris.reports.paper import words
from ris.reports.paper.model import Letterhead, Paper, Picture, Signature
from ris.reports.states import NAMES, SIGNED, Action, Status
from storage.base import names
from storage.db.engine import Session

NUMBER_LENGTH: Final = 12
"""Of a report without an accession number: so many digits of its uid."""
_PLAIN: Final = frozenset({Status.FINAL})
"""Of these states the title needs no word."""

_WATERMARKS: Final = {
    Status.DRAFT: words.DRAFT,
    Status.TRANSCRIBED: words.DRAFT,
    Status.PRELIMINARY: words.PRELIMINARY,
    Status.UNAPPROVED: words.REVISED,
    Status.CANCELLED: words.RETRACTED,
    Status.RETRACTED: words.RETRACTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """What all papers of a hospital have in common."""

    letterhead: Letterhead
    zone: tzinfo
    root_url: str
    """Where the verify page is, without a slash at its end; '' unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printing:
    """How this one file is made."""

    made_at: datetime
    signature_note: str = ""
    """What kind of signature the file gets; '' none."""
    pictures: Sequence[Picture] = ()


def compose(
    session: Session, report: Report, version: Version, press: Press, printing: Printing
) -> Paper:
    """Return the paper of one version of a report.

    Raises
    ------
    NotFound
        An order of the report is not there any more.
    """
    placed = [orders.get(session, order_id) for order_id in report.order_ids]
    study = subjects.study_of(session, report.study_instance_uids)
    return _Composer(session, report, version, press, placed, study).compose(printing)


@dataclass(frozen=True, slots=True)
class _Composer:
    session: Session
    report: Report
    version: Version
    press: Press
    orders: Sequence[Order]
    study: subjects.StudyFacts

    def compose(self, printing: Printing) -> Paper:
        version, head = self.version, self.press.letterhead
        code = version.verify_code
        number = self._number()
        name = names.in_reading_order(version.subject.patient_name)
        signed = version.status in SIGNED
        unsigned = self._told(words.UNSIGNED) if signed and not printing.signature_note else ""
        whose = (name, version.subject.patient_id, f"{self._told(words.NUMBER)} {number}")
        return Paper(
            letterhead=head,
            language=self.report.language,
            title=self._told(words.TITLES.get(self.study.modality, words.TITLE)),
            number=number,
            version=version.version,
            status="" if version.status in _PLAIN else self._told(NAMES[version.status].words),
            notice=notice(self.session, self.report, version, self.press.zone),
            watermark=self._watermark() or unsigned,
            facts=[*self._facts(name)],
            content=version.content,
            procedure=self._procedure(),
            signatures=[*self._signatures(printing.signature_note)] if signed else (),
            pictures=printing.pictures,
            continuation=" \N{EN DASH} ".join(part for part in (*whose, head.hospital) if part),
            verify_url=f"{self.press.root_url}/verify/{code}"
            if code and self.press.root_url
            else "",
            verify_code=code,
            made_at=printing.made_at.astimezone(self.press.zone),
        )

    def _number(self) -> str:
        numbers = self.report.accession_numbers
        return ", ".join(numbers) or self.report.uid[:NUMBER_LENGTH].upper()

    def _watermark(self) -> str:
        word = _WATERMARKS.get(self.version.status)
        return self._told(word) if word else ""

    def _facts(self, name: str) -> Iterator[tuple[str, str]]:
        subject = self.version.subject
        known = [
            (words.PATIENT, name),
            (words.PATIENT_ID, subject.patient_id),
            (words.AGE, self._age()),
            (words.SEX, self._sex()),
            *self._of_order(),
            (words.PERFORMED, self._performed()),
        ]
        return ((self._told(label), value) for label, value in known if value)

    def _of_order(self) -> Iterator[tuple[Words, str]]:
        if not self.orders:
            return
        order = self.orders[0]
        patient: Patient = patients.shown(self.session, order.patient_id)
        visit = patients.visit(self.session, order.visit_id) if order.visit_id else None
        yield words.ADDRESS, _one_line(patient.patient_address)
        yield words.INSURANCE, visit.insurance_number if visit else ""
        yield words.LOCATION, order.requesting_service or _one_line(visit.location if visit else "")
        yield words.REQUESTER, names.in_reading_order(order.requesting_physician)
        yield words.ACCESSION, ", ".join(self.report.accession_numbers)

    def _age(self) -> str:
        born = self.version.subject.patient_birth_date
        day = (
            self.study.performed_at or self.version.authored_at.astimezone(self.press.zone)
        ).date()
        age = ages.age_at(born, day)
        whole = f"{born[6:8]}/{born[4:6]}/{born[:4]}" if len(born) == len("YYYYMMDD") else born
        return f"{age.told(self.report.language)} ({whole})" if age else whole

    def _sex(self) -> str:
        word = words.SEXES.get(self.version.subject.patient_sex)
        return self._told(word) if word else ""

    def _performed(self) -> str:
        at = self.study.performed_at
        return f"{at:%H:%M %d/%m/%Y}" if at else ""

    def _procedure(self) -> str:
        found = [
            one.code.meaning if one.code and one.code.meaning else one.description
            for order in self.orders
            for one in orders.procedures_of(self.session, order.id)
            if not one.canceled
        ]
        return "; ".join(dict.fromkeys(part for part in found if part)) or self.study.description

    def _signatures(self, note: str) -> Iterator[Signature]:
        version = self.version
        if version.reader.code == version.author.code:
            yield self._signature(words.SIGNER, version.author, note)
            return
        yield self._signature(words.READER, version.reader)
        yield self._signature(words.APPROVER, version.author, note)

    def _signature(self, role: Words, person: Practitioner, note: str = "") -> Signature:
        return Signature(
            role=self._told(role),
            name=f"{person.qualification} {person.name}".strip(),
            licence_number=person.licence_number,
            signed_at=self.version.authored_at.astimezone(self.press.zone),
            note=note,
        )

    def _told(self, term: Words) -> str:
        return term.told(self.report.language)


def notice(session: Session, report: Report, version: Version, zone: tzinfo) -> str:
    """Say what a version changes, and why; '' when it changes nothing."""
    told = {
        Action.CORRECT: words.CORRECTS,
        Action.ADDEND: words.ADDS,
        Action.UNAPPROVE: words.WITHDRAWS,
    }.get(version.action)
    before = _superseded(session, report, version)
    if told is None or before is None:
        return ""
    at = version if version.action is Action.UNAPPROVE else before
    return told.told(report.language).format(
        version=before.version, at=at.authored_at.astimezone(zone), reason=version.reason
    )


def _superseded(session: Session, report: Report, version: Version) -> Version | None:
    """Return the signed version before this one: the paper that somebody may hold."""
    issued = queries.versions(session, report.uid, issued=True)
    before = [one for one in issued if one.revision < version.revision]
    return next((one for one in reversed(before) if one.status in SIGNED), None)


def _one_line(text: str) -> str:
    """Return the components of an HL7 or DICOM text as one line."""
    return ", ".join(part.strip() for part in text.split("^") if part.strip())
