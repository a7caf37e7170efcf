"""Which order a study belongs to: scored rules, each with its points and its reason.

What a device writes into its images is partly typed by hand, so no single rule decides
but the Study Instance UID and the performed step. What contradicts never scores away: an
order of another person is proposed to somebody, and never taken.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from storage.base import names

ATTACH_FROM: Final = 80
"""Points from which an order is taken without asking."""
MARGIN: Final = 25
"""And so much more than the next one has."""
PROPOSE_FROM: Final = 40
NEAR: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who a study or an order is about, as far as it is known."""

    identifiers: frozenset[tuple[str, str]] = frozenset()
    """Patient IDs, each with its issuer or ''."""
    name: str = ""
    """VR PN."""
    birth_date: date | None = None
    birth_year_only: bool = False
    sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What the images of a study, and its performed steps, say about themselves."""

    study_instance_uid: str
    person: Person
    accession_number: str = ""
    modalities: frozenset[str] = frozenset()
    begun: datetime | None = None
    """Local time."""
    requested_procedure_ids: frozenset[str] = frozenset()
    scheduled_step_ids: frozenset[str] = frozenset()
    stations: frozenset[str] = frozenset()
    """AE titles that the images came from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A scheduled step of an order."""

    scheduled_procedure_step_id: str = ""
    modality: str = ""
    stations: frozenset[str] = frozenset()
    start: datetime | None = None
    """Local time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A requested procedure that a study may belong to."""

    id: int
    """Of the requested procedure."""
    person: Person
    order_id: int = 0
    study_instance_uid: str = ""
    accession_number: str = ""
    placer_order_number: str = ""
    requested_procedure_id: str = ""
    steps: tuple[Step, ...] = ()
    performed: bool = False
    """A performed step says that the study was made for it."""
    wrong_entry: bool = False
    """Its device says that this worklist entry was chosen by mistake."""
    cancelled: bool = False
    taken: bool = False
    """Another study is attached to it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What one rule found."""

    rule: str
    points: int


@dataclass(frozen=True, slots=True)
class Scored:
    """An order, and why it is or is not the one."""

    order: Order
    reasons: tuple[Reason, ...]
    mismatches: tuple[str, ...] = ()
    """``name``, ``birth_date``, ``sex``, ``patient_id``: where the two persons differ."""

    @property
    def points(self) -> int:
        """The sum of all rules."""
        return sum(reason.points for reason in self.reasons)


class Outcome(StrEnum):
    """What is to be done about a study."""

    ATTACH = "attach"
    """It belongs to these orders."""
    PROPOSE = "propose"
    """A person decides between these."""
    CONFLICT = "conflict"
    """It names an order of another person, or one that was cancelled: a person decides."""
    NONE = "none"
    """There is no order: the study is provisional."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and the orders that led to it, likeliest first."""

    outcome: Outcome
    scored: tuple[Scored, ...] = field(default=())

    @property
    def chosen(self) -> tuple[Scored, ...]:
        """The orders to attach."""
        return self.scored if self.outcome is Outcome.ATTACH else ()


# Rules


def _same_study_uid(study: Study, order: Order) -> bool:
    return bool(order.study_instance_uid) and study.study_instance_uid == order.study_instance_uid


def _performed(_study: Study, order: Order) -> bool:
    return order.performed


def _same_accession(study: Study, order: Order) -> bool:
    return bool(study.accession_number) and study.accession_number == order.accession_number


def _accession_is_placer(study: Study, order: Order) -> bool:
    sent = study.accession_number
    return bool(sent) and sent == order.placer_order_number and sent != order.accession_number


def _same_step_id(study: Study, order: Order) -> bool:
    own = {step.scheduled_procedure_step_id for step in order.steps} - {""}
    return not own.isdisjoint(study.scheduled_step_ids)


def _same_procedure_id(study: Study, order: Order) -> bool:
    return order.requested_procedure_id in study.requested_procedure_ids - {""}


def _same_patient_id(study: Study, order: Order) -> bool:
    return _share_identifier(study.person, order.person)


def _same_name(study: Study, order: Order) -> bool:
    ours, theirs = study.person.name, order.person.name
    return bool(names.words(ours) and names.words(theirs)) and names.same_person_name(ours, theirs)


def _same_birth_date(study: Study, order: Order) -> bool:
    ours, theirs = study.person, order.person
    return bool(ours.birth_date and theirs.birth_date) and not _born_otherwise(ours, theirs)


def _same_modality(study: Study, order: Order) -> bool:
    return any(_like_modality(step.modality, study.modalities) for step in order.steps)


def _same_station(study: Study, order: Order) -> bool:
    return any(not step.stations.isdisjoint(study.stations) for step in order.steps)


def _same_day(study: Study, order: Order) -> bool:
    begun = study.begun
    return any(begun and one.start and begun.date() == one.start.date() for one in order.steps)


def _near_day(study: Study, order: Order) -> bool:
    begun = study.begun
    near = any(begun and one.start and abs(begun - one.start) <= NEAR for one in order.steps)
    return near and not _same_day(study, order)


def _other_modality(study: Study, order: Order) -> bool:
    known = any(step.modality for step in order.steps)
    return known and bool(study.modalities) and not _same_modality(study, order)


def _taken(_study: Study, order: Order) -> bool:
    return order.taken


