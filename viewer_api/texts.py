"""What the pages say, in Vietnamese and in English; a test holds both tables together."""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Final


class Language(StrEnum):
    """A language of the pages, by its tag (BCP 47)."""

    VI = "vi"
    EN = "en"


NAMES: Final[Mapping[Language, str]] = {Language.VI: "Tiếng Việt", Language.EN: "English"}

_VI: Final[Mapping[str, str]] = {
    "product": "Lienthong",
    "skip": "Đến nội dung chính",
    "language": "Ngôn ngữ",
    # signing in
    "sign_in": "Đăng nhập",
    "sign_out": "Đăng xuất",
    "user_name": "Tên đăng nhập",
    "password": "Mật khẩu",
    "sign_in_wrong": "Tên đăng nhập hoặc mật khẩu không đúng.",
    "sign_in_wait": "Sai quá nhiều lần. Vui lòng thử lại sau {seconds} giây.",
    "sign_in_help": "Quên mật khẩu? Xin người quản trị cấp liên kết mới.",
    "change_password": "Đổi mật khẩu",
    "current_password": "Mật khẩu hiện tại",
    "new_password": "Mật khẩu mới",
    "again": "Nhập lại mật khẩu mới",
    "save": "Lưu",
    "password_rules": "Ít nhất {shortest} ký tự; câu ngắn dễ nhớ là tốt nhất, có dấu cũng được.",
    "password_current_wrong": "Mật khẩu hiện tại không đúng.",
    "password_differs": "Hai lần nhập không giống nhau.",
    "password_short": "Mật khẩu phải có ít nhất {shortest} ký tự.",
    "password_long": "Mật khẩu có nhiều nhất {longest} ký tự.",
    "password_simple": "Mật khẩu phải có ít nhất 5 ký tự khác nhau.",
    "password_name": "Mật khẩu không được chứa tên đăng nhập.",
    "password_common": "Mật khẩu này quá phổ biến, ai cũng đoán được.",
    "welcome": "Chào {name}",
    "welcome_text": "Đặt mật khẩu để bắt đầu. Liên kết này chỉ dùng được một lần.",
    "set_password": "Đặt mật khẩu và đăng nhập",
    "link_void": "Liên kết không còn hiệu lực",
    "link_void_text": "Liên kết đã được dùng hoặc đã hết hạn. Xin người quản trị cấp liên kết mới.",
    "to_sign_in": "Đến trang đăng nhập",
    # roles
    "role_admin": "quản trị",
    "role_radiologist": "bác sĩ chẩn đoán",
    "role_technologist": "kỹ thuật viên",
    "role_viewer": "người xem",
    # studies
    "studies": "Ca chụp",
    "search": "Tìm",
    "clear": "Xóa điều kiện",
    "patient_name": "Họ tên người bệnh",
    "patient_name_hint": "có dấu hay không đều được",
    "patient_id": "Mã người bệnh",
    "accession_number": "Số phiếu chỉ định",
    "modality": "Loại máy",
    "any": "Tất cả",
    "from": "Từ ngày",
    "to": "Đến ngày",
    "today": "Hôm nay",
    "yesterday": "Hôm qua",
    "week": "7 ngày qua",
    "patient": "Người bệnh",
    "study": "Ca chụp",
    "date": "Ngày chụp",
    "description": "Mô tả",
    "images": "Ảnh",
    "series_and_images": "{series} chuỗi, {images} ảnh",
    "born": "sinh {date}",
    "sex_M": "nam",
    "sex_F": "nữ",
    "sex_O": "khác",
    "no_name": "(không tên)",
    "no_date": "(không rõ ngày)",
    "open": "Xem ảnh",
    "open_named": "Xem ảnh của {name}",
    "open_viewer": "Trình xem ảnh",
    "previous": "Trang trước",
    "next": "Trang sau",
    "page": "Trang {number}",
    "empty": "Chưa có ca chụp nào",
    "empty_text": "Ảnh từ máy chụp sẽ hiện ở đây ngay khi được nhận.",
    "nothing_found": "Không tìm thấy ca chụp nào",
    "nothing_found_text": "Thử bớt điều kiện, hoặc chỉ nhập một phần của họ tên.",
    # viewer
    "viewer": "Trình xem ảnh",
    "viewer_absent": "Chưa cài trình xem ảnh",
    "viewer_absent_text": "Người quản trị cài bằng lệnh dưới đây, rồi tải lại trang này.",
    "handover_failed": "Chưa mở được trình xem ảnh",
    "handover_failed_text": "Yêu cầu đã hết hạn, hoặc trình duyệt chặn cookie của trang này.",
    "try_again": "Thử lại",
    "session_over": "Phiên đăng nhập đã hết.",
    "sign_in_again": "Đăng nhập lại ở thẻ mới",
    "signed_in": "Đã đăng nhập lại",
    "signed_in_text": "Hãy đóng thẻ này và trở về thẻ đang xem ảnh để làm tiếp.",
    # errors
    "error_400": "Yêu cầu không hợp lệ",
    "error_403": "Không có quyền",
    "error_404": "Không tìm thấy trang",
    "error_405": "Trang không nhận yêu cầu này",
    "error_503": "Máy chủ tạm thời chưa trả lời được",
    "error_other": "Có lỗi",
    "error_400_text": "Vui lòng kiểm tra lại điều đã nhập.",
    "error_403_text": "Tài khoản của bạn không được làm việc này.",
    "error_404_text": "Địa chỉ này không có trên máy chủ.",
    "error_405_text": "Vui lòng quay lại và thử lại.",
    "error_503_text": "Vui lòng thử lại sau ít phút. Ảnh gửi đến vẫn được nhận.",
    "error_other_text": "Vui lòng thử lại; nếu vẫn lỗi, báo cho người quản trị.",
    "home": "Về danh sách ca chụp",
}

