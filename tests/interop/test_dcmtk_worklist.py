"""DCMTK's findscu asks our acceptor for a worklist of prepared entries."""

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydicom import Dataset, dcmread

from pacs.scp import models, worklist
from pacs.scp.acceptor import Acceptance
from pacs.scp.datasets import Attributes
from pacs.scp.limits import Limits
from pacs.scp.listener import Listener
from pacs.scp.metrics import Metrics
from pacs.scp.worklist import Asked
from pacs.scp.worklist_keys import STEP
from pacs.upper_layer import dimse
from storage.access.peers import Peer, TextProfile
from tests.fixtures import programs
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk

pytestmark = [pytest.mark.interop, needs_dcmtk]

QUERY = """
(0008,0005) CS [ISO_IR 192]
(0008,0050) SH []
(0008,0090) PN []
(0010,0010) PN [NGUYỄN*]
(0010,0020) LO []
(0010,0030) DA []
(0020,000d) UI []
(0032,1060) LO []
(0032,1064) SQ
(fffe,e000) -
(0008,0100) SH []
(0008,0104) LO []
(fffe,e00d) -
(fffe,e0dd) -
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [CT]
(0040,0001) AE [CT01]
(0040,0002) DA [20260105]
(0040,0003) TM []
(0040,0006) PN []
(0040,0008) SQ
(fffe,e0dd) -
(0040,0009) SH []
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH []
"""


def entry(number: int) -> Attributes:
    return {
        "AccessionNumber": f"A{number}",
        "PatientName": "NGUYỄN VĂN AN",
        "PatientID": f"BN-{number}",
        "StudyInstanceUID": f"2.25.{number}",
        "RequestedProcedureID": f"R{number}",
        "RequestedProcedureDescription": "Chụp cắt lớp vi tính lồng ngực",
        "RequestedProcedureCodeSequence": [{"CodeValue": "18.1", "CodeMeaning": "CLVT ngực"}],
        STEP: [
            {
                "Modality": "CT",
                "ScheduledStationAETitle": "CT01",
                "ScheduledProcedureStepStartDate": "20260105",
                "ScheduledProcedureStepStartTime": "081500",
                "ScheduledProcedureStepID": f"S{number}",
                "ScheduledProtocolCodeSequence": [{"CodeValue": "P1", "CodeMeaning": "Ngực"}],
            }
        ],
    }


class Ris:
    """Two steps, whatever is asked for; remembers the last query."""

    def __init__(self) -> None:
        self.asked: Asked | None = None
        self.peer: Peer | None = None
        self.remembered: list[int] = []

    def search(self, asked: Asked, _limit: int) -> Iterator[Attributes]:
        self.asked = asked
        return map(entry, (1, 2))

    def remember(self, _asked: Asked, number: int) -> None:
        self.remembered.append(number)

    def find_peer(self, _title: str) -> Peer | None:
        return self.peer


@pytest.fixture
def ris() -> Ris:
    return Ris()


@pytest.fixture
def port(ris: Ris) -> Iterator[int]:
    service = partial(
        worklist.find,
        search=ris.search,
        find_peer=ris.find_peer,
        remember=ris.remember,
        max_results=10,
    )
    offers = {models.MODALITY_WORKLIST: {dimse.C_FIND_RQ: service}}
    acceptance = Acceptance("ARCHIVE", lambda _title, _address: True, offers)
    metrics = Metrics(CollectorRegistry())
    listener = Listener(("127.0.0.1", 0), acceptance, Limits(), metrics)
    listener.start()
    yield listener.port
    listener.stop(grace_s=0)


@pytest.fixture
def query_file(tmp_path: Path) -> Path:
    """A query as consoles send it, made by DCMTK from its dump."""
    dump, made = tmp_path / "query.dump", tmp_path / "query.wl"
    dump.write_text(QUERY, encoding="utf-8")
    subprocess.run([programs.need("dump2dcm"), "-g", str(dump), str(made)], check=True, timeout=30)
    return made


def find(port: int, folder: Path, *arguments: object) -> list[Dataset]:
    answer = dcmtk("findscu", port, "-W", "-X", *arguments, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def test_query_of_a_console_is_answered_key_by_key(
    port: int, ris: Ris, query_file: Path, tmp_path: Path
) -> None:
    first, second = find(port, tmp_path, query_file)

    assert ris.asked is not None
    assert {keyword: value for keyword, value in ris.asked.keys.items() if value} == {
        "PatientName": "NGUYỄN*",
        f"{STEP}.Modality": "CT",
        f"{STEP}.ScheduledStationAETitle": "CT01",
        f"{STEP}.ScheduledProcedureStepStartDate": "20260105",
    }
    assert ris.remembered == [2]
    assert (first.AccessionNumber, second.AccessionNumber) == ("A1", "A2")
    assert first.SpecificCharacterSet == "ISO_IR 192"
    assert first.PatientName == "NGUYỄN VĂN AN"
    assert (first.PatientBirthDate, first.ReferringPhysicianName) == ("", "")
    [code] = first.RequestedProcedureCodeSequence
    assert (code.CodeValue, code.CodeMeaning) == ("18.1", "CLVT ngực")
    [step] = first.ScheduledProcedureStepSequence
    assert step.ScheduledProcedureStepStartTime == "081500"
    assert step.ScheduledPerformingPhysicianName == ""
    assert step.ScheduledProtocolCodeSequence[0].CodeMeaning == "Ngực"


def test_console_that_knows_ascii_only_gets_ascii(
    port: int, ris: Ris, query_file: Path, tmp_path: Path
) -> None:
    ris.peer = Peer("CT01", "h", 104, "", TextProfile.FOLD_ASCII, 20)

    first, _ = find(port, tmp_path, query_file)

    assert first.PatientName == "NGUYEN VAN AN"
    assert first.RequestedProcedureDescription == "Chup cat lop vi tinh"
    assert "SpecificCharacterSet" not in first


def test_cancelled_query_ends(port: int, tmp_path: Path) -> None:
    found = find(port, tmp_path, "--cancel", "1", "-k", "PatientID")

    assert 1 <= len(found) <= 2


def test_key_that_we_do_not_have_is_said_to_be_unsupported(port: int, tmp_path: Path) -> None:
    answer = dcmtk(
        "findscu", port, "-W", "-v", "-k", "PatientID", "-k", "0009,0010=X", cwd=tmp_path
    )

    assert answer.returncode == 0
    assert "Pending: Warning" in answer.stdout + answer.stderr
