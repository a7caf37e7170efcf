"""Rejecting, looking and restoring as people do it: ``/api/v1/rejections`` and the command line."""

import getpass
import io
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from pacs.ingest import Ingest
from storage.access.tokens import Role
from storage.audit import chain, journal
from storage.audit.model import Event, Kind, Search
from storage.db.engine import create, transaction
from storage.objects.directory import DirectoryStore
from storage.spool import Spool
from tests.fixtures.dicom3tools import errors_of
from tests.fixtures.dicom_files import ct_slice, encode, part10_file
from tests.fixtures.http import HttpNode
from tests.fixtures.rejection_notes import KOS
from tests.fixtures.serving import PROGRAM

API = "/api/v1/rejections"


@pytest.fixture
def images(http_node: HttpNode) -> list[Dataset]:
    """Two images of one series, and one of another."""
    first = ct_slice(InstanceNumber=1)
    uids = {"StudyInstanceUID": first.StudyInstanceUID}
    second = ct_slice(InstanceNumber=2, SeriesInstanceUID=first.SeriesInstanceUID, **uids)
    third = ct_slice(InstanceNumber=3, **uids)
    http_node.put(first, second, third)
    return [first, second, third]


@pytest.fixture
def technologist(http_node: HttpNode) -> httpx.Client:
    return http_node.client(http_node.token(Role.TECHNOLOGIST))


def shown(node: HttpNode) -> int:
    """Return how many instances everybody finds."""
    answer = node.client().get("/dicom-web/instances")
    return len(answer.json()) if answer.status_code == 200 else 0


def told(node: HttpNode, *kinds: Kind) -> list[Event]:
    with transaction(node.engine) as session:
        assert not chain.verify(session).fault
        return [*journal.find(session, Search(kinds=kinds), limit=100)]


def wanted(image: Dataset, **values: Any) -> dict[str, Any]:
    study = str(image.StudyInstanceUID)
    return {"study_instance_uid": study, "title": "113001", "reason": "cử động", **values}


def reject(node: HttpNode, client: httpx.Client, body: dict[str, Any]) -> str:
    answer = client.post(API, json=body)
    assert answer.status_code == 202, answer.text
    node.ingest()
    return str(answer.json()["sop_instance_uid"])


def test_person_rejects_by_a_note_of_our_own(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client
) -> None:
    first = images[0]
    body = wanted(first, sop_instance_uids=[first.SOPInstanceUID])
    would = technologist.post(f"{API}/preview", json=body).json()
    assert would == {"series": 1, "instances": 1, "left": 2}
    assert shown(http_node) == 3, "a preview does nothing"

    uid = reject(http_node, technologist, body)

    assert shown(http_node) == 2
    [listed] = technologist.get(API).json()
    assert listed == technologist.get(f"{API}/{uid}").json()
    facts = {name: listed[name] for name in ("title", "reason", "author", "named", "in_force")}
    assert facts == {
        "title": "113001",
        "reason": "cử động",
        "author": "a technologist",
        "named": 1,
        "in_force": 1,
    }
    [named] = technologist.get(f"{API}/{uid}/instances").json()
    assert (named["held"], named["hidden"], named["withdrawn_at"]) == (True, "113001", None)
    assert named["sop_instance_uid"] == first.SOPInstanceUID
    [entry] = told(http_node, Kind.REJECT)
    assert (entry.actor_name, entry.study_instance_uid) == (
        "a technologist",
        first.StudyInstanceUID,
    )
    assert entry.details == {"note": uid, "title": "113001", "named": 1}


def test_series_and_study_are_rejected_as_a_whole(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client
) -> None:
    series = wanted(images[0], series_instance_uid=images[0].SeriesInstanceUID)

    reject(http_node, technologist, series)
    assert shown(http_node) == 1
    would = technologist.post(f"{API}/preview", json=wanted(images[0])).json()
    reject(http_node, technologist, wanted(images[0], title="113038"))

    assert would == {"series": 1, "instances": 1, "left": 0}
    assert shown(http_node) == 0
    again = technologist.post(API, json=wanted(images[0]))
    assert again.status_code == 404, "nothing is left to reject"


def test_rejection_is_withdrawn_once_and_told(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client
) -> None:
    uid = reject(http_node, technologist, wanted(images[0]))

    restored = technologist.post(f"{API}/{uid}/restore")

    assert (restored.status_code, restored.json()["in_force"]) == (200, 0)
    assert shown(http_node) == 3
    assert technologist.post(f"{API}/{uid}/restore").status_code == 409
    [entry] = told(http_node, Kind.RESTORE)
    assert (entry.actor, entry.address) == ("a technologist", "127.0.0.1")
    named = technologist.get(f"{API}/{uid}/instances").json()
    assert {one["withdrawn_by"] for one in named} == {"a technologist"}


def test_rejected_picture_can_be_looked_at_by_who_may_restore_it(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client
) -> None:
    first, second, _ = images
    uid = reject(http_node, technologist, wanted(first, sop_instance_uids=[first.SOPInstanceUID]))
    path = f"{API}/{uid}/instances/{first.SOPInstanceUID}"

    picture = technologist.get(f"{path}/preview")
    file = technologist.get(path)

    assert picture.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(picture.content)) as drawn:
        assert drawn.size[0] == drawn.size[1]
    assert file.headers["content-type"] == "application/dicom"
    assert file.content.endswith(encode(first))
    assert {one.details["rejected"] for one in told(http_node, Kind.VIEW, Kind.DOWNLOAD)} == {
        first.SOPInstanceUID
    }
    others = f"{API}/{uid}/instances/{second.SOPInstanceUID}"
    assert technologist.get(others).status_code == 404, "the note does not name it"


