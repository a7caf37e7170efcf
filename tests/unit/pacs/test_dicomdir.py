from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from pacs import contexts, dicomdir, header
from pacs.dicomdir import Directory, File
from storage.base.errors import NotSupported
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.dicom_papers import structured_report
from tests.fixtures.presentation_states import presentation_state

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN


def directory(*datasets: Dataset, syntax: str = EXPLICIT) -> Dataset:
    made = Directory()
    for number, dataset in enumerate(datasets):
        uids = dataset.SOPClassUID, dataset.SOPInstanceUID
        made.add(
            File(("DICOM", f"I{number}"), *uids, syntax),
            header.scan(encode(dataset, syntax), syntax),
        )
    return dcmread(BytesIO(made.encode("DISC")))


def at(made: Dataset, offset: int) -> Dataset:
    [found] = [one for one in made.DirectoryRecordSequence if one.seq_item_tell == offset]
    return found


def chain(made: Dataset, offset: int) -> list[Dataset]:
    found = []
    while offset:
        found.append(at(made, offset))
        offset = found[-1].OffsetOfTheNextDirectoryRecord
    return found


def test_offsets_lead_from_the_root_to_every_file():
    first, second = ct_slice(), ct_slice()
    second.StudyInstanceUID, second.SeriesInstanceUID = (
        first.StudyInstanceUID,
        first.SeriesInstanceUID,
    )
    stranger = ct_slice(PatientID="BN2", PatientName="TRẦN^B")

    made = directory(first, stranger, second)

    root = made.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
    patients = chain(made, root)
    assert [one.PatientID for one in patients] == ["BN0001", "BN2"]
    last = made.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity
    assert at(made, last) is patients[-1]
    [study] = chain(made, patients[0].OffsetOfReferencedLowerLevelDirectoryEntity)
    [series] = chain(made, study.OffsetOfReferencedLowerLevelDirectoryEntity)
    images = chain(made, series.OffsetOfReferencedLowerLevelDirectoryEntity)
    assert [one.ReferencedSOPInstanceUIDInFile for one in images] == [
        first.SOPInstanceUID,
        second.SOPInstanceUID,
    ]
    assert [list(one.ReferencedFileID) for one in images] == [["DICOM", "I0"], ["DICOM", "I2"]]
    assert all(not one.OffsetOfReferencedLowerLevelDirectoryEntity for one in images)


def test_names_keep_their_letters():
    [patient, *_] = directory(ct_slice()).DirectoryRecordSequence

    assert patient.SpecificCharacterSet == "ISO_IR 192"
    assert patient.PatientName == "NGUYỄN^VĂN AN"


def test_numbers_that_must_be_there_are_made_up():
    bare = ct_slice()
    for keyword in ("InstanceNumber", "SeriesNumber"):
        del bare[keyword]

    _, study, series, image = directory(bare).DirectoryRecordSequence

    assert (study.StudyID, series.SeriesNumber, image.InstanceNumber) == ("1", 1, 1)


def test_a_presentation_says_what_it_refers_to():
    image = ct_slice()
    state = presentation_state(image)

    explicit = directory(state).DirectoryRecordSequence[-1]
    implicit = directory(state, syntax=contexts.IMPLICIT_VR_LITTLE_ENDIAN)

    assert explicit.DirectoryRecordType == "PRESENTATION"
    assert explicit.ReferencedSeriesSequence == state.ReferencedSeriesSequence
    assert "ReferencedSeriesSequence" not in implicit.DirectoryRecordSequence[-1]


def test_a_document_has_its_title():
    report = structured_report()

    found = directory(report).DirectoryRecordSequence[-1]

    assert found.DirectoryRecordType == "SR DOCUMENT"
    title = found.ConceptNameCodeSequence[0].CodeMeaning
    assert title == report.ConceptNameCodeSequence[0].CodeMeaning


@pytest.mark.parametrize(
    ("uid", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.481.1", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RT DOSE"),
        ("1.2.840.10008.5.1.4.1.1.66", "RAW DATA"),
        ("1.2.840.10008.5.1.4.1.1.66.1", "REGISTRATION"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.67", "VALUE MAP"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "KEY OBJECT DOC"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR DOCUMENT"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "ENCAP DOC"),
        ("1.2.840.10008.5.1.4.1.1.4.2", "SPECTROSCOPY"),
        ("1.2.840.10008.5.1.4.1.1.4.1", "IMAGE"),
        ("1.2.3.4", "IMAGE"),
    ],
)
def test_the_sop_class_decides_the_type(uid, kind):
    assert dicomdir.record_type(uid, pixels=True) == kind


def test_what_is_no_image_and_unknown_has_no_record():
    assert dicomdir.record_type("1.2.3.4", pixels=False) is None
    assert dicomdir.record_type("", pixels=False) is None


def test_an_empty_directory_is_one():
    made = directory()

    assert made.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity == 0
    assert not made.DirectoryRecordSequence


def test_there_is_an_end_to_files(monkeypatch):
    monkeypatch.setattr(dicomdir, "MAX_RECORDS", 2)

    with pytest.raises(NotSupported):
        directory(ct_slice(), ct_slice(), ct_slice())


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_value_that_is_too_long_is_cut():
    long = ct_slice()
    long["StudyDescription"].VR = "UT"
    long.StudyDescription = "x" * 70_000

    study = directory(long).DirectoryRecordSequence[1]

    assert 1_000 < len(study.StudyDescription) < 65_536
