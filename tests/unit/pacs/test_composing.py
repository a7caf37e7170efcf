"""Datasets made of DICOM JSON Model objects, compared with what they were made of."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset

from pacs import composing, contexts, dicom_json, frames, header
from pacs.composing import Bulk, Value
from storage.base.errors import Malformed
from tests.fixtures import dicom_files

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN


def value(content: bytes) -> Value:
    return Value(len(content), lambda: iter((content,)))


def composed(dataset: dict, **bulk: Bulk) -> bytes:
    return b"".join(composing.compose(dataset, bulk))


def read(content: bytes) -> Dataset:
    return read_dataset(BytesIO(content), is_implicit_VR=False, is_little_endian=True)


def test_an_object_survives_the_way_through_json():
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    item.ReferencedStudySequence = [Dataset()]
    dataset = dicom_files.ct_slice(
        RequestAttributesSequence=[item, Dataset()],
        ReferencedStudySequence=[],
        FrameIncrementPointer=[0x00181063, 0x00181065],
        PatientName="NGUYỄN^VĂN AN=漢字=x",
        OtherPatientIDs=["A", "", "B"],
        PatientComments="a\\b\nc",
        PatientWeight="61.5",
        ICCProfile=bytes(range(10)),
        RedPaletteColorLookupTableDescriptor=[256, 0, 16],
        EthnicGroup="",
    )
    block = dataset.private_block(0x0009, "ACME", create=True)
    block.add_new(0x02, "LO", "private")
    pixels = dataset.PixelData
    told = dicom_json.dataset_json(dicom_files.encode(dataset), EXPLICIT, lambda path: path)

    content = composed(told, **{"7FE00010": Bulk([value(pixels)])})

    assert read(content) == dataset
    assert dicom_json.dataset_json(content, EXPLICIT, lambda path: path) == told


def test_what_is_not_of_the_dataset_is_left_out():
    content = composed(
        {
            "00020010": {"vr": "UI", "Value": ["1.2"]},
            "00081190": {"vr": "UR", "Value": ["http://elsewhere"]},
            "00083002": {"vr": "UI", "Value": ["1.2"]},
            "00100000": {"vr": "UL", "Value": [7]},
            "00100020": {"vr": "LO", "Value": ["X"]},
        }
    )

    assert [element.keyword for element in read(content)] == ["SpecificCharacterSet", "PatientID"]


def test_frames_become_fragments():
    dataset = {
        "00280008": {"vr": "IS", "Value": [2]},
        "7FE00010": {"vr": "OB", "BulkDataURI": "pixels"},
    }
    pictures = [b"\xff\xd8abc", b"\xff\xd8abcd"]

    content = composed(dataset, pixels=Bulk([*map(value, pictures)], encapsulated=True))

    found = header.scan(content, contexts.JPEG_BASELINE)
    index = frames.locate(found, lambda start, length: content[start : start + length])
    assert index.count == 2
    [(start, length)] = index.pieces(1)
    assert content[start : start + length] == pictures[0] + b"\0"


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ({"00100020": "X"}, "no object"),
        ({"00100020": {"vr": "XX"}}, "VR"),
        ({"00100020": {"vr": ["LO"]}}, "VR"),
        ({"0010002": {"vr": "LO"}}, "no tag"),
        ({"00100020": {"vr": "LO", "Value": "X"}}, "no array"),
        ({"00100020": {"vr": "LO", "Value": [{}]}}, "none of VR LO"),
        ({"00100020": {"vr": "LO", "Value": ["a\\b"]}}, "none of VR LO"),
        ({"00100020": {"vr": "LO", "Value": ["x" * 70_000]}}, "70000 bytes"),
        ({"00104000": {"vr": "LT", "Value": ["a", "b"]}}, "several values"),
        ({"00280010": {"vr": "US", "Value": [70_000]}}, "none of VR US"),
        ({"00280010": {"vr": "US", "Value": [1.5]}}, "none of VR US"),
        ({"00280010": {"vr": "US", "Value": [True]}}, "none of VR US"),
        ({"00280009": {"vr": "AT", "Value": ["x"]}}, "none of VR AT"),
        ({"00101030": {"vr": "DS", "Value": [float("inf")]}}, "none of VR DS"),
        ({"00282000": {"vr": "OB", "InlineBinary": "?"}}, "base64"),
        ({"00282000": {"vr": "OW", "InlineBinary": "AAAA"}}, "3 bytes"),
        ({"00282000": {"vr": "OB", "Value": [1]}}, "InlineBinary"),
        ({"7FE00010": {"vr": "OW", "BulkDataURI": "nowhere"}}, "no part"),
        ({"00100020": {"vr": "LO", "BulkDataURI": "x"}}, "bulk data in VR LO"),
        ({"00400275": {"vr": "SQ", "Value": ["x"]}}, "no object"),
    ],
    ids=range(20),
)
def test_what_is_no_value_is_malformed(attribute: dict, said: str):
    with pytest.raises(Malformed, match=said):
        composed(attribute, x=Bulk([value(b"x")]))


def test_endless_nesting_is_refused():
    deep: dict = {}
    for _ in range(40):
        deep = {"00400275": {"vr": "SQ", "Value": [deep]}}

    with pytest.raises(Malformed, match="in each other"):
        composed(deep)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_is_short_and_near(number: float):
    text = read(composed({"00101030": {"vr": "DS", "Value": [number]}})).PatientWeight

    assert len(str(text).strip()) <= 16
    assert float(text) == pytest.approx(number, rel=1e-8)
