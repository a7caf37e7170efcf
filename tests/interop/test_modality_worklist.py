"""DCMTK's findscu asks a running server for its worklist, as consoles do."""

import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from ris import queries
from storage.access import peers
from storage.access.peers import Peer, TextProfile
from storage.db.engine import transaction
from tests.fixtures import programs
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk
from tests.fixtures.orders import person, place
from tests.fixtures.server import DicomServer

pytestmark = [pytest.mark.interop, needs_dcmtk]

STEP = "ScheduledProcedureStepSequence"
BROAD = """
(0008,0005) CS [ISO_IR 192]
(0008,0050) SH []
(0008,0090) PN []
(0010,0010) PN [{name}]
(0010,0020) LO []
(0010,0030) DA []
(0010,0040) CS []
(0010,1030) DS []
(0020,000d) UI []
(0032,1032) PN []
(0032,1060) LO []
(0032,1064) SQ
(fffe,e000) -
(0008,0100) SH []
(0008,0102) SH []
(0008,0104) LO []
(fffe,e00d) -
(fffe,e0dd) -
(0038,0010) LO []
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [{modality}]
(0040,0001) AE [{station}]
(0040,0002) DA [{date}]
(0040,0003) TM [{time}]
(0040,0006) PN []
(0040,0007) LO []
(0040,0008) SQ
(fffe,e0dd) -
(0040,0009) SH []
(0040,0010) SH []
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH []
(0040,1003) SH []
"""
EMPTY = {"name": "", "modality": "", "station": "", "date": "", "time": ""}


@pytest.fixture
def server(dicom_server: DicomServer) -> DicomServer:
    """Two steps on CT01 on two days, one on MR01."""
    with transaction(dicom_server.engine) as session:
        place(session, 1)
        place(session, 2, step={"start": datetime(2026, 1, 6, 9, 0)})
        other = person(session, 2, patient_name="ĐỖ^THỊ HƯỜNG")
        place(session, 3, patient=other, step={"modality": "MR", "station_ae_titles": ["MR01"]})
    return dicom_server


def ask(server: DicomServer, folder: Path, **keys: str) -> list[Dataset]:
    """Return the answers to the query of a console, made by DCMTK from its dump."""
    dump, made = folder / "query.dump", folder / "query.wl"
    dump.write_text(BROAD.format_map(EMPTY | keys), encoding="utf-8")
    subprocess.run([programs.need("dump2dcm"), "-g", str(dump), str(made)], check=True, timeout=30)
    answer = dcmtk("findscu", server.port, "-W", "-X", made, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def accessions(found: list[Dataset]) -> list[str]:
    return [one.AccessionNumber for one in found]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["A1", "A2"]),
        (dict.fromkeys(EMPTY, "*"), ["A1", "A2"]),
        ({"date": "20260105"}, ["A1"]),
        ({"date": "20260105-20260106"}, ["A1", "A2"]),
        ({"date": "20260105-20260106", "time": "0900-0900"}, ["A2"]),
        ({"date": "20260106-20260105"}, []),
        ({"date": "-"}, ["A1", "A2"]),
        ({"modality": "CT", "station": "CT01", "date": "20260105"}, ["A1"]),
        ({"station": "MR01"}, ["A3"]),
        ({"station": "??01"}, ["A1", "A3", "A2"]),
        ({"name": "NGUYỄN*"}, ["A1", "A2"]),
        ({"name": "nguyen^van*"}, ["A1", "A2"]),
        ({"name": "*VĂN*", "date": "20260106"}, ["A2"]),
        ({"name": "đỗ*", "station": "*"}, []),
        ({"name": "đỗ*", "station": "MR01"}, ["A3"]),
        ({"name": "DO THI HUONG", "station": "MR01"}, ["A3"]),
    ],
    ids=str,
)
def test_console_finds_what_it_asks_for(
    server: DicomServer, tmp_path: Path, keys: Mapping[str, str], expected: list[str]
) -> None:
    assert accessions(ask(server, tmp_path, **keys)) == expected


def test_entry_has_what_a_console_needs(server: DicomServer, tmp_path: Path) -> None:
    [entry] = ask(server, tmp_path, date="20260105")

    assert entry.SpecificCharacterSet == "ISO_IR 192"
    assert entry.PatientName == "NGUYỄN^VĂN AN"
    assert (entry.PatientID, entry.PatientBirthDate, entry.PatientSex) == (
        *("BN-1", "19600302", "M"),
    )
    assert (entry.StudyInstanceUID, entry.RequestedProcedureID) == ("2.25.1", "R1")
    assert entry.RequestedProcedureDescription == "Chụp cắt lớp vi tính lồng ngực"
    assert entry.RequestedProcedureCodeSequence[0].CodeValue == "18.0219"
    assert (entry.AdmissionID, entry.PatientWeight) == ("", None)
    [step] = entry.ScheduledProcedureStepSequence
    assert step.ScheduledStationAETitle == "CT01"
    assert step.ScheduledProcedureStepStartDate == "20260105"
    assert step.ScheduledProcedureStepStartTime == "081500"
    assert (step.Modality, step.ScheduledProcedureStepID) == ("CT", "S1")
    assert step.ScheduledStationName == ""


def test_console_may_be_allowed_the_steps_of_every_station(
    server: DicomServer, tmp_path: Path
) -> None:
    with transaction(server.engine) as session:
        peers.add(session, Peer("CT01", "127.0.0.1", 104, every_station=True))

    assert accessions(ask(server, tmp_path)) == ["A1", "A3", "A2"]


def test_console_of_ascii_letters_gets_them(server: DicomServer, tmp_path: Path) -> None:
    with transaction(server.engine) as session:
        peers.add(
            session, Peer("CT01", "127.0.0.1", 104, "", TextProfile.FOLD_ASCII, text_length=16)
        )

    [entry] = ask(server, tmp_path, station="MR01")

    assert entry.PatientName == "DO^THI HUONG"
    assert entry.RequestedProcedureDescription == "Chup cat lop vi"


def test_last_query_of_the_console_is_remembered(server: DicomServer, tmp_path: Path) -> None:
    ask(server, tmp_path, date="20260105", modality="CT")

    with transaction(server.engine) as session:
        last = queries.last(session, "CT01")
    assert last.matches == 1
    assert last.keys == {
        f"{STEP}.Modality": "CT",
        f"{STEP}.ScheduledProcedureStepStartDate": "20260105",
    }


def test_key_that_is_no_date_fails_the_query_and_is_named(
    server: DicomServer, tmp_path: Path
) -> None:
    answer = dcmtk(
        *("findscu", server.port, "-W", "-v"),
        *("-k", "PatientID", "-k", "(0040,0100)[0].(0040,0002)=05/01/2026"),
        cwd=tmp_path,
    )

    assert "UnableToProcess" in answer.stdout + answer.stderr
