import pytest
from pydicom import Dataset

from pacs import transcode
from pacs.render import trees
from tests.fixtures.dicom_files import ct_slice, encode

EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"


def test_values_are_read_by_keyword():
    item = Dataset()
    item.CodeMeaning = "Phổi"
    tree = trees.read(encode(ct_slice(AnatomicRegionSequence=[item, Dataset()])), EXPLICIT)

    assert tree.text("PatientName") == "NGUYỄN^VĂN AN"
    assert tree.text("ImageType") == "ORIGINAL\\PRIMARY\\AXIAL"
    assert tree.number("SeriesNumber") == 2
    assert tree.numbers("ImagePositionPatient") == [-125.5, 10, 3.25]
    assert tree.item("AnatomicRegionSequence").text("CodeMeaning") == "Phổi"
    assert len(tree.items("AnatomicRegionSequence")) == 2


def test_what_is_absent_is_empty():
    tree = trees.read(encode(ct_slice()), EXPLICIT)

    assert tree.text("CodeMeaning") == ""
    assert tree.number("CodeMeaning") is None
    assert tree.items("ContentSequence") == []
    assert tree.item("ContentSequence").item("ContentSequence").text("CodeMeaning") == ""
    assert tree.binary("EncapsulatedDocument") == b""


@pytest.mark.parametrize("length", [10, 5000])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_binary_values_are_little_endian(length, syntax):
    words = bytes(range(256)) * (length // 128)
    group = Dataset()
    group.add_new("WaveformData", "OW", words)
    content = encode(ct_slice(WaveformSequence=[group]), EXPLICIT)
    if syntax == BIG:
        content = transcode.transcode(content, EXPLICIT, BIG)

    tree = trees.read(content, syntax)

    assert tree.item("WaveformSequence").binary("WaveformData") == words
