import mmap
from datetime import UTC, datetime
from io import BytesIO

import pytest
from pydicom import dcmread

from pacs import contexts, part10
from storage.base.errors import Malformed
from tests.fixtures import dicom_files

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
PROVENANCE = part10.Provenance(
    received_at=datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC),
    wire="c-store",
    source_ae_title="CT_SCANNER",
    called_ae_title="LIENTHONG",
    address="192.0.2.7",
)


@pytest.mark.parametrize("provenance", [None, PROVENANCE], ids=["fresh", "with provenance"])
def test_our_head_reads_back(provenance):
    head = part10.head(CT, "1.2.3", EXPLICIT, provenance)

    found = part10.read_head(head + b"the dataset")

    assert found == part10.Head(CT, "1.2.3", EXPLICIT, provenance, len(head))


@pytest.mark.parametrize(
    "source",
    ["", "CT1", "A_LONG_STATION_1", "x" * 500, "\x01" * 64, '"' * 64, "\U0001f5c2" * 64],
    ids=["empty", "short", "AE title", "long", "controls", "quotes", "four bytes each"],
)
@pytest.mark.parametrize("address", ["", "192.0.2.7", "2001:db8:1111:2222:3333:4444:5555:6666"])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2." + "9" * 62])
def test_a_kept_head_has_one_length_whoever_sent_the_object(source, address, uid):
    provenance = part10.Provenance(PROVENANCE.received_at, "stow", source, source, address)

    head = part10.head(CT, uid, EXPLICIT, provenance)

    assert len(head) == part10.KEPT_HEAD_BYTES
    kept = part10.read_head(head).provenance.source_ae_title
    assert source.replace("\x01", "?").startswith(kept)
    assert len(kept) >= min(len(source), 32)


def test_a_fresh_head_has_an_empty_preamble_and_pydicom_reads_it():
    dataset = dicom_files.ct_slice()
    head = part10.head(dataset.SOPClassUID, dataset.SOPInstanceUID, EXPLICIT)

    read = dcmread(BytesIO(head + dicom_files.encode(dataset)))

    assert head[:128] == bytes(128)
    assert read == dataset
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.file_meta.FileMetaInformationGroupLength == len(head) - 144
    assert "PrivateInformation" not in read.file_meta


@pytest.mark.parametrize("uid", ["", "1.2.34", "../../x", "\udc80é" * 40, "1" * 2000])
def test_a_head_takes_whatever_a_peer_called_its_object(uid):
    found = part10.read_head(part10.head(uid, uid, EXPLICIT))

    assert found.transfer_syntax_uid == EXPLICIT
    assert found.sop_class_uid == found.sop_instance_uid


def test_provenance_of_another_owner_is_not_ours():
    head = part10.head(CT, "1.2.3", EXPLICIT, PROVENANCE)
    foreign = head.replace(contexts.IMPLEMENTATION_CLASS_UID.encode()[-4:], b"0000")

    assert part10.read_head(foreign).provenance is None


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(131), b"a text file " * 20])
def test_what_has_no_prefix_is_no_part_10_file(content):
    with pytest.raises(Malformed, match="DICM"):
        part10.read_head(content)


def test_a_head_cut_anywhere_is_malformed():
    head = part10.head(CT, "1.2.3", EXPLICIT, PROVENANCE)
    ends = {part10.read_head(head).length}

    for length in range(len(head)):
        try:
            found = part10.read_head(head[:length])
        except Malformed:
            continue
        ends.add(found.length)  # cut between two elements behind the transfer syntax

    assert min(ends) > head.index(EXPLICIT.encode())


def _file(transfer_syntax: str = EXPLICIT) -> tuple[bytes, bytes]:
    dataset = dicom_files.ct_slice()
    content = dicom_files.part10_file(dataset, transfer_syntax)
    return content, dicom_files.encode(dataset, transfer_syntax)


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        contexts.IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT,
        contexts.EXPLICIT_VR_BIG_ENDIAN,
        contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ],
)
def test_foreign_files_are_split_where_their_dataset_begins(transfer_syntax):
    content, dataset = _file(transfer_syntax)

    head = part10.split(content)

    assert head.transfer_syntax_uid == transfer_syntax
    assert content[head.length :] == dataset


@pytest.mark.parametrize(
    "transfer_syntax",
    [contexts.IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT, contexts.EXPLICIT_VR_BIG_ENDIAN],
)
def test_a_dataset_without_file_meta_is_told_by_its_encoding(transfer_syntax):
    _, dataset = _file(transfer_syntax)

    assert part10.split(dataset) == part10.Head("", "", transfer_syntax, None, 0)


@pytest.mark.parametrize("cut", [128, 132], ids=["no preamble", "no preamble and prefix"])
def test_a_file_without_preamble_is_split(cut):
    content, dataset = _file()

    head = part10.split(content[cut:])

    assert content[cut:][head.length :] == dataset
    assert head.sop_class_uid == CT


@pytest.mark.parametrize("length", [0, 1, 26, 200, 100_000, 0xFFFFFFFF])
def test_a_wrong_group_length_does_not_matter(length):
    content, dataset = _file()
    wrong = content[:140] + length.to_bytes(4, "little") + content[144:]

    assert wrong[part10.split(wrong).length :] == dataset


def test_a_missing_group_length_does_not_matter():
    content, dataset = _file()
    without = content[:132] + content[144:]

    assert without[part10.split(without).length :] == dataset


def test_a_deflated_dataset_that_looks_like_group_0002_is_still_found():
    head = part10.head(CT, "1.2.3", contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    content = head + b"\x02\x00\x77\x77UL\x04\x00abcd"

    assert part10.split(content).length == len(head)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x00",
        b"%PDF-1.7 and so on",
        b"\x89PNG\r\n\x1a\n0000",
        b"PK\x03\x04 a zip file ....",
        b"PATIENT NAME;PATIENT ID;DATE",
        bytes(200),
        b"\xff" * 200,
    ],
)
def test_other_files_are_malformed(content):
    with pytest.raises(Malformed):
        part10.split(content)


def test_endless_file_meta_is_malformed():
    bomb = b"\x02\x00\x02\x01OB\x00\x00" + (part10.MAX_META_BYTES + 2).to_bytes(4, "little")

    with pytest.raises(Malformed, match="cut off"):
        part10.split(bomb + bytes(part10.MAX_META_BYTES * 2))


def test_a_mapped_file_is_split_without_reading_it(tmp_path):
    content, dataset = _file()
    path = tmp_path / "large.dcm"
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(4 << 30)  # sparse

        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            head = part10.split(mapped)

            assert mapped[head.length : head.length + len(dataset)] == dataset


@pytest.mark.filterwarnings("ignore")  # pydicom's opinion of broken files
def test_every_file_of_the_shared_set_is_split_as_its_manifest_says(shared_set):
    refused = []
    for file in shared_set:
        content = file.path.read_bytes()
        try:
            head = part10.split(content)
        except Malformed:
            refused.append(file.name)
            continue
        meta = dcmread(BytesIO(content), force=True, stop_before_pixels=True).file_meta
        assert head.sop_instance_uid == meta.get("MediaStorageSOPInstanceUID", "")
        assert head.transfer_syntax_uid in {file.transfer_syntax_uid, *contexts.NATIVE}

    assert refused == ["pydicom/no_meta.dcm"]  # it begins inside a tag
