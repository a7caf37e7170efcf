import random
import time
import unicodedata
import warnings
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import PersonName

from pacs import contexts, header, part10
from storage.archive.attributes import STORED
from storage.base.errors import Conflict, Malformed
from tests.fixtures import dicom_files

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN
BIG = contexts.EXPLICIT_VR_BIG_ENDIAN
DEFLATED = contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
NATIVE = pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])


def scan(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> header.Header:
    return header.scan(dicom_files.encode(dataset, transfer_syntax), transfer_syntax)


@NATIVE
def test_texts_and_numbers_read_the_same_in_every_encoding(transfer_syntax):
    found = scan(
        dicom_files.ct_slice(SmallestImagePixelValue=5, RecommendedDisplayFrameRateInFloat=2.5),
        transfer_syntax,
    )

    assert found.text("PatientName") == "NGUYỄN^VĂN AN"
    assert found.text("StudyDescription") == "Chụp cắt lớp ngực"
    assert found.text("ImageType") == "ORIGINAL\\PRIMARY\\AXIAL"
    assert found.text("Rows") == "16"
    assert found.text("SmallestImagePixelValue") == "5"
    assert found.text("RecommendedDisplayFrameRateInFloat") == "2.5"
    assert found.text("ImagePositionPatient") == "-125.5\\10.0\\3.25"
    assert found.text("PixelData") == ""
    assert found.text("PatientComments") == ""
    assert found.number("InstanceNumber") == 7
    assert found.number("NumberOfFrames", default=1) == 1
    assert found.pixel_data is not None
    assert found.pixel_data.length == 512


@NATIVE
def test_us_or_ss_is_signed_where_the_pixels_are(transfer_syntax):
    dataset = dicom_files.ct_slice(PixelRepresentation=1)
    dataset.add_new(0x00280106, "SS", -7)

    assert scan(dataset, transfer_syntax).text("SmallestImagePixelValue") == "-7"


@NATIVE
def test_attributes_reads_the_first_item_of_a_sequence_in_its_own_character_set(transfer_syntax):
    first = Dataset()
    first.SpecificCharacterSet = "ISO_IR 144"
    first.RequestedProcedureDescription = "Люк"
    first.ScheduledProcedureStepID = "S1"
    second = Dataset()
    second.ScheduledProcedureStepID = "S2"
    empty = Dataset()
    found = scan(
        dicom_files.ct_slice(
            RequestAttributesSequence=[first, second], ProcedureCodeSequence=[empty]
        ),
        transfer_syntax,
    )

    assert found.attributes(
        [
            "PatientID",
            "PatientComments",
            "RequestAttributesSequence.ScheduledProcedureStepID",
            "RequestAttributesSequence.RequestedProcedureDescription",
            "ProcedureCodeSequence.CodeValue",
            "ReferencedStudySequence.ReferencedSOPInstanceUID",
        ]
    ) == {
        "PatientID": "BN0001",
        "RequestAttributesSequence.ScheduledProcedureStepID": "S1",
        "RequestAttributesSequence.RequestedProcedureDescription": "Люк",
    }


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_a_sequence_of_undefined_length_or_unknown_vr_gives_its_first_item(vr):
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    sequence = Sequence([item])
    dataset = dicom_files.ct_slice(RequestAttributesSequence=sequence)
    dataset["RequestAttributesSequence"].is_undefined_length = True
    content = dicom_files.encode(dataset)
    if vr == "UN":  # implicit inside, PS3.5 6.2.2 note 2
        implicit = b"\x40\x00\x09\x00\x02\x00\x00\x00S1"
        explicit = b"\x40\x00\x09\x00SH\x02\x00S1"
        content = content.replace(b"\x40\x00\x75\x02SQ", b"\x40\x00\x75\x02UN")
        content = content.replace(explicit, implicit)

    found = header.scan(content, EXPLICIT)

    keyword = "RequestAttributesSequence.ScheduledProcedureStepID"
    assert found.attributes([keyword]) == {keyword: "S1"}


def _raw(tag: int, vr: bytes, value: bytes) -> bytes:
    return (
        (tag >> 16).to_bytes(2, "little")
        + (tag & 0xFFFF).to_bytes(2, "little")
        + vr
        + len(value).to_bytes(2, "little")
        + value
    )


@pytest.mark.parametrize(
    ("vr", "value", "text"),
    [
        (b"UI", b"1.2.3\0", "1.2.3"),
        (b"UI", b"1.2.3 \0", "1.2.3"),
        (b"UI", b"1.2\\1.3\0", "1.2\\1.3"),
        (b"LO", b"  a b  ", "a b"),
        (b"LO", b" a \\ b \\", "a\\b\\"),
        (b"LO", b"\\\\", ""),
        (b"LT", b"  two  \r\n lines \\ one value  ", "  two  \r\n lines \\ one value"),
        (b"LO", b"a\0b\0\0", "a b"),
        (b"LO", b"   ", ""),
        (b"PN", b"A^B^^^ = ", "A^B^^^"),
        (b"US", b"\x01\x00\x02\x00", "1\\2"),
        (b"US", b"\x01\x00\x02", "1"),
        (b"US", b"", ""),
        (b"FD", b"\x00\x00\x00\x00\x00\x00\xf8\x7f", "nan"),
        (b"AT", b"\x10\x00\x20\x00\x08\x00\x05", "00100020"),
    ],
)
def test_padding_is_stripped_by_vr(vr, value, text):
    assert header.scan(_raw(0x00091001, vr, value), EXPLICIT).text(0x00091001) == text


def test_utf_8_in_a_latin_1_object_is_read_and_told():
    dataset = dicom_files.ct_slice()
    content = dicom_files.encode(dataset).replace(b"ISO_IR 192", b"ISO_IR 100")

    found = header.scan(content, EXPLICIT)

    assert found.text("PatientName") == "NGUYỄN^VĂN AN"
    assert found.warnings == ["(0010,0010): text is UTF-8, against (0008,0005)"]


def test_decomposed_names_become_nfc():
    dataset = dicom_files.ct_slice(PatientName=unicodedata.normalize("NFD", "NGUYỄN^VĂN AN"))

    assert scan(dataset).text("PatientName") == "NGUYỄN^VĂN AN"


def test_a_sound_object_passes_the_check():
    dataset = dicom_files.ct_slice()

    header.check(scan(dataset), dataset.SOPClassUID + "\0", dataset.SOPInstanceUID)


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("SOPClassUID", "(0008,0016)"),
        ("SOPInstanceUID", "(0008,0018)"),
        ("StudyInstanceUID", "(0020,000D)"),
        ("SeriesInstanceUID", "(0020,000E)"),
    ],
)
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "is missing"),
        (b"", "is empty"),
        (b"\0\0", "is empty"),
        (b"1.2..3", "is no UID"),
        (b"../../etc/passwd", "is no UID"),
        (b"1.2.\xe9", "is no UID"),
        (b"1" * 66, "is no UID"),
        (b"1.2\\1.3 ", "is no UID"),
    ],
)
def test_a_missing_empty_or_wrong_uid_is_named(keyword, tag, value, fault):
    dataset = dicom_files.ct_slice()
    content = dicom_files.encode(dataset)
    found = header.scan(content, EXPLICIT)
    number = header.tag_of(keyword)
    _, start, length = found.elements[number]
    old = content[start - 8 : start + length]
    new = b"" if value is None else _raw(number, b"UI", value)

    with pytest.raises(Malformed) as raised:
        header.check(
            header.scan(content.replace(old, new), EXPLICIT),
            dataset.SOPClassUID,
            dataset.SOPInstanceUID,
        )

    assert tag in str(raised.value)
    assert str(raised.value).endswith(fault)