_EN: Final[Mapping[str, str]] = {
    "product": "Lienthong",
    "skip": "To the main content",
    "language": "Language",
    "sign_in": "Sign in",
    "sign_out": "Sign out",
    "user_name": "User name",
    "password": "Password",
    "sign_in_wrong": "The user name or the password is wrong.",
    "sign_in_wait": "Too many wrong tries. Please try again in {seconds} seconds.",
    "sign_in_help": "Forgot your password? Ask the administrator for a new link.",
    "change_password": "Change password",
    "current_password": "Current password",
    "new_password": "New password",
    "again": "The new password again",
    "save": "Save",
    "password_rules": "At least {shortest} characters; a short sentence that you remember is best.",
    "password_current_wrong": "The current password is wrong.",
    "password_differs": "The two entries are not the same.",
    "password_short": "A password has at least {shortest} characters.",
    "password_long": "A password has at most {longest} characters.",
    "password_simple": "A password has at least 5 different characters.",
    "password_name": "The password may not contain your user name.",
    "password_common": "This password is so common that anybody guesses it.",
    "welcome": "Welcome, {name}",
    "welcome_text": "Set a password to begin. This link works only once.",
    "set_password": "Set the password and sign in",
    "link_void": "This link is not valid any more",
    "link_void_text": "It was used or is too old. Ask the administrator for a new one.",
    "to_sign_in": "To the sign-in page",
    "role_admin": "administrator",
    "role_radiologist": "radiologist",
    "role_technologist": "technologist",
    "role_viewer": "viewer",
    "studies": "Studies",
    "search": "Search",
    "clear": "Clear",
    "patient_name": "Patient name",
    "patient_name_hint": "with or without accents",
    "patient_id": "Patient ID",
    "accession_number": "Accession number",
    "modality": "Modality",
    "any": "All",
    "from": "From",
    "to": "To",
    "today": "Today",
    "yesterday": "Yesterday",
    "week": "Last 7 days",
    "patient": "Patient",
    "study": "Study",
    "date": "Study date",
    "description": "Description",
    "images": "Images",
    "series_and_images": "Series: {series}, images: {images}",
    "born": "born {date}",
    "sex_M": "male",
    "sex_F": "female",
    "sex_O": "other",
    "no_name": "(no name)",
    "no_date": "(no date)",
    "open": "View images",
    "open_named": "View the images of {name}",
    "open_viewer": "Image viewer",
    "previous": "Previous page",
    "next": "Next page",
    "page": "Page {number}",
    "empty": "No studies yet",
    "empty_text": "Images show here as soon as they are received from a device.",
    "nothing_found": "No study found",
    "nothing_found_text": "Try fewer conditions, or only a part of the name.",
    "viewer": "Image viewer",
    "viewer_absent": "The image viewer is not installed",
    "viewer_absent_text": "The administrator installs it with this command; then reload this page.",
    "handover_failed": "The image viewer could not be opened",
    "handover_failed_text": "The request took too long, or the browser blocks this site's cookies.",
    "try_again": "Try again",
    "session_over": "Your session has ended.",
    "sign_in_again": "Sign in again in a new tab",
    "signed_in": "You are signed in again",
    "signed_in_text": "Close this tab and go back to the one with the images to go on.",
    "error_400": "The request is not valid",
    "error_403": "Not permitted",
    "error_404": "Page not found",
    "error_405": "This page does not take such a request",
    "error_503": "The server cannot answer at the moment",
    "error_other": "Something went wrong",
    "error_400_text": "Please look again at what you entered.",
    "error_403_text": "Your account may not do this.",
    "error_404_text": "There is nothing at this address.",
    "error_405_text": "Please go back and try again.",
    "error_503_text": "Please try again in a few minutes. Images are still being received.",
    "error_other_text": "Please try again; if it stays so, tell the administrator.",
    "home": "To the list of studies",
}

TEXTS: Final[Mapping[Language, Mapping[str, str]]] = {Language.VI: _VI, Language.EN: _EN}

_DATE: Final[Mapping[Language, str]] = {Language.VI: "%d/%m/%Y", Language.EN: "%d %b %Y"}


def language(tag: str) -> Language:
    """Return the language of that tag; Vietnamese when it is none of ours."""
    return Language(tag) if tag in TEXTS else Language.VI


def say(in_language: Language, key: str, **values: object) -> str:
    """Return the text of `key` with its values filled in."""
    return TEXTS[in_language][key].format_map(values)


def day(in_language: Language, value: date) -> str:
    """Return a date as people write it."""
    return value.strftime(_DATE[in_language])
