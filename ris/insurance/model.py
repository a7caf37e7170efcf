"""A performed service, and how its fields are called in the files of the health insurance.

Decision 3176/QĐ-BYT (with 130 and 4750): XML3 ``CHI_TIET_DVKT`` and XML4 ``CHI_TIET_CLS``. The
hospital's system makes and submits the files; here are the fields that imaging knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

SEPARATOR: Final = ";"
"""Between the values of one field."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who ordered, performed or read."""

    name: str
    licence_number: str = ""
    """Of the practice licence; '' when nobody of that name is registered, or several are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One requested procedure of an order that was performed; times are the hospital's clock."""

    order_id: int
    procedure_id: int
    patient_id: int
    placer_order_number: str
    accession_number: str
    admission_id: str
    """The number of the treatment as its system sent it."""
    code: str
    name: str
    diagnosis: str
    ordered_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    resulted_at: datetime | None
    """When a result was signed first."""
    requester: Person | None
    performers: tuple[Person, ...]
    reader: Person | None
    findings: str
    impression: str
    ae_titles: tuple[str, ...]
    """Of the machines that it was done on."""
    machine_codes: tuple[str, ...]
    report_uid: str
    report_version: int | None
    reports: int
    """How many reports that count are signed of its order."""
    beside: tuple[str, ...]
    """Accession numbers of what was done on the same machine at the same time."""


def moment(at: datetime | None) -> str:
    """Return ``yyyymmddHHMM``, '' for none."""
    return f"{at.year:04}{at:%m%d%H%M}" if at else ""


def _licences(*people: Person | None) -> str:
    found = (one.licence_number for one in people if one and one.licence_number)
    return SEPARATOR.join(dict.fromkeys(found))


XML3: Final[Mapping[str, Callable[[Service], str]]] = {
    "MA_LK": lambda one: one.admission_id,
    "MA_DICH_VU": lambda one: one.code,
    "TEN_DICH_VU": lambda one: one.name,
    "SO_LUONG": lambda _: "1",
    "MA_BAC_SI": lambda one: _licences(one.requester),
    "NGUOI_THUC_HIEN": lambda one: _licences(*one.performers, one.reader),
    "MA_BENH": lambda one: one.diagnosis,
    "NGAY_YL": lambda one: moment(one.ordered_at),
    "NGAY_TH_YL": lambda one: moment(one.started_at),
    "NGAY_KQ": lambda one: moment(one.resulted_at),
    "MA_MAY": lambda one: SEPARATOR.join(one.machine_codes),
}
"""Fields of CHI_TIET_DVKT in their order."""

XML4: Final[Mapping[str, Callable[[Service], str]]] = {
    "MA_LK": lambda one: one.admission_id,
    "MA_DICH_VU": lambda one: one.code,
    "MA_CHI_SO": lambda _: "",
    "TEN_CHI_SO": lambda _: "",
    "GIA_TRI": lambda _: "",
    "DON_VI_DO": lambda _: "",
    "MO_TA": lambda one: one.findings,
    "KET_LUAN": lambda one: one.impression,
    "NGAY_KQ": lambda one: moment(one.resulted_at),
    "MA_BS_DOC_KQ": lambda one: _licences(one.reader),
}
"""Fields of CHI_TIET_CLS in their order."""


def fields(service: Service, names: Mapping[str, Callable[[Service], str]]) -> dict[str, str]:
    """Return the fields of a service by their names."""
    return {name: value(service) for name, value in names.items()}
