"""Why a station's request is refused, in the language of the person who made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ris.reports import faults
from ris.reports.faults import Faulty, Words
from storage.base.errors import Conflict, Malformed, NotFound, NotPermitted, Unavailable

TEXTS: Final[Mapping[str, Words]] = {
    "required": Words("must not be empty", "không được để trống"),
    "too_long": Words("has more than {most} characters", "dài quá {most} ký tự"),
    "one_of": Words("one of these is needed: {names}", "cần một trong các trường: {names}"),
    "bad_cursor": Words(
        "is no cursor of this server; begin again without one",
        "con trỏ không do máy chủ này cấp; hãy bắt đầu lại không có con trỏ",
    ),
    "no_report": Words("no such report", "không có phiếu kết quả này"),
    "no_referral": Words("no such referral", "không có phiếu chuyển này"),
    "no_image": Words("no such key image", "không có hình ảnh này"),
    "no_patient": Words(
        "nobody is known by this number and year of birth",
        "không tìm thấy người bệnh theo số và năm sinh này",
    ),
    "stale": Words(
        "version {asked} was replaced: the current one is {current}",
        "phiên bản {asked} đã được thay thế: phiên bản hiện hành là {current}",
    ),
    "no_version": Words("there was no version {asked}", "không có phiên bản {asked}"),
    "suspended": Words(
        "approval was withdrawn: wait for the correction",
        "kết quả đã bị huỷ duyệt: hãy chờ bản đính chính",
    ),
    "paper_awaited": Words(
        "the paper is not signed yet; try again in a minute",
        "phiếu chưa ký số xong; hãy thử lại sau một phút",
    ),
    "needs_person": Words(
        "a named person has to be signed in",
        "phải có người dùng đích danh đăng nhập",
    ),
    "needs_key": Words(
        "the header Idempotency-Key is needed: 8 to 200 characters",
        "thiếu tiêu đề Idempotency-Key: từ 8 đến 200 ký tự",
    ),
    "key_reused": Words(
        "this Idempotency-Key was used for another request",
        "Idempotency-Key này đã dùng cho yêu cầu khác",
    ),
    "too_many": Words(
        "the limit of {most} a day is reached: {what}",
        "đã hết hạn mức {most} lần mỗi ngày: {what}",
    ),
    "bad_consent": Words(
        "the consent code is not right, was used or is over",
        "mã đồng ý không đúng, đã dùng hoặc hết hạn",
    ),
    "not_open": Words(
        "this legal basis is not open to stations",
        "trạm y tế chưa được dùng căn cứ pháp lý này",
    ),
    "bad_time": Words("is no time with a zone", "không phải thời điểm có múi giờ"),
    "wrong_hash": Words(
        "is not the SHA-256 of this version's paper",
        "không phải mã SHA-256 của phiếu ở phiên bản này",
    ),
}

LOOK_UPS: Final = Words("look-ups", "tra cứu")
EMERGENCIES: Final = Words("emergency accesses", "truy cập khẩn cấp")
DOWNLOADS: Final = Words("megabytes", "megabyte")
REFERRALS: Final = Words("referrals", "phiếu chuyển")


@dataclass(frozen=True, slots=True)
class Fault(faults.Fault):
    """One thing that is wrong with a station's request."""

    def told(self, language: str = faults.ENGLISH) -> str:
        """Return the text in `language`."""
        values = {
            name: value.told(language) if isinstance(value, Words) else value
            for name, value in self.values.items()
        }
        return TEXTS[self.code].told(language).format(**values)


class Invalid(Faulty, Malformed):
    """Fields of the request cannot be used as they are."""


class Missing(Faulty, NotFound):
    """There is no such thing, or it is not this station's: which of both is not told."""


class NotAllowed(Faulty, NotPermitted):
    """The caller may not do what was asked."""


class Refused(Faulty, Conflict):
    """It contradicts what is."""


class Stale(Refused):
    """The version that was asked for is not the current one."""

    def __init__(self, asked: int, current: int) -> None:
        super().__init__(fault("stale", "/version", asked=asked, current=current))
        self.current = current


class Exhausted(Faulty, NotPermitted):
    """A limit is reached; the next try is of use after `retry_after_s` seconds."""

    def __init__(self, one: Fault, retry_after_s: int) -> None:
        super().__init__(one)
        self.retry_after_s = retry_after_s


class Awaited(Faulty, Unavailable):
    """It will be there soon."""

    retry_after_s = 60


def fault(code: str, pointer: str = "", **values: Any) -> Fault:  # noqa: ANN401 - of a text
    """Return one fault."""
    return Fault(code, pointer, values)


def no_report() -> Missing:
    """Return the error for a report that is not the station's own, or is not at all."""
    return Missing(fault("no_report"))
