"""Datasets with sequences, read and written, against pydicom."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs.scp import datasets
from storage.base.errors import Malformed
from tests.fixtures.dicom_files import encode

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
STEP: datasets.Attributes = {
    "PatientName": "NGUYỄN^VĂN AN=阮文安",
    "PatientID": "BN-7",
    "PerformedStationAETitle": "",
    "SimpleFrameList": "1\\70000",
    "ExposureTimeInms": "0.5",
    "PerformedSeriesSequence": [
        {
            "SeriesInstanceUID": "1.2.3",
            "OperatorsName": "A\\B",
            "PerformedProtocolCodeSequence": [{"CodeValue": "P1", "CodeMeaning": "Ngực"}],
        },
        {"SeriesInstanceUID": "1.2.4", "PerformedProtocolCodeSequence": []},
    ],
}


@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
def test_what_is_written_is_read_again(transfer_syntax: str) -> None:
    written = datasets.write(STEP, transfer_syntax)

    assert datasets.read(written, transfer_syntax) == STEP


@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
def test_sequences_of_pydicom_are_read(transfer_syntax: str) -> None:
    protocol = Dataset()
    protocol.CodeValue, protocol.CodeMeaning = "P1", "Ngực"
    series = Dataset()
    series.SeriesInstanceUID, series.OperatorsName = "1.2.3", ["A", "B"]
    series.PerformedProtocolCodeSequence = [protocol]
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.PatientName, step.PerformedStationAETitle = "NGUYỄN^VĂN AN", ""
    step.PerformedSeriesSequence = [series]

    assert datasets.read(encode(step, transfer_syntax), transfer_syntax) == {
        "PatientName": "NGUYỄN^VĂN AN",
        "PerformedStationAETitle": "",
        "PerformedSeriesSequence": [datasets.items(STEP, "PerformedSeriesSequence")[0]],
    }


def test_pydicom_reads_what_is_written() -> None:
    written = datasets.write(STEP, ExplicitVRLittleEndian)

    read = dcmread(BytesIO(written), force=True)

    assert read.SpecificCharacterSet == "ISO_IR 192"
    assert read.PatientName == "NGUYỄN^VĂN AN=阮文安"
    assert read.SimpleFrameList == [1, 70000]
    assert read.ExposureTimeInms == 0.5
    assert read.PerformedSeriesSequence[0].PerformedProtocolCodeSequence[0].CodeMeaning == "Ngực"
    assert len(read.PerformedSeriesSequence[1].PerformedProtocolCodeSequence) == 0


def test_character_set_is_declared_only_where_it_is_needed() -> None:
    assert "SpecificCharacterSet" not in dcmread(
        BytesIO(datasets.write({"PatientID": "A"}, ExplicitVRLittleEndian)), force=True
    )


def test_value_longer_than_its_vr_can_say_is_kept() -> None:
    long = {"PatientComments": "x" * 70_000}

    written = datasets.write(long, ExplicitVRLittleEndian)

    assert len(written) == 12 + 70_000
    assert written[4:6] == b"UN"


@pytest.mark.parametrize("data", [b"\x10\0", b"\x10\0\x10\0PN\xff\xffA", b"junk" * 9])
def test_broken_encoding_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        datasets.read(data, ExplicitVRLittleEndian)


@pytest.mark.parametrize("text", ["many", "70000", "-1", "1\\x"])
def test_value_that_is_none_of_its_vr_costs_only_itself(text: str) -> None:
    written = datasets.write({"Rows": text, "PatientID": "A"}, ExplicitVRLittleEndian)

    assert datasets.read(written, ExplicitVRLittleEndian) == {"PatientID": "A", "Rows": ""}


def test_text_under_the_tag_of_a_sequence_costs_only_itself() -> None:
    written = datasets.write({"Rows": "1", "PatientID": "A"}, ExplicitVRLittleEndian)
    sequence = written.replace(b"\x10\x00\x20\x00LO", b"\x18\x00\x01\x93LO")

    assert sequence != written
    found = datasets.read(sequence, ExplicitVRLittleEndian)

    assert found["CTAcquisitionTypeSequence"] == []
    assert datasets.read(datasets.write(found, ExplicitVRLittleEndian), ExplicitVRLittleEndian)


def test_tag_of_a_repeating_group_is_left_out() -> None:
    written = datasets.write({"Rows": "1", "PatientID": "A"}, ExplicitVRLittleEndian)
    curve = written.replace(b"\x28\x00\x10\x00US", b"\x02\x50\x05\x00US")

    assert curve != written
    assert datasets.read(curve, ExplicitVRLittleEndian) == {"PatientID": "A"}


@given(st.data())
@settings(deadline=None)
def test_mutated_data_sets_are_malformed_or_can_be_written_again(data: st.DataObject) -> None:
    syntax = data.draw(st.sampled_from(SYNTAXES))
    mutated = bytearray(datasets.write(STEP, syntax))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))

    try:
        found = datasets.read(bytes(mutated), syntax)
    except Malformed:
        return
    for other in SYNTAXES:
        datasets.read(datasets.write(found, other), other)
