"""The data types of FHIR R4 (2.24) that resources are made of, as JSON without empty members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final

from storage.base import names
from storage.base.errors import Malformed
from storage.base.temporal import parse_da, parse_tm
from viewer_api.fhir.naming import V2, Naming

Json = dict[str, Any]
IDENTIFIER_TYPES: Final = V2 + "0203"
_GENDERS: Final[Mapping[str, str]] = {"M": "male", "F": "female", "O": "other"}
_YEAR, _MONTH = len("YYYY"), len("YYYYMM")


@dataclass(frozen=True, slots=True)
class Context:
    """What rendering needs to know of the request."""

    base: str
    """Root of the FHIR service as the client sees it."""
    dicomweb: str
    reports: str
    """Root of the reports' own API."""
    naming: Naming
    zone: tzinfo
    full: bool
    """The caller may see what the RIS knows of patients beyond the hospital's numbers."""


def full(**members: Any) -> Json:  # noqa: ANN401 - JSON
    """Return the members that are not empty; a trailing underscore of a name goes."""
    return {
        name.rstrip("_"): value
        for name, value in members.items()
        if value is not None and value not in ("", [], {})
    }


def instant(moment: datetime) -> str:
    """Return an instant."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(moment: datetime | None, zone: tzinfo) -> str | None:
    """Return a dateTime of the hospital's wall clock, with its offset; None for none."""
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=zone).isoformat(timespec="seconds")
    except (OverflowError, ValueError):
        return None


def dicom_time(day: str, moment: str, zone: tzinfo) -> str | None:
    """Return the dateTime of a DA and a TM; the day alone when the time is none."""
    try:
        parsed = parse_da(day)
    except Malformed:
        return None
    if parsed is None or parsed.year < 1000:  # noqa: PLR2004 - FHIR writes four digits
        return None
    try:
        clock = parse_tm(moment)
    except Malformed:
        clock = None
    if clock is None:
        return parsed.isoformat()
    return local(datetime.combine(parsed, clock.replace(microsecond=0)), zone)


def birth_date(day: date | None, sent: str) -> str | None:
    """Return a date, or the year or month that is known of it."""
    if day is not None:
        return day.isoformat()
    digits = sent.strip()
    if not digits.isascii() or not digits.isdecimal() or not int(digits[:4] or 0) >= 1000:  # noqa: PLR2004
        return None
    if len(digits) == _YEAR:
        return digits
    if len(digits) == _MONTH and 1 <= int(digits[4:]) <= 12:  # noqa: PLR2004 - months
        return f"{digits[:4]}-{digits[4:]}"
    try:
        whole = parse_da(digits)
    except Malformed:
        return None
    return whole.isoformat() if whole else None


def gender(sex: str) -> str:
    """Return the administrative gender of a Patient's Sex (0010,0040)."""
    return _GENDERS.get(sex, "unknown")


def human_name(text: str) -> list[Json]:
    """Return a name in VR PN; family and given names only where they are told apart."""
    shown = names.in_reading_order(text)
    if not shown:
        return []
    alphabetic = names.parse_pn(text).alphabetic
    if "^" not in alphabetic:
        return [full(text=shown)]
    family, given, middle, prefix, suffix = (
        " ".join(one.split()) for one in (alphabetic.split("^") + [""] * 5)[:5]
    )
    return [
        full(
            text=shown,
            family=family,
            given=[one for one in (middle, given) if one],
            prefix=[prefix] if prefix else None,
            suffix=[suffix] if suffix else None,
        )
    ]


def identifier(
    system: str | None, value: str, type_: str = "", use: str = "", assigner: str = ""
) -> Json:
    """Return an Identifier; `type_` is a code of HL7 table 0203."""
    return full(
        use=use,
        type=coded(IDENTIFIER_TYPES, type_) if type_ else None,
        system=system,
        value=value,
        assigner={"display": assigner} if assigner else None,
    )


def coded(system: str, code: str, display: str = "") -> Json:
    """Return a CodeableConcept of one code."""
    return {"coding": [full(system=system, code=code, display=display)]}


def reference(kind: str, id_: str, display: str = "") -> Json:
    """Return a Reference to a resource of ours."""
    return full(reference=f"{kind}/{id_}", display=display)


def person(name: str, licence: str, naming: Naming, type_: str = "Practitioner") -> Json:
    """Return a logical Reference to somebody by his practice licence."""
    return full(
        type=type_,
        identifier=identifier(naming.system("licence"), licence) if licence else None,
        display=names.in_reading_order(name),
    )


def references_in(resource: Mapping[str, Any], member: str) -> Sequence[str]:
    """Return the ``Type/id`` of a member that is a Reference, or several."""
    held = resource.get(member, [])
    listed = [held] if isinstance(held, dict) else held
    return [one["reference"] for one in listed if "reference" in one]
