"""Faulty objects over C-STORE, STOW-RS and `import`, each against a running server.

Whatever comes: the sender is told what is wrong, others go on, nothing is half-written,
and what can be read as a dataset is in the quarantine for a person to look at.
"""

import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest
from pydicom import DataElement, Dataset
from pydicom.uid import JPEGBaseline8Bit

from pacs import part10
from pacs.upper_layer.pdu import ProposedContext
from tests.fixtures.dicom_files import ct_slice, encapsulated, encode, part10_file
from tests.fixtures.http import multipart_body
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.raw_peer import CT, CT_CONTEXT, EXPLICIT, RawPeer, request_pdu, store_request
from tests.fixtures.serving import Serving

STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
LONGEST = 0x7FFFFFFE
numbers = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    server = Serving(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def neighbour(server: Serving) -> Iterator[RawPeer]:
    """Another device, whose one association lasts as long as all the faults."""
    with RawPeer(server.dicom_port, timeout_s=30) as peer:
        yield peer.associate(calling="NEIGHBOUR")


@pytest.fixture(autouse=True)
def nobody_else_is_harmed(server: Serving, client: httpx.Client, neighbour: RawPeer):
    yield
    sound = ct_slice()
    assert neighbour.echo() == 0
    assert neighbour.store(store_request(sound.SOPInstanceUID), encode(sound)).status == 0
    wait_until(lambda: found(client, sound), "the sound object")
    left = [
        path
        for spool in ("spool", "spool-import")
        for path in (server.folder / "data" / spool).rglob("*")
        if path.suffix == ".part" or "parked" in path.parts
    ]
    assert not [path for path in left if path.is_file()]


@dataclass(frozen=True)
class Fault:
    """One way to be wrong; `make` returns the encoded dataset."""

    name: str
    make: Callable[[Dataset], bytes]
    says: str
    """What every answer names."""
    status: int = 0xC000
    kept: bool = True
    """Whether an import keeps it too: it is a dataset, though not a sound one."""
    transfer_syntax: str = EXPLICIT


def without(keyword: str) -> Callable[[Dataset], bytes]:
    def make(dataset: Dataset) -> bytes:
        delattr(dataset, keyword)
        return encode(dataset)

    return make


def with_text(keyword: str, text: str) -> Callable[[Dataset], bytes]:
    def make(dataset: Dataset) -> bytes:
        dataset[keyword] = DataElement(keyword, "LO", text)  # as LO, any text goes
        return encode(dataset).replace(b"\r\0LO", b"\r\0UI")

    return make


def absurd_value(dataset: Dataset) -> bytes:
    """Let Pixel Data claim 2 GiB."""
    content = encode(dataset)
    at = content.index(b"\xe0\x7f\x10\x00OW\0\0")
    return content[: at + 8] + struct.pack("<I", LONGEST) + content[at + 12 :]


def absurd_sequence(dataset: Dataset) -> bytes:
    """Let an item claim 2 GiB."""
    dataset.ReferencedStudySequence = [ct_slice()]
    content = encode(dataset)
    at = content.index(b"\xfe\xff\x00\xe0")
    return content[: at + 4] + struct.pack("<I", LONGEST) + content[at + 8 :]


def frames(dataset: Dataset) -> bytes:
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    encapsulated(dataset, [b"\xff\xd8" + bytes(range(1, 251)) * 16 + b"\xff\xd9"])
    return encode(dataset, JPEGBaseline8Bit)


FAULTS = [
    Fault("no Study Instance UID", without("StudyInstanceUID"), "(0020,000D)"),
    Fault("no Series Instance UID", without("SeriesInstanceUID"), "(0020,000E)"),
    Fault("empty Study Instance UID", with_text("StudyInstanceUID", ""), "(0020,000D)"),
    Fault("UID that is none", with_text("StudyInstanceUID", "1.2.x/../../y"), "(0020,000D)"),
    Fault("absurd length of a value", absurd_value, "(7FE0,0010)", kept=False),
    Fault("absurd length of an item", absurd_sequence, "(0008,1110)", kept=False),
    Fault("cut in the pixels", lambda one: encode(one)[:-100], "(7FE0,0010)", kept=False),
    Fault(
        "cut in a compressed frame",
        lambda one: frames(one)[:-1000],
        "(7FE0,0010)",
        kept=False,
        transfer_syntax=JPEGBaseline8Bit,
    ),
    Fault("a text", lambda _: b"%PDF-1.7 this is no DICOM at all " * 20, "", kept=False),
    Fault("random bytes", lambda _: b"\x93" + random.Random(9).randbytes(999), "", kept=False),
    Fault("a file as a dataset", part10_file, "", kept=False),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_faulty_object_over_c_store_is_refused_by_name_and_kept(
    server: Serving, client: httpx.Client, fault: Fault
) -> None:
    dataset = ct_slice()
    before = instances(client)

    with sender(server, fault.transfer_syntax) as peer:
        answer = peer.store(store_request(dataset.SOPInstanceUID), fault.make(Dataset(dataset)))
        echoed = peer.echo()

    assert (answer.status, echoed) == (fault.status, 0)
    assert answer.error_comment
    assert fault.says in answer.error_comment
    held = wait_until(lambda: quarantined(client, dataset.SOPInstanceUID), "the held object")
    assert (held["reason"], held["wire"]) == ("malformed", "c-store")
    assert fault.says in held["detail"]
    assert instances(client) == before


@pytest.mark.parametrize("fault", FAULTS[:-1], ids=lambda fault: fault.name)
def test_faulty_object_over_stow_is_a_failure_by_name_and_kept(
    client: httpx.Client, fault: Fault
) -> None:
    dataset = ct_slice()
    before = instances(client)

    answer = upload(client, as_file(fault, dataset))

    assert answer.status_code == 409
    [item] = answer.json()["00081198"]["Value"]
    assert item["00081155"]["Value"] == [dataset.SOPInstanceUID]
    assert item["00081197"]["Value"] == [fault.status]
    assert fault.says in item["00000902"]["Value"][0]
    held = wait_until(lambda: quarantined(client, dataset.SOPInstanceUID), "the held object")
    assert (held["reason"], held["wire"]) == ("malformed", "stow")
    assert instances(client) == before


def test_faulty_files_are_named_by_import_and_those_that_can_be_read_are_kept(
    server: Serving, client: httpx.Client, tmp_path: Path
) -> None:
    datasets = {fault.name: ct_slice() for fault in FAULTS[:-1]}
    for fault in FAULTS[:-1]:
        (tmp_path / f"{fault.name}.dcm").write_bytes(as_file(fault, datasets[fault.name]))
    (tmp_path / "sound.dcm").write_bytes(part10_file(sound := ct_slice()))
    (tmp_path / "empty.dcm").touch()
    before = instances(client)

    for _ in range(2):  # the second run finds all as it was
        answer = server.run("import", str(tmp_path))

        assert answer.returncode == 1
        lines = {line.partition(".dcm: ")[0]: line for line in answer.stdout.splitlines()}
        for fault in FAULTS[:-1]:
            assert fault.says in lines[fault.name], answer.stdout
        assert "empty" in lines["empty"]
        assert f"{len(FAULTS)} failed of {len(FAULTS) + 1}" in answer.stdout
        assert "Traceback" not in answer.stderr

    for fault in FAULTS[:-1]:
        held = quarantined(client, datasets[fault.name].SOPInstanceUID)
        assert bool(held) == fault.kept, fault.name
        assert not held or held["wire"] == "import"
    assert found(client, sound)
    assert instances(client) == before + 1


def test_other_uids_in_command_or_file_meta_are_a_conflict(
    server: Serving, client: httpx.Client, tmp_path: Path
) -> None:
    told, dataset = "2.25.1001", ct_slice()
    file = part10_file(dataset)
    at = file.index(dataset.SOPInstanceUID.encode())
    other = told.encode().ljust(len(dataset.SOPInstanceUID), b"\0")
    wrong = file[:at] + other + file[at + len(other) :]

    with sender(server, EXPLICIT) as peer:
        over_dicom = peer.store(store_request(told), encode(dataset))
    over_http = upload(client, wrong)

    assert over_dicom.status == 0xA900
    assert "(0008,0018)" in (over_dicom.error_comment or "")
    [item] = over_http.json()["00081198"]["Value"]
    assert item["00081197"]["Value"] == [0xA900]
    assert "(0008,0018)" in item["00000902"]["Value"][0]
    wait_until(lambda: len(all_quarantined(client, told)) == 2, "both held objects")
    assert {one["reason"] for one in all_quarantined(client, told)} == {"uid_mismatch"}
    assert not found(client, dataset)

    # a file's meta information is some other program's work: the dataset says what it is
    (tmp_path / "file.dcm").write_bytes(wrong)
    assert server.run("import", str(tmp_path)).returncode == 0
    assert found(client, dataset)


@pytest.mark.parametrize(
    ("cut", "then", "says"),
    [
        (140, struct.pack("<I", LONGEST), "stored"),
        (150, b"", "the data ends"),
        (132, b"\x93\x85 rubbish", "no dataset"),
        (132, b"", "no dataset"),
    ],
    ids=["absurd length of the meta", "ends in its meta", "rubbish behind DICM", "ends there"],
)
def test_broken_part_10_is_named(
    server: Serving, client: httpx.Client, tmp_path: Path, cut: int, then: bytes, says: str
) -> None:
    dataset = ct_slice()
    whole = part10_file(dataset)
    file = whole[:cut] + then + (whole[cut + len(then) :] if says == "stored" else b"")
    (tmp_path / "file.dcm").write_bytes(file)

    uploaded = upload(client, file)
    imported = server.run("import", str(tmp_path))

    assert (uploaded.status_code == 200) == (says == "stored"), uploaded.text
    assert (imported.returncode == 0) == (says == "stored"), imported.stdout
    if says != "stored":  # the length is one of those that files get wrong, and is not needed
        assert says in uploaded.json()["0008119A"]["Value"][0]["00000902"]["Value"][0]
        assert f"file.dcm: {says}" in imported.stdout or says in imported.stdout
        assert not found(client, dataset)


@pytest.mark.parametrize("charset", ["ISO_IR 999", "WINDOWS-1258", "\\\\ISO 2022 IR 87\\x"])
def test_unknown_character_set_loses_nothing(
    server: Serving, client: httpx.Client, charset: str
) -> None:
    dataset = ct_slice(PatientID="CS1", StudyID=f"CS{next(numbers)}")
    content = encode(dataset).replace(b"ISO_IR 192", charset.encode().ljust(10)[:10])

    with sender(server, EXPLICIT) as peer:
        answer = peer.store(store_request(dataset.SOPInstanceUID), content)

    assert answer.status == 0
    study = wait_until(lambda: found(client, dataset), "the object")
    assert study["00100020"]["Value"] == ["CS1"]
    assert study["00100010"]["Value"] == [{"Alphabetic": "NGUYỄN^VĂN AN"}]  # UTF-8 after all
    url = f"/dicom-web/studies/{dataset.StudyInstanceUID}"
    as_stored = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    back = client.get(url, headers={"Accept": as_stored})
    assert content in back.content


def test_frame_that_cannot_be_decoded_is_kept_as_sent_and_named_when_asked_for(
    server: Serving, client: httpx.Client
) -> None:
    dataset = ct_slice()
    content = frames(dataset)

    with sender(server, JPEGBaseline8Bit) as peer:
        assert peer.store(store_request(dataset.SOPInstanceUID), content).status == 0

    wait_until(lambda: found(client, dataset), "the object")
    url = (
        f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )
    stored = client.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
    decoded = client.get(f"{url}/frames/1", headers={"Accept": "application/octet-stream"})
    assert stored.content.endswith(content)
    assert 400 <= decoded.status_code < 500, decoded.text
    assert decoded.headers["content-type"] == "application/problem+json"
    assert "no JPEG frame header" in decoded.json()["detail"]


def test_operator_lists_and_exports_what_is_held(
    server: Serving, client: httpx.Client, tmp_path: Path
) -> None:
    dataset = ct_slice()
    content = without("StudyInstanceUID")(Dataset(dataset))
    with sender(server, EXPLICIT) as peer:
        peer.store(store_request(dataset.SOPInstanceUID), content)
    held = wait_until(lambda: quarantined(client, dataset.SOPInstanceUID), "the held object")

    listed = server.run("quarantine", "list")
    exported = server.run("quarantine", "export", str(held["id"]), str(tmp_path / "held.dcm"))

    assert listed.returncode == exported.returncode == 0
    assert "malformed" in listed.stdout
    assert (tmp_path / "held.dcm").read_bytes().endswith(content)


def sender(server: Serving, transfer_syntax: str) -> RawPeer:
    peer = RawPeer(server.dicom_port, timeout_s=30)
    echo = ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",))
    peer.send(request_pdu(contexts=(echo, ProposedContext(CT_CONTEXT, CT, (transfer_syntax,)))))
    accepted = peer.read_pdu()
    assert accepted is not None
    assert accepted[0] == 2
    return peer


def as_file(fault: Fault, dataset: Dataset) -> bytes:
    """Return a Part 10 file with a sound head and the faulty dataset."""
    head = part10.head(dataset.SOPClassUID, dataset.SOPInstanceUID, fault.transfer_syntax)
    return head + fault.make(Dataset(dataset))


def upload(client: httpx.Client, file: bytes) -> httpx.Response:
    return client.post("/dicom-web/studies", content=multipart_body([file]), headers=STOW)


def instances(client: httpx.Client) -> int:
    page = client.get("/dicom-web/instances", params={"limit": 10_000})
    return len(page.json()) if page.content else 0


def found(client: httpx.Client, dataset: Dataset) -> dict | None:
    page = client.get("/dicom-web/instances", params={"SOPInstanceUID": dataset.SOPInstanceUID})
    return page.json()[0] if page.raise_for_status().content else None


def all_quarantined(client: httpx.Client, sop_instance_uid: str) -> list[dict]:
    held = json.loads(client.get("/api/v1/quarantine", params={"limit": 1000}).content)
    return [one for one in held if one["sop_instance_uid"] == sop_instance_uid]


def quarantined(client: httpx.Client, sop_instance_uid: str) -> dict | None:
    return next(iter(all_quarantined(client, sop_instance_uid)), None)


def wait_until(true: Callable, what: str):
    deadline = time.monotonic() + PATIENCE_S
    while not (result := true()):
        assert time.monotonic() < deadline, f"no sign of {what}"
        time.sleep(0.05)
    return result