@pytest.mark.parametrize(
    ("sop_class", "sop_instance", "tags"),
    [
        ("1.2.3", None, ["(0008,0016)", "(0000,0002)"]),
        (None, "1.2.3", ["(0008,0018)", "(0000,1000)"]),
        ("", None, ["(0008,0016)"]),
    ],
)
def test_another_uid_in_the_command_is_a_conflict_that_names_both_tags(
    sop_class, sop_instance, tags
):
    dataset = dicom_files.ct_slice()
    named = (
        dataset.SOPClassUID if sop_class is None else sop_class,
        dataset.SOPInstanceUID if sop_instance is None else sop_instance,
    )

    with pytest.raises(Conflict) as raised:
        header.check(scan(dataset), *named)

    assert all(tag in str(raised.value) for tag in tags)


def test_a_value_that_is_no_number_is_malformed():
    found = header.scan(_raw(0x00280008, b"IS", b"many"), EXPLICIT)

    with pytest.raises(Malformed, match=r"\(0028,0008\)"):
        found.number("NumberOfFrames")


@pytest.mark.parametrize("size", [1, 100, 10_000])
@NATIVE
def test_a_header_read_while_it_arrives_says_the_same(transfer_syntax, size):
    content = dicom_files.encode(dicom_files.ct_slice(), transfer_syntax)
    whole = header.scan(content, transfer_syntax)
    reader = header.HeaderReader(transfer_syntax)

    for chunk in dicom_files.chunks(content, size):
        reader.feed(chunk)
    streamed = reader.finish()

    assert streamed.attributes(STORED) == whole.attributes(STORED)
    assert streamed.pixel_data == whole.pixel_data
    assert streamed.size == whole.size


