"""The fixed words of a paper."""

from collections.abc import Mapping
from typing import Final

from ris.reports.faults import Words

SECTIONS: Final[Mapping[str, Words]] = {
    "clinical_information": Words("Clinical information", "Chẩn đoán lâm sàng"),
    "technique": Words("Technique", "Kỹ thuật"),
    "comparison": Words("Comparison", "So sánh"),
    "findings": Words("Findings", "Mô tả"),
    "impression": Words("Impression", "Kết luận"),
    "recommendation": Words("Recommendation", "Đề nghị"),
}
MEASUREMENTS: Final = Words("Measurements", "Số đo")
DIAGNOSES: Final = Words("Diagnosis codes", "Mã chẩn đoán")
ADDENDUM: Final = Words("Addendum", "Bổ sung")
PICTURES: Final = Words("Key images", "Hình ảnh minh hoạ")
PICTURES_NOTE: Final = Words(
    "Selected images, not for diagnosis.", "Hình ảnh chọn lọc, không dùng để chẩn đoán."
)
PROCEDURE: Final = Words("Examination", "Dịch vụ")

NUMBER: Final = Words("Report", "Phiếu")
VERSION: Final = Words("version", "phiên bản")
PAGE: Final = Words("page {page} of {pages}", "trang {page}/{pages}")
FORM: Final = Words("Form", "MS")
TELEPHONE: Final = Words("Tel.", "ĐT")
LICENCE: Final = Words("Licence", "Số CCHN")
MADE: Final = Words(
    "Made from the electronic record by {system}{owner} at {at}.",
    "Bản thể hiện từ hồ sơ điện tử trên hệ thống {system}{owner} lúc {at}.",
)
OWNER: Final = Words(" of {owner}", " của {owner}")
LOOK_UP: Final = Words("Check this paper: {where}", "Tra cứu bản này: {where}")
DATE: Final = Words("{place}{day:%d/%m/%Y}", "{place}ngày {day:%d} tháng {day:%m} năm {day:%Y}")
SIGNED_AT: Final = Words("Approved at {at:%H:%M %d/%m/%Y}", "Duyệt lúc {at:%H:%M %d/%m/%Y}")

PATIENT: Final = Words("Patient", "Họ và tên")
AGE: Final = Words("Age", "Tuổi")
BIRTH_DATE: Final = Words("Born", "Ngày sinh")
SEX: Final = Words("Sex", "Giới tính")
PATIENT_ID: Final = Words("Patient ID", "Mã người bệnh")
ADDRESS: Final = Words("Address", "Địa chỉ")
INSURANCE: Final = Words("Insurance no.", "Số thẻ BHYT")
LOCATION: Final = Words("Ward", "Khoa/Phòng")
REQUESTER: Final = Words("Requested by", "BS chỉ định")
ACCESSION: Final = Words("Order no.", "Số chỉ định")
PERFORMED: Final = Words("Performed at", "Thực hiện lúc")
SEXES: Final[Mapping[str, Words]] = {
    "M": Words("male", "Nam"),
    "F": Words("female", "Nữ"),
    "O": Words("other", "Khác"),
}

READER: Final = Words("Read by", "Bác sĩ đọc kết quả")
APPROVER: Final = Words("Approved by", "Bác sĩ duyệt kết quả")
SIGNER: Final = Words("Radiologist", "Bác sĩ chuyên khoa")

TITLES: Final[Mapping[str, Words]] = {
    "CT": Words("Report of computed tomography", "Phiếu kết quả chụp cắt lớp vi tính"),
    "MR": Words("Report of magnetic resonance imaging", "Phiếu kết quả chụp cộng hưởng từ"),
    "CR": Words("Report of radiography", "Phiếu kết quả chụp X-quang"),
    "DX": Words("Report of radiography", "Phiếu kết quả chụp X-quang"),
    "RF": Words("Report of fluoroscopy", "Phiếu kết quả chụp X-quang"),
    "MG": Words("Report of mammography", "Phiếu kết quả chụp X-quang tuyến vú"),
    "US": Words("Report of ultrasound", "Phiếu kết quả siêu âm"),
    "XA": Words("Report of angiography", "Phiếu kết quả chụp mạch số hoá xoá nền"),
    "ES": Words("Report of endoscopy", "Phiếu kết quả nội soi"),
    "ECG": Words("Report of electrocardiography", "Phiếu kết quả điện tim"),
}
TITLE: Final = Words("Imaging report", "Phiếu kết quả chẩn đoán hình ảnh")

DRAFT: Final = Words("DRAFT", "BẢN NHÁP")
PRELIMINARY: Final = Words("PRELIMINARY", "KẾT QUẢ SƠ BỘ")
UNSIGNED: Final = Words("NO DIGITAL SIGNATURE", "CHƯA KÝ SỐ")
REVISED: Final = Words("UNDER CORRECTION", "ĐANG ĐÍNH CHÍNH")
RETRACTED: Final = Words("RETRACTED", "ĐÃ THU HỒI")
CORRECTS: Final = Words(
    "CORRECTION of version {version} of {at:%d/%m/%Y %H:%M}. Reason: {reason}",
    "ĐÍNH CHÍNH phiên bản {version} ngày {at:%d/%m/%Y %H:%M}. Lý do: {reason}",
)
ADDS: Final = Words(
    "ADDED to version {version} of {at:%d/%m/%Y %H:%M}: see the addendum.",
    "BỔ SUNG cho phiên bản {version} ngày {at:%d/%m/%Y %H:%M}: xem phần bổ sung.",
)
WITHDRAWS: Final = Words(
    "The approval of version {version} was withdrawn at {at:%H:%M %d/%m/%Y}; a correction will"
    " follow. Reason: {reason}",
    "Phiên bản {version} đã bị huỷ duyệt lúc {at:%H:%M %d/%m/%Y}, đang chờ đính chính."
    " Lý do: {reason}",
)
