import json

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from pacs import correcting, dicom_json, header, part10
from pacs.correcting import Correction
from storage.base.errors import NotSupported
from tests.fixtures.dicom_files import ct_slice, encapsulated, encode

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
SURVIVOR = {
    "PatientName": "TRẦN THỊ THẬT",
    "PatientID": "0000042",
    "IssuerOfPatientID": "BVDK",
    "PatientBirthDate": "19700203",
    "PatientSex": "F",
}


def plain(**values: object) -> Dataset:
    """A slice of a device that knows no accents."""
    dataset = ct_slice(PatientName="VO DANH", StudyDescription="CT NGUC", **values)
    del dataset.SpecificCharacterSet
    return dataset


def decoded(content: bytes, syntax: str) -> Dataset:
    head = part10.head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", syntax)
    return dcmread(DicomBytesIO(head + content), force=True)


def corrected(
    dataset: Dataset, correction: Correction, syntax: str = ExplicitVRLittleEndian
) -> Dataset:
    return decoded(correcting.corrected(encode(dataset, syntax), syntax, correction), syntax)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: UID(uid).name)
def test_everything_but_the_correction_goes_out_as_it_came(syntax: str) -> None:
    sent = ct_slice()

    given = corrected(sent, SURVIVOR, syntax)

    for keyword, text in SURVIVOR.items():
        assert str(given[keyword].value) == text
    for element in sent:
        if element.keyword not in SURVIVOR:
            assert given[element.tag] == element, element.keyword
    assert {element.keyword for element in given} == {
        *SURVIVOR,
        *(element.keyword for element in sent),
    }


def test_bytes_behind_the_patient_stay_byte_by_byte() -> None:
    content = encode(ct_slice())

    made = correcting.splice(content, ExplicitVRLittleEndian, SURVIVOR)
    whole = correcting.corrected(content, ExplicitVRLittleEndian, SURVIVOR)

    assert whole == made.head + content[made.skipped :]
    assert content[made.skipped : made.skipped + 2] == b"\x20\x00"


def test_encapsulated_pixels_go_out_as_they_are() -> None:
    frames = [b"\xff\xd8one\xff\xd9", b"\xff\xd8two!\xff\xd9"]
    sent = encapsulated(ct_slice(NumberOfFrames=2), frames)

    given = corrected(sent, SURVIVOR, JPEGBaseline8Bit)

    assert given.PixelData == sent.PixelData


def test_accents_make_an_ascii_dataset_utf_8() -> None:
    given = corrected(plain(), SURVIVOR)

    assert given.SpecificCharacterSet == "ISO_IR 192"
    assert given.PatientName == "TRẦN THỊ THẬT"
    assert given.StudyDescription == "CT NGUC"


def test_ascii_correction_leaves_the_character_set() -> None:
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER", StudyDescription="é")

    given = corrected(sent, {**SURVIVOR, "PatientName": "TRAN THI THAT"})

    assert given.SpecificCharacterSet == "ISO_IR 100"
    assert given.StudyDescription == "é"


def test_letters_of_the_declared_character_set_are_written_in_it() -> None:
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="A", StudyDescription="é")

    given = corrected(sent, {**SURVIVOR, "PatientName": "MÜLLER"})

    assert (given.SpecificCharacterSet, given.PatientName) == ("ISO_IR 100", "MÜLLER")


def test_name_loses_its_accents_where_other_texts_cannot_be_told() -> None:
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="A", StudyDescription="é")

    given = corrected(sent, SURVIVOR)

    assert given.PatientName == "TRAN THI THAT"
    assert (given.SpecificCharacterSet, given.StudyDescription) == ("ISO_IR 100", "é")


def test_text_in_a_sequence_counts_as_another_text() -> None:
    item = Dataset()
    item.ScheduledProcedureStepDescription = "é"
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="A", StudyDescription="b")
    sent.RequestAttributesSequence = Sequence([item])

    given = corrected(sent, SURVIVOR)

    assert given.SpecificCharacterSet == "ISO_IR 100"


def test_number_that_would_be_misspelt_does_not_go_out() -> None:
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="A", StudyDescription="é")

    with pytest.raises(NotSupported, match="PatientID"):
        corrected(sent, {**SURVIVOR, "PatientID": "ĐT1"})


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda uid: UID(uid).name)
def test_qualifiers_of_the_issuer_go_with_the_number_that_they_were_of(syntax: str) -> None:
    item = Dataset()
    item.UniversalEntityID = "1.2.3"
    sent = ct_slice()
    sent.IssuerOfPatientIDQualifiersSequence = Sequence([item])

    given = corrected(sent, SURVIVOR, syntax)

    assert "IssuerOfPatientIDQualifiersSequence" not in given
    assert given.Rows == 16


def test_empty_correction_leaves_an_empty_element() -> None:
    given = corrected(ct_slice(), {**SURVIVOR, "PatientSex": "", "PatientBirthDate": ""})

    assert given["PatientSex"].is_empty
    assert given["PatientBirthDate"].is_empty


def test_dataset_that_lacks_the_attributes_gets_them() -> None:
    sent = ct_slice()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        delattr(sent, keyword)

    given = corrected(sent, SURVIVOR)

    assert given.PatientID == "0000042"
    assert [element.tag for element in given] == sorted(element.tag for element in given)