def test_a_value_that_streamed_by_unkept_is_told_and_not_invented():
    dataset = dicom_files.ct_slice(EncapsulatedDocument=bytes(200_000))
    reader = header.HeaderReader(EXPLICIT)
    for chunk in dicom_files.chunks(dicom_files.encode(dataset), 1000):
        reader.feed(chunk)

    streamed = reader.finish()

    assert streamed.text("PatientName") == "NGUYỄN^VĂN AN"
    with pytest.raises(Malformed, match="not kept"):
        streamed.value(header.tag_of("EncapsulatedDocument"))


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG])
def test_the_place_of_the_pixel_data_is_found_in_a_prefix(transfer_syntax):
    content = dicom_files.encode(dicom_files.ct_slice(), transfer_syntax)
    expected = len(content) - 512 - (8 if transfer_syntax == IMPLICIT else 12)

    assert header.pixel_data_at(content[:-100], transfer_syntax) == expected
    assert header.pixel_data_at(content[: expected - 1], transfer_syntax) is None


def test_the_memory_of_a_scanned_buffer_can_be_released():
    content = memoryview(dicom_files.encode(dicom_files.ct_slice()))
    part = content[0:]
    found = header.scan(part, EXPLICIT)
    found.attributes(STORED)

    part.release()
    content.release()


def _reference(value: object) -> str:
    """Text of a pydicom value, independently of our own reading."""
    if value is None or isinstance(value, Sequence | bytes):
        return ""
    if isinstance(value, MultiValue | list):
        parts = [_reference(part) for part in value]
        return "\\".join(parts) if any(parts) else ""
    if isinstance(value, PersonName):
        return unicodedata.normalize("NFC", str(value)).strip(" \0")
    if isinstance(value, float):
        original = getattr(value, "original_string", None)
        return str(original or (int(value) if value.is_integer() else value)).strip()
    if hasattr(value, "original_string"):  # IS
        return str(value.original_string).strip()
    return unicodedata.normalize("NFC", str(value)).strip(" \0")


