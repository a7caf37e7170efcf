"""Patients and studies of the index by criteria, in the order of their ids, page by page.

Which of them another floor knows more of is told by a subquery, so that one statement finds a page.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from storage.archive import rows, tables
from storage.archive.model import Level
from storage.db import criteria
from storage.db.criteria import (
    Criterion,
    Instants,
    Mode,
    Rule,
    Rules,
    Token,
    Wanted,
    Words,
    each,
)
from storage.db.engine import Session

PATIENT: Final = "a"
"""Begins the public id of a patient."""
_NUMBER: Final = re.compile("[0-9]{1,18}", re.ASCII)
STUDY_UID: Final = "urn:dicom:uid"
"""The system of UIDs."""
_patients, _studies, _series = tables.patients.c, tables.studies.c, tables.series.c
_GENDERS: Final[Mapping[str, str]] = {"female": "F", "male": "M", "other": "O"}
MOST_SERIES: Final = 1000
"""Of one study, in what is loaded of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePatient:
    """A patient as the archive shows it; dates as DICOM writes them."""

    id: int
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSeries:
    """One series of a study."""

    series_instance_uid: str
    modality: str
    series_number: int | None
    series_description: str
    body_part_examined: str
    laterality: str
    series_date: str
    series_time: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStudy:
    """A study with its series; dates and times as DICOM writes them."""

    id: int
    study_instance_uid: str
    patient: ArchivePatient
    accession_number: str
    study_date: str
    study_time: str
    study_description: str
    referring_physician_name: str
    modalities: tuple[str, ...]
    number_of_series: int
    number_of_instances: int
    received_at: datetime
    changed_at: datetime
    series: tuple[ListedSeries, ...]


# Patients


def find_patients(session: Session, wanted: Wanted, but_not: Select[Any]) -> list[int]:
    """Return the ids of a page of patients, those of `but_not` left out."""
    where = [*criteria.conditions(_PATIENT, wanted.criteria), _patients.id.not_in(but_not)]
    return criteria.page_ids(session, _patients.id, where, wanted)


def count_patients(session: Session, asked: Sequence[Criterion], but_not: Select[Any]) -> int:
    """Return how many patients match."""
    where = [*criteria.conditions(_PATIENT, asked), _patients.id.not_in(but_not)]
    return criteria.count(session, _patients.id, where)


def patients_where(asked: Sequence[Criterion], but_not: Select[Any]) -> Select[Any]:
    """Return a subquery of the ids of patients, those of `but_not` left out."""
    where = criteria.conditions(_PATIENT, asked)
    return select(_patients.id).where(*where, _patients.id.not_in(but_not))


def load_patients(session: Session, ids: Collection[int]) -> dict[int, ArchivePatient]:
    """Return these patients by id."""
    if not ids:
        return {}
    statement = select(*_SHOWN).where(_patients.id.in_([*ids]))
    return {row["id"]: ArchivePatient(**row) for row in session.execute(statement).mappings()}


_SHOWN: Final = tuple(_patients[name] for name in ArchivePatient.__dataclass_fields__)


def _patient_id(wanted: Sequence[Any]) -> ColumnElement[bool]:
    texts = [one.code if isinstance(one, Token) else one.id for one in wanted]
    ids = [
        int(text.removeprefix(PATIENT))
        for text in texts
        if text.startswith(PATIENT) and _NUMBER.fullmatch(text.removeprefix(PATIENT))
    ]
    return criteria.one_of(_patients.id, literal(ids, ARRAY(BigInteger)))


