import base64
import json
import math
import random
import struct
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from pacs import contexts, dicom_json, part10
from storage.base.errors import Malformed, NotFound
from tests.fixtures import dicom_files

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN
BIG = contexts.EXPLICIT_VR_BIG_ENDIAN
DEFLATED = contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
NATIVE = pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])


def uri(path: str) -> str:
    return f"bulk/{path}"


def written(content: bytes, transfer_syntax: str = EXPLICIT) -> dict:
    """Return what a client reads: strict JSON, nothing that is not in RFC 8259."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = dicom_json.dataset_json(content, transfer_syntax, uri)
    return json.loads(dicom_json.encode(found), parse_constant=refuse)


@NATIVE
def test_an_object_is_written_the_same_from_every_encoding(transfer_syntax):
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    item.EncapsulatedDocument = bytes(2000)
    dataset = dicom_files.ct_slice(
        SOPInstanceUID="1.2.3",
        PatientName="NGUYEN^VAN AN=漢字=",
        RequestAttributesSequence=[item, Dataset()],
        ReferencedStudySequence=[],
        FrameIncrementPointer=0x00181063,
        PatientComments="",
        PatientWeight="61.50",
        ICCProfile=bytes(range(10)),
    )

    found = written(dicom_files.encode(dataset, transfer_syntax), transfer_syntax)

    assert found["00080018"] == {"vr": "UI", "Value": ["1.2.3"]}
    assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert found["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "AXIAL"]}
    assert found["00100010"] == {
        "vr": "PN",
        "Value": [{"Alphabetic": "NGUYEN^VAN AN", "Ideographic": "漢字"}],
    }
    assert found["00081030"]["Value"] == ["Chụp cắt lớp ngực"]
    assert found["00101030"] == {"vr": "DS", "Value": [61.5]}
    assert found["00200013"] == {"vr": "IS", "Value": [7]}
    assert found["00200032"] == {"vr": "DS", "Value": [-125.5, 10.0, 3.25]}
    assert found["00280010"] == {"vr": "US", "Value": [16]}
    assert found["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert found["00104000"] == {"vr": "LT"}
    assert found["00081110"] == {"vr": "SQ"}
    assert found["00400275"] == {
        "vr": "SQ",
        "Value": [
            {
                "00400009": {"vr": "SH", "Value": ["S1"]},
                "00420011": {"vr": "OB", "BulkDataURI": "bulk/00400275/0/00420011"},
            },
            {},
        ],
    }
    assert base64.b64decode(found["00282000"]["InlineBinary"]) == bytes(range(10))
    assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulk/7FE00010"}
    assert list(found) == sorted(found)


def _element(vr: bytes, value: bytes) -> bytes:
    if vr in (b"UN", b"UT", b"OB", b"SV", b"UV"):
        return b"\x09\x00\x01\x10" + vr + b"\0\0" + struct.pack("<I", len(value)) + value
    return b"\x09\x00\x01\x10" + vr + struct.pack("<H", len(value)) + value


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        (b"IS", b"12", [12]),
        (b"IS", b"+012 ", [12]),
        (b"IS", b"1.5 ", [1.5]),
        (b"IS", b"many", ["many"]),
        (b"IS", b"99999999999999999999", ["99999999999999999999"]),
        (b"DS", b"1\\\\2.50", [1, None, 2.5]),
        (b"DS", b"1e400 ", ["1e400"]),
        (b"DS", b"NaN ", ["NaN"]),
        (b"DS", b"1_0 ", ["1_0"]),
        (b"DS", b"1,5 ", ["1,5"]),
        (b"DS", "١٢".encode(), [12]),
        (b"FD", struct.pack("<ddd", math.nan, math.inf, 2.5), [None, None, 2.5]),
        (b"FL", struct.pack("<f", -math.inf), [None]),
        (b"US", b"\x01\x00\x02", [1]),
        (b"SV", struct.pack("<qq", -5, 1 << 60), [-5, str(1 << 60)]),
        (b"UV", struct.pack("<Q", (1 << 64) - 1), [str((1 << 64) - 1)]),
        (b"CS", b"A\\\\B", ["A", None, "B"]),
        (b"LO", b"\xff\xfe", ["ÿþ"]),
        (b"LO", b"a\0b ", ["a b"]),
        (b"LO", b"tab\x07", ["tab\x07"]),
        (b"LT", b"a\\b ", ["a\\b"]),
        (b"PN", b"\\A^B=", [None, {"Alphabetic": "A^B"}]),
        (b"PN", b"==X ", [{"Phonetic": "X"}]),
        (b"AT", b"\x28\x00\x10\x00\x01", ["00280010"]),
        (b"US", b"\x01", None),
        (b"SH", b"  ", None),
        (b"PN", b"==", None),
    ],
)
def test_values_are_written_as_json_can_hold_them(vr, value, expected):
    found = written(_element(vr, value))["00091001"]

    assert found["vr"] == vr.decode()
    assert found.get("Value") == expected


def test_a_vr_that_json_does_not_know_is_unknown_binary():
    found = written(b"\x09\x00\x01\x10ZZ\x00\x00\x02\x00\x00\x00ab")

    assert found["00091001"] == {"vr": "UN", "InlineBinary": base64.b64encode(b"ab").decode()}


def test_binary_values_are_inline_up_to_the_threshold():
    small, large = bytes(dicom_json.INLINE_BYTES), bytes(dicom_json.INLINE_BYTES + 2)

    assert "InlineBinary" in written(_element(b"OB", small))["00091001"]
    assert written(_element(b"OB", large))["00091001"]["BulkDataURI"] == "bulk/00091001"


def test_inline_words_are_little_endian():
    dataset = dicom_files.ct_slice()
    dataset.add_new(0x00281201, "OW", b"\x01\x02\x03\x04")
    content = dicom_files.encode(dataset, BIG)

    found = written(content, BIG)

    assert base64.b64decode(found["00281201"]["InlineBinary"]) == b"\x02\x01\x04\x03"


def test_group_lengths_and_padding_are_not_the_objects():
    content = b"\x08\x00\x00\x00UL\x04\x00\x0c\x00\x00\x00" + dicom_files.encode(
        dicom_files.ct_slice()
    )
    content += b"\xfc\xff\xfc\xffOB\x00\x00\x04\x00\x00\x00\0\0\0\0"

    assert {"00080000", "FFFCFFFC"}.isdisjoint(written(content))


def test_the_character_set_of_an_item_holds_in_it_alone():
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.CodeMeaning = "Люк"
    other = Dataset()
    other.CodeMeaning = "Ngực"
    dataset = dicom_files.ct_slice(ProcedureCodeSequence=[item, other])

    found = written(dicom_files.encode(dataset))["00081032"]["Value"]

    assert [one["00080104"]["Value"] for one in found] == [["Люк"], ["Ngực"]]
    assert found[0]["00080005"]["Value"] == ["ISO_IR 192"]


def test_an_object_cut_before_its_pixels_is_written_without_them():
    content = dicom_files.encode(dicom_files.ct_slice())

    assert "7FE00010" not in written(content[:-524])


@NATIVE
def test_each_bulk_data_uri_leads_to_the_bytes_it_was_made_for(transfer_syntax):
    deep = Dataset()
    deep.EncapsulatedDocument = bytes(range(256)) * 8
    item = Dataset()
    item.ContentSequence = [Dataset(), deep]
    dataset = dicom_files.ct_slice(RequestAttributesSequence=[Dataset(), item])
    content = dicom_files.encode(dataset, transfer_syntax)
    path = "00400275/1/0040A730/1/00420011"

    found = dicom_json.bulk_data(content, transfer_syntax, path)
    pixels = dicom_json.bulk_data(content, transfer_syntax, "7FE00010")

    assert path in json.dumps(written(content, transfer_syntax))
    assert found.inflated == (transfer_syntax == DEFLATED)
    ((start, length),) = found.pieces
    if not found.inflated:
        assert content[start : start + length] == bytes(range(256)) * 8
    assert pixels.word_bytes == (2 if transfer_syntax == BIG else 1)
    assert pixels.pieces[0][1] == 512


def test_bulk_data_of_encapsulated_pixels_is_their_fragments():
    dataset = dicom_files.encapsulated(dicom_files.multi_frame(2), [b"first!", b"2nd."])
    content = dicom_files.encode(dataset, contexts.JPEG_BASELINE)

    found = dicom_json.bulk_data(content, contexts.JPEG_BASELINE, "7FE00010")

    assert found.encapsulated
    assert [content[at : at + size] for at, size in found.pieces] == [b"first!", b"2nd."]
    assert written(content, contexts.JPEG_BASELINE)["7FE00010"] == {
        "vr": "OB",
        "BulkDataURI": "bulk/7FE00010",
    }


@pytest.mark.parametrize(
    "path",
    ["", "7FE00011", "00100010", "00400275/0/00420011", "../7FE00010", "7fe00010", "x" * 999],
)
def test_a_path_to_no_binary_value_is_not_found(path):
    with pytest.raises(NotFound):
        dicom_json.bulk_data(dicom_files.encode(dicom_files.ct_slice()), EXPLICIT, path)


def test_mutated_objects_are_written_or_malformed():
    chance = random.Random(20260303)
    item = Dataset()
    item.CodeMeaning = "Ngực"
    content = dicom_files.encode(dicom_files.ct_slice(ProcedureCodeSequence=[item]))
    kinds = {"written": 0, "malformed": 0}

    for _ in range(2000):
        broken = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken) - 512)] = chance.randrange(256)
        try:
            written(bytes(broken))
            kinds["written"] += 1
        except Malformed:
            kinds["malformed"] += 1

    assert min(kinds.values()) > 100


@pytest.mark.filterwarnings("ignore")
def test_the_shared_set_is_written_like_pydicom_reads_it(shared_set):
    compared = 0
    for file in shared_set[::7]:
        content = file.path.read_bytes()
        try:
            head = part10.split(content)
            found = written(content[head.length :], head.transfer_syntax_uid)
        except Malformed:
            continue
        dataset = dcmread(BytesIO(content), force=True)
        for element in dataset:
            if element.VR not in {"UI", "US", "CS", "DA", "TM", "SH", "LO"} or element.is_private:
                continue
            if element.keyword == "SpecificCharacterSet":
                continue
            values = element.value if element.VM > 1 else [element.value] if element.VM else []
            expected = [part.strip() or None if isinstance(part, str) else part for part in values]
            written_values = found[f"{element.tag:08X}"].get("Value", [])
            assert written_values == (expected if any(v is not None for v in expected) else [])
            compared += 1

    assert compared > 3000