def _wrong_entry(_study: Study, order: Order) -> bool:
    return order.wrong_entry


def _cancelled(_study: Study, order: Order) -> bool:
    return order.cancelled


RULES: Final[tuple[tuple[str, int, Callable[[Study, Order], bool]], ...]] = (
    ("performed_step", 100, _performed),
    ("study_uid", 100, _same_study_uid),
    ("accession_number", 60, _same_accession),
    ("accession_is_placer_number", 60, _accession_is_placer),
    ("scheduled_step_id", 30, _same_step_id),
    ("requested_procedure_id", 30, _same_procedure_id),
    ("patient_id", 30, _same_patient_id),
    ("patient_name", 10, _same_name),
    ("birth_date", 10, _same_birth_date),
    ("modality", 15, _same_modality),
    ("station", 10, _same_station),
    ("same_day", 20, _same_day),
    ("within_a_day", 10, _near_day),
    ("other_modality", -30, _other_modality),
    ("has_another_study", -30, _taken),
    ("cancelled", -30, _cancelled),
    ("wrong_entry", -100, _wrong_entry),
)
"""Name, points and test of each rule."""
_CERTAIN: Final = frozenset({"performed_step", "study_uid"})
_SAME_KIND: Final = (
    frozenset({"CR", "DX", "RG", "RF", "DR"}),
    frozenset({"US", "IVUS"}),
    frozenset({"XA", "RF"}),
    frozenset({"PT", "CT", "NM"}),
    frozenset({"ES", "OT", "XC", "SC"}),
)
"""What orders and devices call by each other's names."""
DOCUMENTS: Final = frozenset({"SR", "PR", "KO", "DOC", "REG", "SEG", "RTSTRUCT", "AU"})
"""What is made of images and beside them."""


def score(study: Study, order: Order) -> Scored:
    """Return what each rule says about the study being made for the order."""
    found = (Reason(name, points) for name, points, fits in RULES if fits(study, order))
    return Scored(order, tuple(found), mismatches(study.person, order.person))


def decide(study: Study, orders: Sequence[Order]) -> Decision:
    """Return what is to be done about a study, and why.

    Several orders are taken only when the study, or its performed steps, name them all
    (IHE group case).
    """
    scored = sorted((score(study, order) for order in orders), key=lambda one: -one.points)
    certain = tuple(one for one in scored if _is_certain(one))
    if certain:
        sound = not any(_is_doubtful(one) for one in certain)
        return Decision(Outcome.ATTACH if sound else Outcome.CONFLICT, certain)
    likely = tuple(one for one in scored if one.points >= PROPOSE_FROM)
    if not likely:
        return Decision(Outcome.NONE)
    first, second = likely[0], likely[1].points if len(likely) > 1 else 0
    if first.points >= ATTACH_FROM and _names_order(first) and _is_doubtful(first):
        return Decision(Outcome.CONFLICT, likely)
    takes = first.points >= ATTACH_FROM and first.points - second >= MARGIN
    if takes and not _is_doubtful(first) and not first.order.taken:
        return Decision(Outcome.ATTACH, (first,))
    return Decision(Outcome.PROPOSE, likely)


def _is_certain(scored: Scored) -> bool:
    return any(reason.rule in _CERTAIN for reason in scored.reasons)


def _names_order(scored: Scored) -> bool:
    return any(reason.rule.startswith("accession") for reason in scored.reasons)


def _is_doubtful(scored: Scored) -> bool:
    order = scored.order
    return order.cancelled or order.wrong_entry or bool({*scored.mismatches} - {"sex"})


def _like_modality(wanted: str, found: frozenset[str]) -> bool:
    if not wanted:
        return False
    alike = {wanted}.union(*(kinds for kinds in _SAME_KIND if wanted in kinds))
    return not alike.isdisjoint((found - DOCUMENTS) or found)


# Persons


def mismatches(ours: Person, theirs: Person) -> tuple[str, ...]:
    """Return where two persons contradict each other; what is unknown contradicts nothing.

    Names are compared folded and in any order, without the age behind those of children. A
    birth date of which only the year is known agrees with every day of it.
    """
    return tuple(_mismatches(ours, theirs))


def _mismatches(ours: Person, theirs: Person) -> Iterator[str]:
    if not names.same_person_name(ours.name, theirs.name):
        yield "name"
    if _born_otherwise(ours, theirs):
        yield "birth_date"
    if {ours.sex, theirs.sex} == {"M", "F"}:
        yield "sex"
    if ours.identifiers and theirs.identifiers and not _share_identifier(ours, theirs):
        yield "patient_id"


def _born_otherwise(ours: Person, theirs: Person) -> bool:
    one, other = ours.birth_date, theirs.birth_date
    if one is None or other is None:
        return False
    if ours.birth_year_only or theirs.birth_year_only or _is_new_year(one) or _is_new_year(other):
        return one.year != other.year
    return one != other


def _is_new_year(day: date) -> bool:
    """Whether it is what stands for a year where only that is known."""
    return (day.month, day.day) == (1, 1)


def _share_identifier(ours: Person, theirs: Person) -> bool:
    return any(
        number == other and (issuer == giver or not issuer or not giver)
        for number, issuer in ours.identifiers
        for other, giver in theirs.identifiers
    )