def _active(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a criterion's value
    return literal(getattr(wanted, "code", "") == "true")


def _available(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return literal(getattr(wanted, "code", "") == "available")


def _patient_number(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a criterion's value
    if not isinstance(wanted, Token) or not wanted.code:
        return false()
    found = (
        tables.start_of(_patients.patient_id)
        == rows.clean(wanted.code)[: tables.INDEXED_CHARACTERS]
    )
    found &= _patients.patient_id == rows.clean(wanted.code)
    if wanted.system is None:
        return found
    issuer = wanted.system.removeprefix("issuer:")
    if issuer == wanted.system and issuer:
        return false()
    return found & (_patients.issuer_of_patient_id == issuer)


def _patient_name(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Words):
        return false()
    if wanted.mode is not Mode.EXACT:
        return criteria.name_like(_patients.patient_name_key, wanted)
    return criteria.name_is(_patients.patient_name, _patients.patient_name_key, wanted.text)


def _family(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return criteria.family_like(_patients.patient_name, _patients.patient_name_key, wanted)


def _given(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return criteria.given_like(_patients.patient_name, _patients.patient_name_key, wanted)


def _sex(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Token):
        return false()
    if wanted.code == "unknown":
        return _patients.patient_sex.not_in([*_GENDERS.values()])
    return _patients.patient_sex == _GENDERS.get(wanted.code, "?")


@dataclass(frozen=True, slots=True)
class Days:
    """A column of dates as YYYYMMDD; '' is none."""

    column: Any

    def not_before(self, moment: datetime) -> ColumnElement[bool]:
        """Whether the day begins at `moment` or later."""
        day = moment.date()
        if moment.time() != time.min:
            day += timedelta(days=1)
        found: ColumnElement[bool] = self.column >= rows.date_text(day)
        return found

    def over_by(self, moment: datetime) -> ColumnElement[bool]:
        """Whether the day is over at `moment`."""
        found: ColumnElement[bool] = self.column < rows.date_text(moment.date())
        return found

    @property
    def present(self) -> ColumnElement[bool]:
        """Whether there is one."""
        found: ColumnElement[bool] = self.column > ""
        return found


@dataclass(frozen=True, slots=True)
class Moments:
    """A date and a time key: without the time, the whole day."""

    day: Any
    clock: Any

    def not_before(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it begins at `moment` or later."""
        if moment.time() == time.min:
            whole: ColumnElement[bool] = self.day >= rows.date_text(moment.date())
            return whole
        texts = rows.date_text(moment.date()), rows.time_text(moment.time())
        return tuple_(self.day, self.clock) >= tuple_(*map(literal, texts))

    def over_by(self, moment: datetime) -> ColumnElement[bool]:
        """Whether it is over at `moment`."""
        before: ColumnElement[bool] = self.day < rows.date_text(moment.date())
        if moment.time() == time.min:
            return before
        same: ColumnElement[bool] = self.day == rows.date_text(moment.date())
        earlier = and_(self.clock > "", self.clock < rows.time_text(moment.time()))
        return or_(before, and_(same, earlier))

    @property
    def present(self) -> ColumnElement[bool]:
        """Whether there is one."""
        found: ColumnElement[bool] = self.day > ""
        return found


_PATIENT: Final[Rules] = {
    "_id": Rule(_patient_id, literal(True)),  # noqa: FBT003
    "identifier": Rule(each(_patient_number), _patients.patient_id > ""),
    "name": Rule(each(_patient_name), _patients.patient_name_key > ""),
    "family": Rule(each(_family), _patients.patient_name_key > ""),
    "given": Rule(each(_given), _patients.patient_name_key > ""),
    "birthdate": criteria.dated(Days(_patients.patient_birth_date)),
    "gender": Rule(each(_sex), _patients.patient_sex > ""),
    "active": Rule(each(_active), literal(True)),  # noqa: FBT003
    "_lastUpdated": criteria.dated(Instants(_patients.received_at)),
}


# Studies


def find_studies(session: Session, wanted: Wanted, links: Rules) -> list[int]:
    """Return the ids of a page of studies; `links` are rules of the floor above."""
    where = _study_conditions(wanted.criteria, links)
    return criteria.page_ids(session, _studies.id, where, wanted)


def count_studies(session: Session, asked: Sequence[Criterion], links: Rules) -> int:
    """Return how many studies match."""
    return criteria.count(session, _studies.id, _study_conditions(asked, links))


def _study_conditions(asked: Sequence[Criterion], links: Rules) -> list[ColumnElement[bool]]:
    return [*criteria.conditions({**_STUDY, **links}, asked), tables.SHOWN[Level.STUDY]]


def study_uid() -> Any:  # noqa: ANN401 - a column
    """Return the column of Study Instance UIDs, for the rules of the floor above."""
    return _studies.study_instance_uid


def study_patient() -> Any:  # noqa: ANN401 - a column
    """Return the column of the patient that a study is shown under."""
    return _studies.patient_ref


def uids_where(asked: Sequence[Criterion], links: Rules) -> Select[Any]:
    """Return a subquery of the UIDs of studies."""
    where = _study_conditions(asked, links)
    return select(_studies.study_instance_uid).where(*where)


def ids_of(session: Session, uids: Collection[str]) -> dict[str, int]:
    """Return the row ids of studies by UID."""
    uid = _studies.study_instance_uid
    wanted = any_(literal([*uids], ARRAY(Text)))
    found = session.execute(select(uid, _studies.id).where(uid == wanted))
    return {row[0]: row[1] for row in found}


def load_studies(session: Session, ids: Collection[int]) -> dict[int, ListedStudy]:
    """Return these studies by id, but those that are rejected as a whole.

    Each has its first `MOST_SERIES` series.
    """
    if not ids:
        return {}
    shown = [_studies[name] for name in _STUDY_COLUMNS]
    statement = select(*shown, _studies.patient_ref).where(
        _studies.id.in_([*ids]), tables.SHOWN[Level.STUDY]
    )
    found = session.execute(statement).mappings().all()
    people = load_patients(session, {row["patient_ref"] for row in found})
    series = _series_of(session, [row["id"] for row in found])
    return {
        row["id"]: ListedStudy(
            **{name: row[name] for name in _STUDY_COLUMNS if name != "modalities"},
            modalities=tuple(row["modalities"]),
            patient=people[row["patient_ref"]],
            series=tuple(series.get(row["id"], ())),
        )
        for row in found
    }


_STUDY_COLUMNS: Final = tuple(
    name for name in ListedStudy.__dataclass_fields__ if name not in {"patient", "series"}
)
_SERIES_COLUMNS: Final = tuple(
    name for name in ListedSeries.__dataclass_fields__ if name != "instances"
)


def _series_of(session: Session, ids: Collection[int]) -> dict[int, list[ListedSeries]]:
    statement = (
        select(
            _series.study_ref,
            *(_series[name] for name in _SERIES_COLUMNS),
            _series.number_of_instances.label("instances"),
        )
        .where(_series.study_ref.in_([*ids]), tables.SHOWN[Level.SERIES])
        .order_by(_series.study_ref, tables.SERIES_NUMBER, _series.id)
    )
    found: dict[int, list[ListedSeries]] = {}
    for row in session.execute(statement).mappings():
        held = found.setdefault(row["study_ref"], [])
        if len(held) < MOST_SERIES:
            facts = {name: row[name] for name in (*_SERIES_COLUMNS, "instances")}
            held.append(ListedSeries(**facts))
    return found


def _is_uid(wanted: Sequence[Any]) -> ColumnElement[bool]:
    texts = [one.code if isinstance(one, Token) else one.id for one in wanted]
    return criteria.one_of(_studies.study_instance_uid, literal(texts, ARRAY(Text)))


def _study_number(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Compare a UID, ``urn:oid:…`` of its system or bare, or an accession number."""
    if not isinstance(wanted, Token) or not wanted.code:
        return false()
    uid = _studies.study_instance_uid == wanted.code.removeprefix("urn:oid:")
    number = rows.clean(wanted.code)
    accession = (
        tables.start_of(_studies.accession_number) == number[: tables.INDEXED_CHARACTERS]
    ) & (_studies.accession_number == number)
    if wanted.system is None:
        return uid | accession
    if wanted.system == STUDY_UID:
        return uid
    return accession if wanted.system in {"", "accession"} else false()


def _modality(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Token) or wanted.system not in {None, "code:DCM"}:
        return false()
    found: ColumnElement[bool] = _studies.modalities.contains([wanted.code])
    return found


def _of_series(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    uid = wanted.code.removeprefix("urn:oid:")
    return criteria.among(
        _studies.id,
        select(_series.study_ref).where(
            _series.series_instance_uid == uid, tables.SHOWN[Level.SERIES]
        ),
    )


_STUDY: Final[Rules] = {
    "_id": Rule(_is_uid, literal(True)),  # noqa: FBT003
    "identifier": Rule(each(_study_number), literal(True)),  # noqa: FBT003
    "modality": Rule(each(_modality), func.cardinality(_studies.modalities) > 0),
    "series": Rule(each(_of_series), _studies.number_of_series > 0),
    "started": criteria.dated(Moments(_studies.study_date, _studies.study_time_key)),
    "status": Rule(each(_available), literal(True)),  # noqa: FBT003
    "_lastUpdated": criteria.dated(Instants(_studies.changed_at)),
}


def owners(session: Session, uids: Collection[str]) -> dict[str, int]:
    """Return the patient that each study is shown under; what is not held is left out."""
    uid = _studies.study_instance_uid
    wanted = any_(literal([*uids], ARRAY(Text)))
    found = session.execute(select(uid, _studies.patient_ref).where(uid == wanted))
    return {row[0]: row[1] for row in found}


def dates_of(session: Session, uids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return date and time of studies as DICOM writes them."""
    uid = _studies.study_instance_uid
    wanted = any_(literal([*uids], ARRAY(Text)))
    shown = select(uid, _studies.study_date, _studies.study_time).where(uid == wanted)
    return {row[0]: (row[1], row[2]) for row in session.execute(shown)}


def dated_in(uids: Any, wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a column and a value
    """Whether one of a row's studies, an array of UIDs, is of a period."""
    in_period = _STUDY["started"].matches([wanted])
    one = select(_studies.id).where(_studies.study_instance_uid == any_(uids), in_period)
    return one.exists()


def any_dated(uids: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Whether one of a row's studies has a date."""
    present = _STUDY["started"].present
    return select(_studies.id).where(_studies.study_instance_uid == any_(uids), present).exists()


def uids_of_patients(ids: Select[Any]) -> Select[Any]:
    """Return a subquery of the UIDs of the studies that are shown under those patients."""
    of = criteria.among(_studies.patient_ref, ids)
    return select(_studies.study_instance_uid).where(of)


def arrival_of(uid: Any) -> Any:  # noqa: ANN401 - a column and an expression
    """Return when the first object of a row's study came, for a statement of another floor."""
    arrived = select(_studies.received_at).where(_studies.study_instance_uid == uid)
    return arrived.scalar_subquery()


def instances_of(uid: Any) -> Any:  # noqa: ANN401
    """Return how many objects the study of a row has."""
    counted = select(_studies.number_of_instances).where(_studies.study_instance_uid == uid)
    return counted.scalar_subquery()


STUDY_SORTS: Final[Mapping[str, Sequence[Any]]] = {
    "started": (_studies.study_date, _studies.study_time_key, _studies.id)
}


def sort_studies(
    session: Session, asked: Sequence[Criterion], links: Rules, sort: str, limit: int
) -> list[int]:
    """Return the ids of the studies that match, sorted; ``-`` before the name: latest first."""
    where = _study_conditions(asked, links)
    order, latest = STUDY_SORTS[sort.removeprefix("-")], sort.startswith("-")
    turned = [one.desc() if latest else one.asc() for one in order]
    found = select(_studies.id).where(*where)
    return [*session.scalars(found.order_by(*turned).limit(limit))]
