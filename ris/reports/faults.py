"""Why a request about a report is refused, in the language of the person who made it.

A fault is a code and the values of its text; the texts stand in `TEXTS` in English and in
Vietnamese, so that a page, an API and a log name the same thing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from storage.base.errors import Conflict, Malformed, NotFound, NotPermitted

ENGLISH: Final = "en"
VIETNAMESE: Final = "vi"
LANGUAGES: Final = (ENGLISH, VIETNAMESE)


@dataclass(frozen=True, slots=True)
class Words:
    """One thing in both languages."""

    english: str
    vietnamese: str

    def told(self, language: str) -> str:
        """Return it in `language`; English where that is not one of ours."""
        return self.vietnamese if language == VIETNAMESE else self.english


TEXTS: Final[Mapping[str, Words]] = {
    "required": Words("must not be empty", "không được để trống"),
    "too_long": Words("has more than {most} characters", "dài quá {most} ký tự"),
    "too_many": Words("has more than {most} entries", "có quá {most} mục"),
    "not_a_number": Words("is not a number", "không phải là số"),
    "not_a_uid": Words("is not a DICOM UID", "không phải là UID của DICOM"),
    "not_text": Words("holds characters that are no text", "có ký tự không phải văn bản"),
    "unknown_value": Words("is not one of: {known}", "không thuộc các giá trị: {known}"),
    "unknown_study": Words("names a study that is not held", "ca chụp không có trong kho"),
    "unknown_order": Words("names an order that is not held", "chỉ định không có trong hệ thống"),
    "other_patient": Words(
        "belongs to another patient than the rest",
        "thuộc người bệnh khác với phần còn lại",
    ),
    "one_of_both": Words("a study or an order is needed", "cần có ca chụp hoặc chỉ định"),
    "unknown_image": Words(
        "names an image that is not held in a study of the report",
        "hình ảnh không có trong ca chụp của phiếu kết quả",
    ),
    "no_critical": Words("no such critical result", "không có kết quả nguy hiểm này"),
    "acknowledged": Words(
        "the critical result was acknowledged before", "kết quả nguy hiểm đã được xác nhận"
    ),
    "needs_read_back": Words(
        "only who has read it back can acknowledge it", "phải đọc lại mới được xác nhận"
    ),
    "no_template": Words("no such template", "không có mẫu này"),
    "not_mrrt": Words("is no MRRT template", "không phải là mẫu MRRT"),
    "no_report": Words("no such report", "không có phiếu kết quả này"),
    "no_version": Words("no such version of this report", "phiếu kết quả không có phiên bản này"),
    "no_practitioner": Words(
        "the caller is not registered as a practitioner",
        "người gọi chưa được đăng ký là người hành nghề",
    ),
    "not_after": Words(
        "a report that is {status} does not allow: {action}",
        "phiếu kết quả ở trạng thái “{status}” không cho phép: {action}",
    ),
    "needs_approver": Words(
        "only who may approve may do this: {action}",
        "chỉ người có quyền duyệt mới được: {action}",
    ),
    "needs_reason": Words("a reason is needed", "phải nêu lý do"),
    "locked": Words(
        "{holder} works on this report until {until}",
        "{holder} đang giữ ca này đến {until}",
    ),
    "not_locked_by_you": Words(
        "the report is not claimed by you",
        "ca này không do bạn giữ",
    ),
    "needs_second_reader": Words(
        "a second reader has to read this text before it is approved",
        "phải có người đọc thứ hai đọc nội dung này trước khi duyệt",
    ),
    "own_reading": Words(
        "who wrote the text cannot be its second reader",
        "người viết không thể là người đọc thứ hai",
    ),
    "no_retraction_requested": Words(
        "nobody has asked for this report to be retracted",
        "chưa có ai đề nghị thu hồi phiếu kết quả này",
    ),
    "retraction_requested": Words(
        "retraction has been asked for and waits for a second person",
        "đã có đề nghị thu hồi, đang chờ người thứ hai xác nhận",
    ),
    "needs_other_person": Words(
        "who asked for the retraction cannot confirm it",
        "người đề nghị thu hồi không được tự xác nhận",
    ),
    "foreign": Words(
        "the report is written by {source}: it has to be changed there",
        "phiếu do {source} lập: phải sửa tại đó",
    ),
    "order_has_report": Words(
        "order {order} has a report already",
        "chỉ định {order} đã có phiếu kết quả",
    ),
    "study_has_report": Words(
        "the study has a report already; name no order to write a further one",
        "ca chụp đã có phiếu kết quả; hãy chỉ rõ là không theo chỉ định nào để viết phiếu khác",
    ),
    "study_moved": Words(
        "the study was taken from the order of this report: attach it, or cancel the report",
        "ca chụp không còn thuộc chỉ định của phiếu này: hãy gắn lại ca chụp hoặc huỷ phiếu",
    ),
    "stale": Words(
        "the report was changed by {author} meanwhile",
        "phiếu kết quả vừa được {author} sửa",
    ),
    "hidden": Words(
        "the report was retracted: its text is not shown",
        "phiếu kết quả đã bị thu hồi: nội dung không được hiển thị",
    ),
}


def text(code: str, language: str = ENGLISH, **values: object) -> str:
    """Return the text of a fault; values that are `Words` come in the same language."""
    told = {
        name: value.told(language) if isinstance(value, Words) else value
        for name, value in values.items()
    }
    return TEXTS[code].told(language).format(**told)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request."""

    code: str
    pointer: str = ""
    """Which field, as a JSON pointer (RFC 6901); '' the request as a whole."""
    values: Mapping[str, object] = field(default_factory=dict)

    def told(self, language: str = ENGLISH) -> str:
        """Return the text in `language`."""
        return text(self.code, language, **self.values)


class Faulty(Exception):
    """What the errors of this module share: they can be told in both languages."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{one.pointer} {one.told()}".strip() for one in faults))

    def told(self, language: str) -> str:
        """Return all faults in `language`, without the names of the fields."""
        return "; ".join(one.told(language) for one in self.faults)


class Invalid(Faulty, Malformed):
    """Fields of the request cannot be used as they are."""


class Refused(Faulty, Conflict):
    """The report as it is does not allow what was asked."""


class NotAllowed(Faulty, NotPermitted):
    """The person may not do what was asked."""


class Missing(Faulty, NotFound):
    """There is no such thing."""


def refused(code: str, **values: object) -> Refused:
    """Return the error for one fault of the request as a whole."""
    return Refused(Fault(code, values=values))
