"""The archive shows what we are told of patients, and every object stays as it came."""

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy import Engine, select

from pacs import correcting, part10, retrieve
from pacs.scp import suboperations
from ris import archive_patients, merges
from ris.archive_patients import Arrivals
from ris.verbs import Domain
from storage.archive import corrections, instances, tables
from storage.archive.corrections import Held
from storage.archive.model import Level
from storage.db.engine import Session, transaction
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.his import EIGHT, ZONE, His, pid
from tests.fixtures.http import HttpNode, http_node_on
from tests.fixtures.index import Index
from tests.fixtures.patience import PATIENCE_S

AS_STORED = {"Accept": "application/dicom; transfer-syntax=*"}


class Hospital:
    """A HIS, an archive with its web interface, and what comes of both."""

    def __init__(self, engine: Engine, node: HttpNode) -> None:
        self.engine, self.node = engine, node
        self.his = His(engine)
        self.index = Index(engine)
        self.client = node.client()

    def image(self, number: str, name: str, **values: object) -> Dataset:
        """Let an image arrive, and the archive look at whom it is of."""
        given = {"PatientBirthDate": "19800101", "PatientSex": "M", **values}
        dataset = ct_slice(PatientID=number, PatientName=name, **given)
        self.node.put(dataset)
        self.look()
        return dataset

    def look(self) -> None:
        with transaction(self.engine) as session:
            while archive_patients.arrivals(session):
                pass

    def found(self, **keys: str) -> list[tuple[str, str]]:
        """Return name and number of the studies that a query finds."""
        return sorted(
            (str(match["PatientName"]), str(match["PatientID"]))
            for match in self.index.find(Level.STUDY, **keys)
        )

    def patients(self) -> list[tuple[str, str]]:
        return sorted(
            (str(match["PatientName"]), str(match["PatientID"]))
            for match in self.index.find(Level.PATIENT)
        )

    def path(self, dataset: Dataset) -> str:
        return (
            f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
            f"/instances/{dataset.SOPInstanceUID}"
        )

    def given(self, dataset: Dataset) -> Dataset:
        """Return the object as WADO-RS gives it."""
        answer = self.client.get(self.path(dataset), headers=AS_STORED)
        answer.raise_for_status()
        return dcmread(BytesIO(answer.content))

    def metadata(self, dataset: Dataset) -> tuple[str, str]:
        answer = self.client.get(f"{self.path(dataset)}/metadata")
        [found] = answer.raise_for_status().json()
        return found["00100010"]["Value"][0]["Alphabetic"], found["00100020"]["Value"][0]

    def kept(self) -> set[str]:
        """Return the digests of the datasets in the store, as the bytes lie there."""
        with transaction(self.engine) as session:
            rows = session.execute(select(tables.instances)).mappings().all()
        return {
            hashlib.sha256(
                self.node.store.read(row["object_key"], row["dataset_offset"], row["dataset_size"])
            ).hexdigest()
            for row in rows
        }

    def expected(self) -> set[str]:
        with transaction(self.engine) as session:
            return {*session.scalars(select(tables.instances.c.dataset_sha256))}


@pytest.fixture
def hospital(engine: Engine, tmp_path: Path) -> Iterator[Hospital]:
    with http_node_on(engine, tmp_path) as node:
        yield Hospital(engine, node)


def shown(dataset: Dataset) -> tuple[str, str]:
    return str(dataset.PatientName), str(dataset.PatientID)


REAL = ("PHẠM THỊ THẬT", "0001234")


