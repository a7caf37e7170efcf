import html

import pytest
from pydicom import Dataset

from pacs.render import documents, trees
from storage.base.errors import NotSupported
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.dicom_papers import code, content, structured_report

EXPLICIT = "1.2.840.10008.1.2.1"


def read(report: Dataset, language: str = "en") -> documents.Document:
    return documents.read(trees.read(encode(report), EXPLICIT), language)


def text(report: Dataset, language: str = "en") -> str:
    return documents.to_text(read(report, language)).decode()


def page(report: Dataset, link: documents.Link = lambda _series, _instance: "") -> str:
    return documents.to_html(read(report), link).decode()


def measured(value: str, unit: str, meaning: str) -> Dataset:
    item = Dataset()
    item.NumericValue, item.MeasurementUnitsCodeSequence = value, [code(meaning, unit, "UCUM")]
    return item


def reference(uid: str, **values: object) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = uid
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


VALUES = [
    (content("TEXT", "C", TextValue="một\nhai"), "C: một"),
    (content("CODE", "C", ConceptCodeSequence=[code("Có")]), "C: Có"),
    (
        content("NUM", "C", MeasuredValueSequence=[measured("12.5", "mm", "millimeter")]),
        "C: 12.5 mm",
    ),
    (content("NUM", "C", MeasuredValueSequence=[measured("3", "1", "no units")]), "C: 3"),
    (
        content("NUM", "C", NumericValueQualifierCodeSequence=[code("Not a number")]),
        "C: Not a number",
    ),
    (content("PNAME", "C", PersonName="TRẦN^BÌNH^THỊ"), "C: TRẦN THỊ BÌNH"),
    (content("DATE", "C", Date="20260131"), "C: 2026-01-31"),
    (content("TIME", "C", Time="081530.25"), "C: 08:15:30"),
    (content("DATETIME", "C", DateTime="20260131081530+0700"), "C: 2026-01-31 08:15:30"),
    (content("UIDREF", "C", UID="1.2.3"), "C: 1.2.3"),
    (content("IMAGE", "C", ReferencedSOPSequence=[reference("1.2.3")]), "C: CT Image"),
    (
        content(
            "IMAGE", "C", ReferencedSOPSequence=[reference("1.2.3", ReferencedFrameNumber=[2, 5])]
        ),
        "C: CT Image, frames 2, 5",
    ),
    (
        content("SCOORD", "C", GraphicType="POLYLINE", GraphicData=[1.0, 2, 3, 4, 5, 6]),
        "C: POLYLINE, 3 points",
    ),
    (
        content("TCOORD", "C", TemporalRangeType="POINT", ReferencedSamplePositions=[7, 9]),
        "C: POINT 7, 9",
    ),
]


@pytest.mark.parametrize(("item", "line"), VALUES, ids=[line for _, line in VALUES])
def test_every_value_type_is_read(item, line):
    assert line in text(structured_report(item)).splitlines()


def test_the_tree_is_shown_as_it_branches():
    report = structured_report(
        content(
            "CONTAINER",
            "Lungs",
            content(
                "TEXT",
                "Finding",
                content("CODE", "Reason", RelationshipType="INFERRED FROM"),
                TextValue="Nốt mờ",
            ),
        )
    )

    lines = text(report).splitlines()

    assert lines[-3:] == ["Lungs", "  Finding: Nốt mờ", "    inferred from Reason: "]
    shown = page(report)
    assert shown.index("<h2>Lungs</h2>") < shown.index("Nốt mờ") < shown.index("Reason")


def test_facts_of_patient_and_verification_are_shown():
    observer = Dataset()
    observer.VerifyingObserverName = "LÊ^HOA"
    observer.VerifyingOrganization = "Khoa CĐHA"
    observer.VerificationDateTime = "20260302101112"
    report = structured_report(
        VerificationFlag="VERIFIED", VerifyingObserverSequence=[observer], AccessionNumber="A-9"
    )

    assert dict(read(report, "vi").facts) == {
        "Người bệnh": "NGUYỄN VĂN AN",
        "Mã người bệnh": "BN0001",
        "Ngày sinh": "1960-01-02",
        "Giới tính": "Nam",
        "Ngày chụp": "2026-03-01",
        "Nội dung": "Chụp cắt lớp ngực",
        "Số phiếu": "A-9",
        "Ngày báo cáo": "2026-03-01",
        "Giờ báo cáo": "08:15:00",
        "Hoàn tất": "đầy đủ",
        "Xác nhận": "đã xác nhận",
        "Xác nhận bởi": "LÊ HOA, Khoa CĐHA, 2026-03-02 10:11:12",
    }
    assert dict(read(report).facts)["Verification"] == "verified"


HOSTILE = "\"><script>alert('x')</script><img src=x onerror=y>&\x1b\x00\u202e"


def test_texts_of_a_report_are_never_markup():
    report = structured_report(
        content("TEXT", HOSTILE, TextValue=HOSTILE),
        content("CONTAINER", HOSTILE),
        PatientName=HOSTILE,
        ConceptNameCodeSequence=[code(HOSTILE)],
    )

    shown = page(report, lambda _series, _instance: HOSTILE)

    assert "<script" not in shown
    assert "<img" not in shown
    assert not set("\x1b\x00\u202e") & set(shown)
    assert html.escape("<script>") in shown


def test_images_that_are_evidence_are_linked():
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.7", [reference("1.2.8")]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.6", [series]
    report = structured_report(
        content("IMAGE", "Key", ReferencedSOPSequence=[reference("1.2.8")]),
        content("IMAGE", "Other", ReferencedSOPSequence=[reference("1.2.9")]),
        CurrentRequestedProcedureEvidenceSequence=[study],
    )

    shown = page(report, lambda series, instance: f"/{series}/{instance}")

    assert shown.count("<a ") == 1
    assert '<a href="/1.2.7/1.2.8">' in shown


def test_what_has_no_content_tree_is_no_report():
    with pytest.raises(NotSupported, match="content tree"):
        read(ct_slice())


def test_a_report_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(documents, "MAX_ITEMS", 5)
    report = structured_report(*(content("TEXT", "C", TextValue="x") for _ in range(6)))

    with pytest.raises(NotSupported, match="5 content items"):
        read(report)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", True),
        ("1.2.840.10008.5.1.4.1.1.88.59", True),
        ("1.2.840.10008.5.1.4.1.1.104.1", False),
        ("1.2.840.10008.5.1.4.1.1.2", False),
    ],
)
def test_sop_classes_with_a_content_tree(uid, expected):
    assert documents.is_report(uid) is expected