def test_note_of_ours_is_what_the_standard_says(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client, tmp_path: Path
) -> None:
    uid = reject(http_node, technologist, wanted(images[0], title="113038"))

    file = technologist.get(f"{API}/{uid}/instances/{uid}").content

    assert errors_of(file, tmp_path) == []


def test_note_can_be_handed_to_another_archive(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client
) -> None:
    uid = reject(http_node, technologist, wanted(images[0], title="113037"))

    file = technologist.get(f"{API}/{uid}/instances/{uid}")

    note = dcmread(io.BytesIO(file.content))
    assert (note.SOPClassUID, note.SOPInstanceUID, note.Modality) == (KOS, uid, "KO")
    assert note.PatientID == images[0].PatientID
    [title] = note.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113037", "DCM")
    assert note.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == images[0].StudyInstanceUID
    assert {
        instance.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    } == {image.SOPInstanceUID for image in images}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.STATION])
def test_who_may_not_reconcile_sees_no_rejections(
    http_node: HttpNode, images: list[Dataset], role: Role
) -> None:
    uid = reject(http_node, http_node.client(), wanted(images[0]))
    station = "68001" if role is Role.STATION else None
    client = http_node.client(http_node.token(role, station))

    paths = ("", f"/{uid}", f"/{uid}/instances", f"/{uid}/instances/{uid}")
    answers = [client.get(f"{API}{path}").status_code for path in paths]
    answers += [client.post(f"{API}/{uid}/restore").status_code]
    answers += [client.post(API, json=wanted(images[0])).status_code]

    assert {*answers} == {403}
    assert shown(http_node) == 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"title": "113000"}, 422),
        ({"reason": "x" * 1001}, 422),
        ({"study_instance_uid": "x"}, 422),
        ({"study_instance_uid": "2.25.1"}, 404),
        ({"series_instance_uid": "2.25.1"}, 404),
        ({"sop_instance_uids": ["2.25.1"]}, 404),
    ],
    ids=["title", "reason", "no uid", "unknown study", "unknown series", "unknown object"],
)
def test_what_cannot_be_rejected_is_refused(
    http_node: HttpNode,
    images: list[Dataset],
    technologist: httpx.Client,
    change: dict[str, Any],
    status: int,
) -> None:
    for path in (API, f"{API}/preview"):
        answer = technologist.post(path, json=wanted(images[0], **change))
        assert answer.status_code == status, answer.text

    http_node.ingest()
    assert technologist.get(API).json() == []
    assert shown(http_node) == 3


def test_unknown_note_is_not_found(technologist: httpx.Client) -> None:
    for path in ("", "/instances", "/instances/2.25.1", "/instances/2.25.1/preview"):
        assert technologist.get(f"{API}/2.25.9{path}").status_code == 404
    assert technologist.post(f"{API}/2.25.9/restore").status_code == 404


def test_list_goes_on_behind_the_last_one_seen(
    http_node: HttpNode, images: list[Dataset], technologist: httpx.Client
) -> None:
    made = [
        reject(http_node, technologist, wanted(one, sop_instance_uids=[one.SOPInstanceUID]))
        for one in images
    ]

    first = technologist.get(API, params={"limit": 2}).json()
    rest = technologist.get(API, params={"after": first[-1]["sop_instance_uid"]}).json()

    assert [one["sop_instance_uid"] for one in (*first, *rest)] == [*reversed(made)]


# The command line


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Mapping[str, str]:
    (tmp_path / "data").mkdir()
    return {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
    }


def test_command_line_rejects_and_restores(settings: Mapping[str, str], tmp_path: Path) -> None:
    folder = Path(settings["LIENTHONG_DATA_DIR"])
    image = ct_slice(SOPInstanceUID=generate_uid())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "image.dcm").write_bytes(part10_file(image))
    study = str(image.StudyInstanceUID)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [PROGRAM, *arguments],
            env={**os.environ, **settings, "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run("import", str(tmp_path / "in"))
    would = run("rejection", "reject", study, "--why", "safety", "--preview")
    uid = run("rejection", "reject", study, "--why", "safety", "--reason", "nhầm bên")

    assert would == "1 objects of 1 series; 0 left"
    listed = run("rejection", "list", "--study", study)
    assert uid in listed
    assert "113037 Rejected for Patient Safety Reasons" in listed
    assert getpass.getuser() in listed
    assert "113037" in run("rejection", "show", uid)
    note = tmp_path / "note.dcm"
    run("rejection", "export", uid, str(note))
    assert dcmread(note).SOPInstanceUID == uid
    run("rejection", "restore", uid, "--by", "BS. Lan")
    assert "BS. Lan" in run("rejection", "show", uid)
    engine = create(settings["LIENTHONG_DATABASE_URL"])
    try:
        ingest = Ingest(engine, DirectoryStore(folder / "objects"), Spool(folder / "spool"))
        assert ingest.run_once() == 0, "nothing is left in the spool"
    finally:
        engine.dispose()