def _of_pydicom(dataset: Dataset, keyword: str) -> str:
    path, _, last = keyword.rpartition(".")
    if path:
        items = dataset.get(path)
        if not isinstance(items, Sequence) or not items:
            return ""
        dataset = items[0]
    return _reference(dataset.get(last))


def test_every_indexed_attribute_of_the_shared_set_reads_as_in_pydicom(shared_set):
    compared, unread = 0, []
    for file in shared_set:
        content = file.path.read_bytes()
        try:
            head = part10.split(content)
            found = header.scan(content[head.length :], head.transfer_syntax_uid)
        except Malformed:
            unread.append(file.name)
            continue
        texts = found.attributes(STORED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(BytesIO(content), force=True)
            for keyword in STORED:
                expected = _of_pydicom(dataset, keyword)
                assert texts.get(keyword, "") == expected, f"{file.name} {keyword}"
                compared += bool(expected)

    assert compared > 10_000
    assert sorted(unread) == [
        "pydicom-data/emri_small_jpeg_2k_lossless_too_short.dcm",
        "pydicom/DICOMDIR-nooffset",
        "pydicom/MR_truncated.dcm",
        "pydicom/no_meta.dcm",
        "pydicom/rtplan_truncated.dcm",
    ]


def _mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        at = chance.randrange(len(changed))
        kind = chance.randrange(6)
        if kind == 0:
            changed[at] = chance.randrange(256)
        elif kind == 1:
            del changed[at : at + chance.choice([1, 2, 8, 100])]
        elif kind == 2:
            changed[at:at] = chance.randbytes(chance.choice([1, 2, 8]))
        elif kind == 3:
            changed[at : at + 4] = b"\xff\xff\xff\xff"
        elif kind == 4:
            changed[at:at] = changed[at : at + 200]
        else:
            del changed[at:]
        if not changed:
            break
    return bytes(changed)


def test_mutated_datasets_are_read_or_refused_and_nothing_else():
    seed = 20260301
    chance = random.Random(seed)
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    dataset = dicom_files.ct_slice(RequestAttributesSequence=[item, item])
    dataset["RequestAttributesSequence"].is_undefined_length = True
    sources = [
        (dicom_files.encode(dataset, uid), uid) for uid in (IMPLICIT, EXPLICIT, BIG, DEFLATED)
    ]
    frames = dicom_files.encapsulated(dicom_files.multi_frame(), [b"abc", b"de", b"fghi"])
    sources.append((dicom_files.encode(frames, contexts.JPEG_BASELINE), contexts.JPEG_BASELINE))
    outcomes = {"read": 0, "refused": 0}

    for round_ in range(4000):
        content, transfer_syntax = chance.choice(sources)
        broken = _mutated(content, chance)
        began = time.process_time()
        try:
            found = header.scan(broken, transfer_syntax)
            found.attributes(STORED)
            header.check(found, dataset.SOPClassUID, dataset.SOPInstanceUID)
        except (Malformed, Conflict):
            outcomes["refused"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the defect
            pytest.fail(f"seed {seed} round {round_}: {error!r}")
        else:
            outcomes["read"] += 1
        assert time.process_time() - began < 1

    assert min(outcomes.values()) > 100


def test_mutated_streams_are_read_or_refused_like_the_whole():
    chance = random.Random(20260302)
    content = dicom_files.encode(dicom_files.ct_slice())

    for _ in range(1000):
        broken = _mutated(content, chance)
        reader = header.HeaderReader(EXPLICIT)
        try:
            whole = header.scan(broken, EXPLICIT).elements
        except Malformed:
            whole = None
        try:
            for chunk in dicom_files.chunks(broken, chance.choice([1, 9, 500])):
                reader.feed(chunk)
            streamed = reader.finish().elements
        except Malformed:
            streamed = None
        assert streamed == whole


def test_the_stored_keywords_are_dicom_keywords():
    for keyword in STORED:
        for part in keyword.split("."):
            assert keyword_for_tag(header.tag_of(part)) == part
