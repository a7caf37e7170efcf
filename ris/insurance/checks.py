"""What the insurance would refuse, told before anything is submitted: warnings, never a block."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ris.insurance.model import Service
from ris.reports.faults import Words

SHORTEST: Final = 10
"""Characters of a conclusion that says something."""


@dataclass(frozen=True, slots=True)
class Warning_:  # noqa: N801 - `Warning` is Python's own
    """One thing that will not be accepted."""

    code: str
    field: str
    """Of XML3 or XML4."""
    words: Words


def check(service: Service, now: datetime) -> list[Warning_]:
    """Return what is wrong with a service; `now` by the hospital's clock."""
    return [
        Warning_(code, field, words)
        for code, field, words, is_wrong in CHECKS
        if is_wrong(service, now)
    ]


def _minute(at: datetime) -> datetime:
    """Return the minute that a time is told in: within one, nothing is before anything."""
    return at.replace(second=0, microsecond=0)


def _after(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and _minute(one) > _minute(other)


def _in_future(service: Service, now: datetime) -> bool:
    times = (service.ordered_at, service.started_at, service.resulted_at)
    return any(_after(one, now + timedelta(minutes=1)) for one in times)


Check = tuple[str, str, Words, Callable[[Service, datetime], bool]]

CHECKS: Final[tuple[Check, ...]] = (
    (
        "order_time_missing",
        "NGAY_YL",
        Words("the time of the order is missing", "thiếu thời gian ra y lệnh"),
        lambda one, _: one.ordered_at is None,
    ),
    (
        "start_time_missing",
        "NGAY_TH_YL",
        Words("the time of performing is missing", "thiếu thời gian thực hiện y lệnh"),
        lambda one, _: one.started_at is None,
    ),
    (
        "result_time_missing",
        "NGAY_KQ",
        Words("there is no signed result", "chưa có kết quả đã ký"),
        lambda one, _: one.resulted_at is None,
    ),
    (
        "start_before_order",
        "NGAY_TH_YL",
        Words("it was performed before it was ordered", "thực hiện trước khi ra y lệnh"),
        lambda one, _: _after(one.ordered_at, one.started_at),
    ),
    (
        "result_before_start",
        "NGAY_KQ",
        Words("the result is earlier than the performing", "có kết quả trước khi thực hiện"),
        lambda one, _: _after(one.started_at, one.resulted_at),
    ),
    (
        "time_in_future",
        "NGAY_TH_YL",
        Words("a time lies in the future", "có thời gian ở tương lai"),
        _in_future,
    ),
    (
        "machine_missing",
        "MA_MAY",
        Words("no machine code is registered", "máy thực hiện chưa có mã máy"),
        lambda one, _: not one.machine_codes,
    ),
    (
        "machine_busy",
        "MA_MAY",
        Words(
            "something else was done on the machine at that time",
            "máy thực hiện dịch vụ khác trong cùng thời gian",
        ),
        lambda one, _: bool(one.beside),
    ),
    (
        "requester_licence_missing",
        "MA_BAC_SI",
        Words("the licence of who ordered is not known", "thiếu số CCHN của bác sĩ chỉ định"),
        lambda one, _: one.requester is None or not one.requester.licence_number,
    ),
    (
        "reader_licence_missing",
        "MA_BS_DOC_KQ",
        Words("the licence of the reader is not known", "thiếu số CCHN của bác sĩ đọc kết quả"),
        lambda one, _: (
            one.resulted_at is not None and (one.reader is None or not one.reader.licence_number)
        ),
    ),
    (
        "service_code_missing",
        "MA_DICH_VU",
        Words("the service has no code", "dịch vụ chưa có mã"),
        lambda one, _: not one.code,
    ),
    (
        "treatment_missing",
        "MA_LK",
        Words("the number of the treatment is missing", "thiếu mã liên kết đợt điều trị"),
        lambda one, _: not one.admission_id,
    ),
    (
        "conclusion_short",
        "KET_LUAN",
        Words("the conclusion is too short", "kết luận quá ngắn"),
        lambda one, _: one.resulted_at is not None and len(one.impression.strip()) < SHORTEST,
    ),
    (
        "several_reports",
        "KET_LUAN",
        Words("several signed results are of one order", "một chỉ định có nhiều kết quả đã ký"),
        lambda one, _: one.reports > 1,
    ),
)