def test_dataset_without_anything_behind_the_patient_is_corrected() -> None:
    sent = Dataset()
    sent.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    sent.PatientID = "A"

    assert corrected(sent, SURVIVOR).PatientSex == "F"


def test_group_lengths_before_the_patient_are_left_out() -> None:
    sent = ct_slice()
    sent.add_new(0x00080000, "UL", 4711)
    sent.add_new(0x00100000, "UL", 4712)

    given = corrected(sent, SURVIVOR)

    assert 0x00080000 not in given
    assert 0x00100000 not in given


def test_name_that_is_too_long_is_cut() -> None:
    given = corrected(ct_slice(), {**SURVIVOR, "PatientName": "Ạ" * 100 + "=漢^字"})

    assert str(given.PatientName) == "Ạ" * 64 + "=漢^字"


def test_json_is_the_one_of_the_corrected_dataset() -> None:
    sent = ct_slice()
    start = encode(sent)
    uri = "https://example/{}".format

    made = dicom_json.dataset_json(start, ExplicitVRLittleEndian, uri)
    correcting.put_json(made, SURVIVOR)
    whole = correcting.corrected(start, ExplicitVRLittleEndian, SURVIVOR)

    assert dict(sorted(made.items())) == dicom_json.dataset_json(whole, ExplicitVRLittleEndian, uri)


def test_correction_is_read_as_the_index_keeps_it() -> None:
    assert correcting.read("") == {}
    assert correcting.read(json.dumps(SURVIVOR)) == SURVIVOR


def test_splice_of_a_start_without_pixels_is_the_same() -> None:
    content = encode(ct_slice())
    end = header.pixel_data_at(content, ExplicitVRLittleEndian)
    assert end is not None

    assert correcting.splice(content[:end], ExplicitVRLittleEndian, SURVIVOR) == correcting.splice(
        content, ExplicitVRLittleEndian, SURVIVOR
    )


ORDERED = {
    "AccessionNumber": "7781001",
    "StudyDescription": "Chụp cắt lớp ngực có thuốc",
    "RequestAttributesSequence": [
        {"RequestedProcedureID": "R1", "RequestedProcedureDescription": "Chụp ngực"},
        {"RequestedProcedureID": "R2", "AccessionNumber": "7781002"},
    ],
}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: UID(uid).name)
def test_order_is_put_in_and_everything_else_goes_out_as_it_came(syntax: str) -> None:
    private = {"StudyComments": "x"}
    sent = ct_slice(BodyPartExamined="CHEST", WindowCenter="40", **private)

    given = corrected(sent, ORDERED, syntax)

    assert (given.AccessionNumber, given.StudyDescription) == (
        "7781001",
        "Chụp cắt lớp ngực có thuốc",
    )
    first, second = given.RequestAttributesSequence
    assert (first.RequestedProcedureID, first.RequestedProcedureDescription) == ("R1", "Chụp ngực")
    assert (second.RequestedProcedureID, second.AccessionNumber) == ("R2", "7781002")
    for element in sent:
        if element.keyword not in ORDERED:
            assert given[element.tag] == element, element.keyword


@pytest.mark.parametrize(
    ("named", "kept"), [("R2", True), ("R2 ", True), ("R3", False), ("", False)]
)
def test_sequence_of_a_device_that_names_the_order_is_kept(named: str, *, kept: bool) -> None:
    item = Dataset()
    item.RequestedProcedureID = named
    item.ScheduledProcedureStepID = "OWN"
    sent = ct_slice(RequestAttributesSequence=Sequence([item]))

    given = corrected(sent, ORDERED)
    made = dicom_json.dataset_json(encode(sent), ExplicitVRLittleEndian, str)
    correcting.put_json(made, ORDERED)

    assert ("ScheduledProcedureStepID" in given.RequestAttributesSequence[0]) is kept
    assert ("00400009" in made["00400275"]["Value"][0]) is kept


def test_description_loses_its_accents_where_other_texts_cannot_be_told() -> None:
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER", StudyDescription="é")

    given = corrected(sent, ORDERED)

    assert given.StudyDescription == "Chup cat lop nguc co thuoc"
    assert given.RequestAttributesSequence[0].RequestedProcedureDescription == "Chup nguc"
    assert given.PatientName == "MÜLLER"


def test_several_corrections_are_read_one_after_another() -> None:
    text = json.dumps(SURVIVOR) + json.dumps(ORDERED)

    assert correcting.read(text) == {**SURVIVOR, **ORDERED}
    assert correcting.read("") == {}


def test_number_of_an_order_that_cannot_be_written_is_left_as_it_came() -> None:
    sent = ct_slice(SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER", StudyDescription="é")
    items = [{"RequestedProcedureID": "R1", "AccessionNumber": "Đ1"}]

    given = corrected(sent, {"AccessionNumber": "Đ1", "RequestAttributesSequence": items})

    assert given.AccessionNumber == sent.AccessionNumber
    assert [element.keyword for element in given.RequestAttributesSequence[0]] == [
        "RequestedProcedureID"
    ]
