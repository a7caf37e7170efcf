"""Every file of the shared set goes in by DCMTK's storescu and comes back unchanged three ways.

What storescu puts on the wire is not always what lies in the file (it writes
lengths its own way), so the same files go to DCMTK's storescp in bit-preserving
mode as well: that is the reference for C-GET, C-MOVE and WADO-RS.
"""

import contextlib
import hashlib
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as StudyRootGet

from tests.fixtures import programs
from tests.fixtures.dcmtk import send_each_as_it_is
from tests.fixtures.serving import Serving, free_port

SHARED = Path(__file__).parents[3] / "shared" / "data" / "dicom"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.skipif(not programs.find("storescu"), reason="DCMTK is not installed"),
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared DICOM files are not there"),
]

Stored = dict[str, tuple[str, str, str, str]]
"""SOP Instance UID → SOP Class, transfer syntax, Study and Series Instance UID."""


@dataclass
class Sending:
    """What storescu said of each file."""

    server: Serving
    reference: Path
    client: httpx.Client
    answers: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def sending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sending]:
    folder = tmp_path_factory.mktemp("shared-set")
    server = Serving(folder)
    reference = folder / "reference"
    reference.mkdir()
    server.start()
    port = free_port()
    storescp = _storescp(port, reference)
    try:
        client = server.client()
        sent = Sending(server, reference, client)
        files = [*_readable(sent)]
        sent.answers = send_each_as_it_is(server.dicom_port, folder, files)
        send_each_as_it_is(port, folder, files)
        yield sent
        client.close()
    finally:
        storescp.terminate()
        storescp.wait()
        server.stop()


def test_every_readable_file_is_stored_or_held_or_refused_with_a_reason(sending: Sending) -> None:
    client = sending.client
    table = Counter(sending.answers.values())
    deadline = time.monotonic() + 60
    while not _drained(sending.server):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    stored, held = _stored(client), client.get("/api/v1/quarantine?limit=1000").json()
    print(f"\nfiles {len(sending.answers) + len(sending.unreadable)}: answers {dict(table)}")
    print(f"not sendable by storescu: {len(sending.unreadable)}")
    print(f"instances stored {len(stored)}, objects held {Counter(h['reason'] for h in held)}")

    assert len(sending.answers) > 670
    assert set(table) <= {
        "Success",
        "Error: CannotUnderstand",
        "Error: DataSetDoesNotMatchSOPClass",
    }
    assert len(stored) > 600


def test_wado_rs_gives_back_what_was_sent(sending: Sending) -> None:
    client = sending.client
    reference = _reference(sending.reference)
    stored = _stored(client)
    wrong = []

    for uid, (_, syntax, study, series) in stored.items():
        answer = client.get(
            f"/dicom-web/studies/{study}/series/{series}/instances/{uid}",
            headers={"Accept": "application/dicom; transfer-syntax=*"},
        )
        answer.raise_for_status()
        if (syntax, _digest(answer.content)) not in reference[uid]:
            wrong.append(uid)

    unknown = [uid for uid in wrong if not reference[uid]]
    print(f"\ncompared {len(stored) - len(unknown)}; storescp did not take {len(unknown)}")
    assert set(wrong) == set(unknown)
    assert len(unknown) < 40


def test_c_get_gives_back_what_was_sent(sending: Sending) -> None:
    stored = _stored(sending.client)
    reference = _reference(sending.reference)
    wrong: list[str] = []
    seen: set[str] = set()

    def on_store(event: evt.Event) -> int:
        request = event.request
        digest = hashlib.sha256(request.DataSet.getvalue()).hexdigest()
        uid = request.AffectedSOPInstanceUID
        seen.add(uid)
        if reference[uid] and (event.context.transfer_syntax, digest) not in reference[uid]:
            wrong.append(uid)
        return 0

    for study, contexts in _contexts_by_study(stored).items():
        for part in range(0, len(contexts), 120):
            _get(sending.server.dicom_port, study, contexts[part : part + 120], on_store)

    assert not wrong
    assert seen == stored.keys()