def test_images_of_a_known_patient_go_out_as_they_came(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")

    sent = hospital.image("BN1", "NGUYEN VAN AN")

    assert shown(hospital.given(sent)) == ("NGUYEN VAN AN", "BN1")
    assert hospital.found() == [("NGUYEN VAN AN", "BN1")]


@pytest.mark.parametrize("settled", [False, True])
def test_corrected_name_is_shown_everywhere(hospital: Hospital, *, settled: bool) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")
    if settled:
        hospital.node.settle()

    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")
    if settled:
        hospital.node.settle()

    assert hospital.found(PatientName="ANH") == [("NGUYỄN VĂN ANH", "BN1")]
    assert hospital.patients() == [("NGUYỄN VĂN ANH", "BN1")]
    assert shown(hospital.given(sent)) == ("NGUYỄN VĂN ANH", "BN1")
    assert hospital.metadata(sent) == ("NGUYỄN VĂN ANH", "BN1")
    assert hospital.kept() == hospital.expected()


def test_corrected_birth_date_and_sex_are_shown(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN", born="19800101", sex="M")
    sent = hospital.image("BN1", "NGUYEN VAN AN")

    hospital.his.admit("BN1", "NGUYỄN VĂN AN", born="19810202", sex="F", event="A08")

    given = hospital.given(sent)
    assert (given.PatientBirthDate, given.PatientSex) == ("19810202", "F")
    assert given.PatientName == "NGUYEN VAN AN"


def test_name_that_is_written_on_a_picture_is_the_corrected_one(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")

    def picture(of: Dataset) -> bytes:
        path = f"{hospital.path(of)}/rendered?annotation=patient&viewport=256,256&accept=image/png"
        return hospital.client.get(path).raise_for_status().content

    first = picture(sent)
    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")
    deadline = time.monotonic() + PATIENCE_S
    while (later := picture(sent)) == first:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    assert later == picture(hospital.image("BN1", "NGUYỄN VĂN ANH"))


def test_merge_shows_all_studies_under_the_survivor(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    hospital.his.admit("BN2", "NGUYỄN VĂN ÂN")
    hospital.image("BN1", "NGUYEN VAN AN")
    prior = hospital.image("BN2", "NGUYEN VAN AN")

    hospital.his.merge("BN1", "BN2")

    assert hospital.found() == [("NGUYEN VAN AN", "BN1")] * 2
    assert hospital.found(PatientID="BN1") == [("NGUYEN VAN AN", "BN1")] * 2
    assert hospital.found(PatientID="BN2") == []
    assert hospital.patients() == [("NGUYEN VAN AN", "BN1")]
    assert shown(hospital.given(prior)) == ("NGUYEN VAN AN", "BN1")
    assert hospital.metadata(prior) == ("NGUYEN VAN AN", "BN1")
    assert hospital.kept() == hospital.expected()


def test_unknown_person_is_shown_by_his_name_once_it_is_known(hospital: Hospital) -> None:
    hospital.his.admit("TN-1", "VÔ DANH", born="", sex="U")
    sent = hospital.image("TN-1", "VO DANH", PatientBirthDate="", PatientSex="O")

    hospital.his.send("ADT^A40", pid(REAL[1], REAL[0], "19700203", "F"), "MRG|TN-1")

    assert hospital.found() == [REAL]
    assert hospital.patients() == [REAL]
    given = hospital.given(sent)
    assert shown(given) == REAL
    assert (given.PatientBirthDate, given.PatientSex) == ("19700203", "F")


def test_images_that_come_later_under_the_dead_number_land_on_the_survivor(
    hospital: Hospital,
) -> None:
    hospital.his.admit("TN-1", "VÔ DANH", born="", sex="U")
    hospital.his.send("ADT^A40", pid(REAL[1], REAL[0], "19700203", "F"), "MRG|TN-1")

    sent = hospital.image("TN-1", "VO DANH", PatientBirthDate="", PatientSex="O")
    again = hospital.image("TN-1", "VO DANH", PatientBirthDate="", PatientSex="O")

    assert hospital.found() == [REAL, REAL]
    assert shown(hospital.given(sent)) == shown(hospital.given(again)) == REAL


def test_images_under_the_survivors_number_join_the_study_of_the_prior(
    hospital: Hospital,
) -> None:
    hospital.his.admit("TN-1", "VÔ DANH", born="", sex="U")
    first = hospital.image("TN-1", "VO DANH", PatientBirthDate="", PatientSex="")
    hospital.his.send("ADT^A40", pid(REAL[1], REAL[0], "19700203", "F"), "MRG|TN-1")

    second = hospital.image(
        REAL[1],
        REAL[0],
        PatientBirthDate="19700203",
        PatientSex="F",
        StudyInstanceUID=first.StudyInstanceUID,
    )
    other = hospital.image(REAL[1], REAL[0], PatientBirthDate="19700203", PatientSex="F")

    assert hospital.found() == [REAL, REAL]
    assert {shown(hospital.given(one)) for one in (first, second, other)} == {REAL}
    assert hospital.patients() == [REAL]


def test_unlink_shows_everything_as_before(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    hospital.his.admit("BN2", "LÊ THỊ BÌNH", born="19900909", sex="F")
    one = hospital.image("BN1", "NGUYEN VAN AN")
    other = hospital.image("BN2", "LE THI BINH", PatientBirthDate="19900909", PatientSex="F")
    before = hospital.found(), hospital.patients(), hospital.given(one), hospital.given(other)
    hospital.his.merge("BN1", "BN2")
    assert hospital.found(PatientID="BN2") == []

    hospital.his.send("ADT^A37", pid("BN1", ""), pid("BN2", ""))

    after = hospital.found(), hospital.patients(), hospital.given(one), hospital.given(other)
    assert after == before
    assert hospital.kept() == hospital.expected()


def test_entity_tag_changes_with_the_correction_and_comes_back(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    hospital.his.admit("BN2", "NGUYỄN VĂN ÂN")
    sent = hospital.image("BN2", "NGUYEN VAN AN")
    paths = {
        hospital.path(sent): AS_STORED["Accept"],
        f"{hospital.path(sent)}/metadata": "application/dicom+json",
    }

    def tags() -> set[str]:
        found = [
            hospital.client.get(path, headers={"Accept": accept}) for path, accept in paths.items()
        ]
        return {answer.headers["etag"] for answer in found}

    def wait_for(wanted: Callable[[set[str]], bool]) -> set[str]:
        """Ask until places that are remembered for some seconds are asked of the index again."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(found := tags()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return found

    before = tags()
    hospital.his.merge("BN1", "BN2")
    wait_for(lambda found: not found & before)
    hospital.his.send("ADT^A37", pid("BN1", ""), pid("BN2", ""))

    assert wait_for(lambda found: found == before)


def test_images_that_came_while_two_were_one_are_left_to_a_person(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    hospital.his.admit("BN2", "NGUYỄN VĂN ÂN")
    hospital.image("BN1", "NGUYEN VAN AN")
    hospital.his.merge("BN1", "BN2")
    hospital.image("BN1", "NGUYEN VAN AN")

    hospital.his.send("ADT^A37", pid("BN1", ""), pid("BN2", ""))

    assert hospital.his.notices() == ["unmerged_with_later_images"]


def test_person_can_undo_a_merge_and_the_archive_follows(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    hospital.image("BN2", "NGUYEN VAN AN")
    hospital.his.merge("BN1", "BN2", name="NGUYỄN VĂN AN")
    hospital.his.admit("BN2", "NGUYỄN VĂN AN")
    assert hospital.found() == [("NGUYỄN VĂN AN", "BN1")]

    with transaction(hospital.engine) as session:
        [entry] = merges.journal(session, hospital.his.patient("BN1").id)
        Domain(ZONE).undo_merge(session, entry.id)

    assert hospital.found() == [("NGUYEN VAN AN", "BN2")]


def test_new_number_is_shown_and_the_old_one_finds_nothing(hospital: Hospital) -> None:
    hospital.his.admit("OLD", "NGUYỄN VĂN AN")
    sent = hospital.image("OLD", "NGUYEN VAN AN")

    hospital.his.send("ADT^A47", pid("NEW", "NGUYỄN VĂN AN"), "MRG|OLD")
    late = hospital.image("OLD", "NGUYEN VAN AN")

    assert hospital.found(PatientID="OLD") == []
    assert hospital.found() == [("NGUYEN VAN AN", "NEW")] * 2
    assert hospital.given(sent).PatientID == hospital.given(late).PatientID == "NEW"


def test_images_before_the_patient_are_linked_when_he_is_told(hospital: Hospital) -> None:
    sent = hospital.image("BN1", "NGUYEN VAN AN")

    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")

    assert shown(hospital.given(sent)) == ("NGUYỄN VĂN ANH", "BN1")


def test_late_images_with_the_name_from_before_are_corrected(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "CB LÊ THỊ BÌNH", born="19800101")
    hospital.his.admit("BN1", "TRẦN VĂN BÉ", born="19800101", event="A08")

    sent = hospital.image("BN1", "CB LE THI BINH")
    new = hospital.image("BN1", "TRAN VAN BE")

    assert shown(hospital.given(sent)) == ("TRẦN VĂN BÉ", "BN1")
    assert hospital.given(new).PatientID == "BN1"


# Never under the wrong patient


def test_images_of_another_person_with_the_number_are_left_alone(hospital: Hospital) -> None:
    hospital.his.admit("0001", "NGUYỄN VĂN AN")

    sent = hospital.image("0001", "LE THI BINH", PatientBirthDate="19900909")
    hospital.his.admit("0001", "NGUYỄN VĂN ANH", event="A08")
    hospital.his.merge("BN9", "0001", name="NGUYỄN VĂN ANH")

    assert shown(hospital.given(sent)) == ("LE THI BINH", "0001")
    assert hospital.found() == [("LE THI BINH", "0001")]
    assert "patient_conflict" in hospital.his.notices()


def test_number_that_two_hospitals_gave_out_moves_by_its_person(hospital: Hospital) -> None:
    station = His(hospital.engine, "tramyte", issuer="TRAM01")
    hospital.his.admit("0001", "NGUYỄN VĂN AN")
    station.admit("0001", "LÊ THỊ BÌNH", born="19900909")
    one = hospital.image("0001", "NGUYEN VAN AN")
    other = hospital.image("0001", "LE THI BINH", PatientBirthDate="19900909")

    station.admit("0001", "LÊ THỊ BÍNH", born="19900909", event="A08")

    assert shown(hospital.given(one)) == ("NGUYEN VAN AN", "0001")
    assert shown(hospital.given(other)) == ("LÊ THỊ BÍNH", "0001")


def test_number_of_two_who_are_alike_is_left_alone(hospital: Hospital) -> None:
    station = His(hospital.engine, "tramyte", issuer="TRAM01")
    hospital.his.admit("0001", "NGUYỄN VĂN AN")
    station.admit("0001", "NGUYỄN VĂN AN")
    sent = hospital.image("0001", "NGUYEN VAN AN")

    station.admit("0001", "NGUYỄN VĂN ANH", event="A08")

    assert shown(hospital.given(sent)) == ("NGUYEN VAN AN", "0001")


def test_issuer_of_the_image_decides_whose_number_it_is(hospital: Hospital) -> None:
    station = His(hospital.engine, "tramyte", issuer="TRAM01")
    hospital.his.admit("0001", "NGUYỄN VĂN AN")
    station.admit("0001", "NGUYỄN VĂN AN")
    sent = hospital.image("0001", "NGUYEN VAN AN", IssuerOfPatientID="TRAM01")

    hospital.his.admit("0001", "NGUYỄN VĂN SAI", event="A08")
    assert shown(hospital.given(sent)) == ("NGUYEN VAN AN", "0001")

    station.admit("0001", "NGUYỄN VĂN ANH", event="A08")
    hospital.node.settle()
    assert hospital.found() == [("NGUYỄN VĂN ANH", "0001")]


def test_name_and_birth_date_changed_at_once_leave_the_images(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")

    hospital.his.admit("BN1", "LÊ THỊ BÌNH", born="19900909", event="A08")

    assert shown(hospital.given(sent)) == ("NGUYEN VAN AN", "BN1")
    assert hospital.his.notices() == ["patient_conflict"]


def test_image_without_a_name_is_not_anybodys(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "", PatientBirthDate="")

    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")

    assert shown(hospital.given(sent)) == ("", "BN1")


# How it goes out


def test_ranges_of_a_corrected_object_make_up_the_whole(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")
    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")
    path = hospital.path(sent)

    whole = hospital.client.get(path, headers=AS_STORED).content
    parts = [
        hospital.client.get(path, headers={**AS_STORED, "Range": f"bytes={at}-{at + 99}"})
        for at in range(0, len(whole), 100)
    ]

    assert {part.status_code for part in parts} == {206}
    assert b"".join(part.content for part in parts) == whole


def test_large_object_is_corrected_while_it_streams(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")
    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")
    with transaction(hospital.engine) as session:
        [stored] = instances.locate(session, {"StudyInstanceUID": str(sent.StudyInstanceUID)})
    store = hospital.node.store

    pieces = b"".join(retrieve.outgoing_pieces(store, stored))

    assert pieces == retrieve.outgoing(store, stored)
    assert len(pieces) == retrieve.outgoing_size(store, stored)
    assert pieces == correcting.corrected(
        retrieve.read_dataset(store, stored),
        stored.transfer_syntax_uid,
        correcting.read(stored.correction),
    )


@pytest.mark.parametrize("whole_bytes", [16 << 20, 0], ids=["whole", "streamed"])
def test_object_that_dimse_sends_is_corrected(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(suboperations, "_WHOLE_BYTES", whole_bytes)
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")
    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")
    with transaction(hospital.engine) as session:
        [stored] = instances.locate(session, {"PatientID": "BN1"})

    for accepted in ({ExplicitVRLittleEndian}, {ImplicitVRLittleEndian}):
        syntax, pieces = suboperations.dataset(hospital.node.store, stored, accepted)
        head = part10.head(stored.sop_class_uid, stored.sop_instance_uid, syntax)
        given = dcmread(BytesIO(head + b"".join(pieces)))
        assert shown(given) == ("NGUYỄN VĂN ANH", "BN1")
        assert given.PixelData == sent.PixelData


def test_new_patient_that_makes_trouble_is_passed_over(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.node.put(ct_slice(PatientID="A"), ct_slice(PatientID="B"))
    with transaction(hospital.engine) as session:
        first, _ = corrections.arrived(session, 2)
    held, seen_alone = corrections.held, list[int]()

    def of_all_but_the_first(session: Session, ids: Collection[int]) -> list[Held]:
        if first in ids:
            raise ArithmeticError("no such patient has ever been seen")
        seen_alone.extend(ids)
        return held(session, ids)

    monkeypatch.setattr(corrections, "held", of_all_but_the_first)
    arrivals = Arrivals(hospital.engine)

    for _ in range(2):  # together with the other one, and alone
        with pytest.raises(ArithmeticError):
            arrivals.run_once()

    assert [arrivals.run_once() for _ in range(2)] == [1, 0]
    assert len({*seen_alone}) == 1


def test_study_as_a_whole_and_as_a_file_is_corrected(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN")
    sent = hospital.image("BN1", "NGUYEN VAN AN")
    hospital.his.admit("BN1", "NGUYỄN VĂN ANH", event="A08")
    study = f"/dicom-web/studies/{sent.StudyInstanceUID}"
    several = 'multipart/related; type="application/dicom"; transfer-syntax=*'

    answers = [
        hospital.client.get(study, headers={"Accept": several}),
        hospital.client.get(f"{study}/archive"),
    ]

    for answer in answers:
        assert "NGUYỄN VĂN ANH".encode() in answer.content
        assert b"NGUYEN VAN AN" not in answer.content


def test_correction_of_the_future_is_late_by_no_more_than_a_merge(hospital: Hospital) -> None:
    hospital.his.admit("BN1", "NGUYỄN VĂN AN", at=EIGHT)
    sent = hospital.image("BN1", "NGUYEN VAN AN")

    hospital.his.admit("BN1", "NGUYỄN VĂN CŨ", event="A08", at=EIGHT.replace(hour=7, second=1))

    assert shown(hospital.given(sent)) == ("NGUYEN VAN AN", "BN1")
