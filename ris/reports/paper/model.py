"""What stands on a paper: texts that are ready to be printed, and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ris.reports.model import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """The head of every paper, and what the law wants at its foot."""

    authority: str = ""
    """Whom the hospital belongs to: ``SỞ Y TẾ TỈNH LÂM ĐỒNG``."""
    hospital: str = ""
    department: str = ""
    address: str = ""
    telephone: str = ""
    form_number: str = ""
    """Of the ministry's form (MS), where the hospital has one."""
    place: str = ""
    """Before the date: ``Lâm Đồng``."""
    system: str = "Lienthong"
    owner: str = ""
    """Of the system, for the foot of a paper printed from an electronic record."""
    logo: bytes = b""
    """PNG or JPEG; empty: none."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One key image: a JPEG, and what stands below it."""

    jpeg: bytes
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who answers for the text."""

    role: str
    name: str
    licence_number: str
    signed_at: datetime
    """In the hospital's time zone."""
    note: str = ""
    """What kind of signature the file bears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A report on its way to the printer."""

    letterhead: Letterhead
    language: str
    title: str
    number: str
    """Names the report."""
    version: int
    status: str
    """In words; shown where it is not plainly final."""
    notice: str = ""
    """In a box below the title: what this version corrects, and why."""
    watermark: str = ""
    """Across each page of what is not signed."""
    facts: Sequence[tuple[str, str]] = ()
    """What is known of patient and order: label and value; two in a row."""
    content: Content = field(default_factory=Content)
    procedure: str = ""
    signatures: Sequence[Signature] = ()
    pictures: Sequence[Picture] = ()
    continuation: str = ""
    """In the head of the second page and those after it: whose report it is."""
    verify_url: str = ""
    verify_code: str = ""
    made_at: datetime
    """When the file was made, in the hospital's time zone."""