def test_c_move_gives_back_what_was_sent(sending: Sending, tmp_path: Path) -> None:
    stored = _stored(sending.client)
    reference = _reference(sending.reference)
    port = free_port()
    assert sending.server.run("peer", "add", "STORESCP", "127.0.0.1", str(port)).returncode == 0
    storescp = _storescp(port, tmp_path)

    try:
        for study in {study for _, _, study, _ in stored.values()}:
            subprocess.run(
                [
                    *(
                        programs.need("movescu"),
                        "-S",
                        "-aec",
                        "LIENTHONG",
                        "-aem",
                        "STORESCP",
                        "-aet",
                        "MOVER",
                    ),
                    *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"),
                    *("127.0.0.1", str(sending.server.dicom_port)),
                ],
                check=False,  # some have a syntax that storescp does not know
                timeout=120,
            )
    finally:
        storescp.terminate()
        storescp.wait()

    moved = _reference(tmp_path)
    # storescp takes no syntax that DCMTK does not know; those come as what it takes
    as_stored = {uid for uid, kept in stored.items() if kept[1] in {ts for ts, _ in moved[uid]}}
    assert len(as_stored) > len(stored) - 10
    assert not [uid for uid in as_stored if not moved[uid] <= reference[uid]]
    assert moved.keys() >= as_stored


def _readable(sent: Sending) -> Iterator[Path]:
    for path in sorted(SHARED.rglob("*")):
        if not path.is_file() or path.suffix == ".tsv":
            continue
        meta: Dataset = Dataset()
        with contextlib.suppress(InvalidDicomError, AttributeError, EOFError):
            meta = dcmread(path, stop_before_pixels=True).file_meta
        if "TransferSyntaxUID" in meta and "MediaStorageSOPClassUID" in meta:
            yield path
        else:
            sent.unreadable.append(str(path))


def _storescp(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [
            programs.need("storescp"),
            "+B",
            "+xa",
            "-aet",
            "STORESCP",
            "-od",
            str(folder),
            "+uf",
            str(port),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"TCP_NODELAY": "1", "PATH": "/usr/bin:/bin"},
    )
    time.sleep(0.5)
    return process


def _reference(folder: Path) -> Mapping[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in folder.iterdir():
        meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        digest = _digest(path.read_bytes())
        found[str(meta.file_meta.MediaStorageSOPInstanceUID)].add(
            (str(meta.file_meta.TransferSyntaxUID), digest)
        )
    return found


def _digest(part10: bytes) -> str:
    start = 144 + int.from_bytes(part10[140:144], "little")
    return hashlib.sha256(part10[start:]).hexdigest()


def _drained(server: Serving) -> bool:
    waiting = {".dcm", ".pack", ".open"}
    return not any(path.suffix in waiting for path in (server.folder / "data" / "spool").rglob("*"))


def _stored(client: httpx.Client) -> Stored:
    stored: Stored = {}
    while True:
        page = client.get(
            "/dicom-web/instances",
            params={"limit": 1000, "offset": len(stored), "includefield": "00083002"},
        )
        rows = page.raise_for_status().json() if page.content else []
        for row in rows:
            tags = ("00080018", "00080016", "00083002", "0020000D", "0020000E")
            uid, *rest = (row[tag]["Value"][0] for tag in tags)
            stored[uid] = tuple(rest)
        if len(rows) < 1000:
            return stored


def _contexts_by_study(stored: Stored) -> Mapping[str, list[tuple[str, str]]]:
    contexts: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for sop_class, syntax, study, _ in stored.values():
        contexts[study].add((sop_class, syntax))
    return {study: sorted(pairs) for study, pairs in contexts.items()}


def _get(port: int, study: str, contexts: list[tuple[str, str]], on_store) -> None:
    ae = AE("GETTER")
    ae.add_requested_context(StudyRootGet)
    roles = []
    for sop_class, syntax in contexts:
        ae.add_requested_context(sop_class, syntax)
    for sop_class in {sop_class for sop_class, _ in contexts}:
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = sop_class, False, True
        roles.append(role)
    association = ae.associate(
        "127.0.0.1", port, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study
    last = None
    for status, _ in association.send_c_get(identifier, StudyRootGet):
        last = status
    association.release()
    assert last is not None
    assert last.Status == 0, last
