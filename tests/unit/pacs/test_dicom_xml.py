"""The Native DICOM Model: what is written, what is read back, what is refused."""

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pacs import contexts, dicom_json, dicom_xml
from storage.base.errors import Malformed
from tests.fixtures import dicom_files

SPACE = f"{{{dicom_xml.NAMESPACE}}}"


def attribute(document: bytes, tag: str) -> ET.Element:
    [found] = [one for one in ET.fromstring(document) if one.get("tag") == tag]  # noqa: S314 - ours
    return found


def test_values_are_numbered_and_gaps_stay_gaps():
    document = dicom_xml.encode({"00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}})

    found = attribute(document, "00080008")

    assert found.attrib == {"tag": "00080008", "vr": "CS", "keyword": "ImageType"}
    assert [(one.get("number"), one.text) for one in found] == [("1", "ORIGINAL"), ("3", "AXIAL")]


def test_person_name_is_written_by_component():
    name = {"Alphabetic": "NGUYỄN^VĂN^AN^^Jr", "Ideographic": "阮^文安"}

    [found] = attribute(dicom_xml.encode({"00100010": {"vr": "PN", "Value": [name]}}), "00100010")

    assert {one.tag.removeprefix(SPACE): one.text for one in found[0]} == {
        "FamilyName": "NGUYỄN",
        "GivenName": "VĂN",
        "MiddleName": "AN",
        "NameSuffix": "Jr",
    }
    assert [one.text for one in found[1]] == ["阮", "文安"]


def test_private_element_is_named_without_its_block():
    dataset = {
        "00090011": {"vr": "LO", "Value": ["ACME"]},
        "00091102": {"vr": "LO", "Value": ["x"]},
        "00091202": {"vr": "LO", "Value": ["whose?"]},
    }

    document = dicom_xml.encode(dataset)

    assert attribute(document, "00090002").get("privateCreator") == "ACME"
    assert attribute(document, "00091202").get("privateCreator") is None
    assert dicom_xml.decode(document) == dataset


def test_what_xml_cannot_hold_is_replaced():
    document = dicom_xml.encode({"00104000": {"vr": "LT", "Value": ['a\x1b\x00<&>"\r\n\tb']}})

    assert dicom_xml.decode(document)["00104000"]["Value"] == ['a\ufffd\ufffd<&>"\r\n\tb']


def test_an_object_survives_the_way_there_and_back():
    item = {"00400009": {"vr": "SH", "Value": ["S1"]}, "00400280": {"vr": "ST"}}
    dataset = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}, {"Phonetic": "p"}]},
        "00282000": {"vr": "OB", "InlineBinary": "AAEC"},
        "00400275": {"vr": "SQ", "Value": [item, {}, item]},
        "00400280": {"vr": "ST"},
        "7FE00010": {"vr": "OW", "BulkDataURI": "http://host/a?b=1&c=2"},
    }

    assert dicom_xml.decode(dicom_xml.encode(dataset)) == dataset


def test_creator_that_is_only_named_gets_a_block():
    document = (
        b'<NativeDicomModel><DicomAttribute tag="00090010" vr="LO"><Value number="1">OTHER</Value>'
        b'</DicomAttribute><DicomAttribute tag="00090002" vr="LO" privateCreator="ACME">'
        b'<Value number="1">x</Value></DicomAttribute></NativeDicomModel>'
    )

    assert dicom_xml.decode(document) == {
        "00090010": {"vr": "LO", "Value": ["OTHER"]},
        "00090011": {"vr": "LO", "Value": ["ACME"]},
        "00091102": {"vr": "LO", "Value": ["x"]},
    }


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><NativeDicomModel/>'
DEEP = b'<DicomAttribute tag="00400275" vr="SQ"><Item number="1">' * 40


def model(content: bytes) -> bytes:
    return b"<NativeDicomModel>" + content + b"</NativeDicomModel>"


def patient_id(content: bytes) -> bytes:
    return model(b'<DicomAttribute tag="00100020" vr="LO">' + content + b"</DicomAttribute>")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not XML"),
        (b"<a", "not XML"),
        (b"<a/>", "XML element a"),
        (BOMB, "document type"),
        (model(b"<Value/>"), "XML element Value"),
        (model(b'<DicomAttribute tag="1" vr="LO"/>'), "eight"),
        (model(b'<DicomAttribute tag="00100010"/>'), "VR"),
        (patient_id(b'<Value number="x"/>'), "number"),
        (patient_id(b'<Value number="900000"/>'), "value 900000 of 1"),
        (patient_id(b'<Item number="1"/>'), "item"),
        (model(DEEP), "in each other"),
    ],
    ids=range(11),
)
def test_other_documents_are_refused(document: bytes, said: str):
    with pytest.raises(Malformed, match=said):
        dicom_xml.decode(document)


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("dcm2xml") is None, reason="DCMTK is not installed")
def test_dcmtk_writes_the_same_of_a_file(tmp_path: Path):
    dataset = dicom_files.ct_slice(PatientComments="a < b & c", OtherPatientIDs=["X", "Y"])
    block = dataset.private_block(0x0009, "ACME", create=True)
    block.add_new(0x02, "LO", "private")
    del dataset.PixelData
    file = tmp_path / "file.dcm"
    file.write_bytes(dicom_files.part10_file(dataset))
    theirs = subprocess.run(
        ["dcm2xml", "--native-format", "--use-xml-namespace", str(file)],
        capture_output=True,
        check=True,
    ).stdout

    made = dicom_json.dataset_json(
        dicom_files.encode(dataset), contexts.EXPLICIT_VR_LITTLE_ENDIAN, str
    )

    assert dicom_xml.decode(theirs) == dicom_xml.decode(dicom_xml.encode(made))
