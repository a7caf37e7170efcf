"""What becomes of received instances: rows, counters, conflicts, incidents."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from storage.archive import incidents, instances
from storage.archive.incidents import Kind
from storage.archive.model import Level, Verdict
from storage.archive.quarantine import Reason
from storage.base.errors import Malformed
from storage.db.engine import Session, transaction
from tests.fixtures.index import CT, MR, Index, received

STORED, DUPLICATE, CONFLICT = Verdict.STORED, Verdict.DUPLICATE, Verdict.CONFLICT


def verdicts(index: Index, *some: instances.ReceivedInstance) -> list[str]:
    """Return the verdict of each, or the reason of its conflict."""
    return [outcome.reason or outcome.verdict for outcome in index.record(*some)]


def open_incidents(index: Index) -> list[Kind]:
    with transaction(index.engine) as session:
        return [incident.kind for incident in incidents.list_open(session)]


def counts(index: Index) -> dict[str, int]:
    tables = ("patients", "studies", "series", "instances")
    with transaction(index.engine) as session:
        return {
            name: session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()  # noqa: S608
            for name in tables
        }


def test_study_counts_its_series_instances_and_modalities(index: Index) -> None:
    index.record(
        received("1", "1"),
        received("2", "1"),
        received("1", "2", Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"),
    )
    index.record(received("3", "1"), received("1", "3", Modality="CT"))

    [study] = index.find(Level.STUDY)
    first, second, third = index.find(Level.SERIES)

    assert study["NumberOfStudyRelatedSeries"] == 3
    assert study["NumberOfStudyRelatedInstances"] == 5
    assert study["ModalitiesInStudy"] == ("CT", "SR")
    assert study["SOPClassesInStudy"] == (CT, "1.2.840.10008.5.1.4.1.1.88.11")
    assert [s["NumberOfSeriesRelatedInstances"] for s in (first, second, third)] == [3, 1, 1]


def test_patient_counts_all_studies(index: Index) -> None:
    index.record(received("1", "1", "1"), received("1", "1", "2"), received("2", "1", "2"))

    [patient] = index.find(Level.PATIENT)

    assert patient["NumberOfPatientRelatedStudies"] == 2
    assert patient["NumberOfPatientRelatedSeries"] == 2
    assert patient["NumberOfPatientRelatedInstances"] == 3


def test_same_batch_again_changes_nothing(index: Index) -> None:
    batch = [received(str(n), s, study) for n in range(3) for s in "12" for study in "34"]
    index.record(*batch)
    before = index.find(Level.IMAGE), index.find(Level.STUDY)

    outcomes = index.record(*batch)

    assert {outcome.verdict for outcome in outcomes} == {DUPLICATE}
    assert (index.find(Level.IMAGE), index.find(Level.STUDY)) == before


def test_same_instance_twice_in_one_batch_is_one(index: Index) -> None:
    assert verdicts(index, received(), received()) == [STORED, DUPLICATE]
    assert counts(index)["instances"] == 1


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (received(content="other"), Reason.DUPLICATE_UID),
        (replace(received(), transfer_syntax_uid="1.2.840.10008.1.2"), Reason.DUPLICATE_UID),
        (received("1", "2", SOPInstanceUID="2.25.1.1.1"), Reason.OTHER_PARENT),
        (
            received("1", "1", "2", SOPInstanceUID="2.25.1.1.1", SeriesInstanceUID="2.25.9"),
            Reason.OTHER_PARENT,
        ),
        (received("9", "1", "2", SeriesInstanceUID="2.25.1.1"), Reason.SERIES_MISMATCH),
        (received("2", PatientID="BN2", PatientName="TRẦN^BÌNH"), Reason.PATIENT_MISMATCH),
        (received("2", PatientID="BN2", PatientBirthDate=""), Reason.PATIENT_MISMATCH),
        (received("2", PatientID="", PatientName="TRẦN^BÌNH"), Reason.PATIENT_MISMATCH),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradiction_leaves_no_row(
    index: Index, second: instances.ReceivedInstance, reason: Reason, together: bool
) -> None:
    if together:
        found = verdicts(index, received(), second)
    else:
        found = verdicts(index, received()) + verdicts(index, second)

    assert found == [STORED, reason]
    assert counts(index) == {"patients": 1, "studies": 1, "series": 1, "instances": 1}


def test_conflict_says_what_without_patient_data(index: Index) -> None:
    index.record(received())

    [outcome] = index.record(received("2", PatientID="BN2", PatientName="TRẦN^BÌNH"))

    assert "2.25.1" in outcome.detail
    assert not {"BN1", "BN2", "TRẦN", "NGUYỄN"} & {*outcome.detail.replace("^", " ").split()}


@pytest.mark.parametrize(
    "second",
    [
        {"PatientName": "nguyen van an"},
        {"PatientName": ""},
        {"PatientBirthDate": ""},
        {"PatientID": "", "PatientName": "AN^NGUYEN VAN"},
        {"PatientSex": "F"},
    ],
    ids=str,
)
def test_compatible_instance_joins_its_study_silently(index: Index, second: dict[str, str]) -> None:
    index.record(received())

    assert verdicts(index, received("2", **second)) == [STORED]
    assert open_incidents(index) == []
    assert counts(index)["patients"] == 1


def test_same_person_with_another_id_is_stored_and_noticed(index: Index) -> None:
    index.record(received())

    assert verdicts(index, received("2", PatientID="BN2"), received("3", PatientID="BN2")) == [
        STORED,
        STORED,
    ]

    assert open_incidents(index) == [Kind.OTHER_PATIENT_ID]
    assert [study["PatientID"] for study in index.find(Level.STUDY)] == ["BN1"]


def test_same_id_with_another_name_in_one_study_is_noticed(index: Index) -> None:
    index.record(received())

    assert verdicts(index, received("2", PatientName="TRẦN^BÌNH")) == [STORED]

    assert open_incidents(index) == [Kind.PATIENT_CONFLICT]
    assert [study["PatientName"] for study in index.find(Level.STUDY)] == ["NGUYỄN^VĂN AN"]


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_same_id_of_another_person_is_another_patient(index: Index, together: bool) -> None:
    one, other = received(), received(study="2", PatientName="TRẦN^BÌNH")
    again = received(study="3", PatientName="BINH TRAN")

    for batch in ([one, other, again],) if together else ([one], [other], [again]):
        assert {outcome.verdict for outcome in index.record(*batch)} == {STORED}

    names = [
        (match["PatientName"], match["NumberOfPatientRelatedStudies"])
        for match in index.find(Level.PATIENT)
    ]
    assert names == [("NGUYỄN^VĂN AN", 1), ("TRẦN^BÌNH", 2)]
    assert open_incidents(index) == [Kind.PATIENT_CONFLICT]


def test_same_id_of_another_issuer_is_another_patient(index: Index) -> None:
    index.record(received(IssuerOfPatientID="A"), received(study="2", IssuerOfPatientID="B"))

    assert counts(index)["patients"] == 2
    assert open_incidents(index) == []


def test_study_without_patient_id_has_a_patient_of_its_own(index: Index) -> None:
    index.record(received(PatientID=""), received(study="2", PatientID=""))
    index.record(received(study="3", PatientID=""))

    assert counts(index)["patients"] == 3


def test_doubtful_blank_is_a_patient_of_its_own(index: Index) -> None:
    index.record(received(), received(study="2", PatientName="TRẦN^BÌNH"))

    index.record(received(study="3", PatientName="", PatientBirthDate=""))
    index.record(received(study="4", PatientName="", PatientBirthDate=""))

    by_name = {
        p["PatientName"]: p["NumberOfPatientRelatedStudies"] for p in index.find(Level.PATIENT)
    }
    assert by_name == {"NGUYỄN^VĂN AN": 1, "TRẦN^BÌNH": 1, "": 2}


def test_blanks_are_filled_and_first_values_stay(index: Index) -> None:
    index.record(received(PatientSex="", StudyDescription="", AccessionNumber="A1"))

    index.record(
        received(
            "2",
            PatientSex="M",
            StudyDescription="CT ngực",
            AccessionNumber="A2",
            ReferringPhysicianName="LÊ^C",
            BodyPartExamined="CHEST",
        )
    )

    [series] = index.find(Level.SERIES)
    assert series["PatientSex"] == "M"
    assert series["StudyDescription"] == "CT ngực"
    assert series["AccessionNumber"] == "A1"
    assert series["BodyPartExamined"] == "CHEST"
    assert index.uids(Level.STUDY, ReferringPhysicianName="le c") == ["2.25.1"]


def test_filled_patient_is_found_under_every_study(index: Index) -> None:
    nameless = {"PatientName": "", "PatientBirthDate": ""}
    index.record(received(**nameless), received(study="2", **nameless))

    index.record(received("2"))

    assert sorted(index.uids(Level.STUDY, PatientName="nguyen")) == ["2.25.1", "2.25.2"]


def test_patient_id_that_comes_late_identifies_the_next_study(index: Index) -> None:
    index.record(received(PatientID=""))
    index.record(received("2", PatientID="BN7"))

    index.record(received(study="2", PatientID="BN7"))

    assert counts(index)["patients"] == 1
    assert index.uids(Level.STUDY, PatientID="BN7") == ["2.25.2", "2.25.1"]


def test_hostile_values_never_break_a_batch(index: Index) -> None:
    awkward = {
        "PatientName": "A\0B\ud800" + "x" * 100_000,
        "PatientID": "é" * 20_000,
        "PatientBirthDate": "yesterday",
        "StudyDate": "2026.03.01",
        "StudyTime": "nine",
        "AccessionNumber": "9" * 20_000,
        "Modality": "Z" * 20_000 + "\\\\CT",
        "SeriesNumber": "99999999999999999999",
        "InstanceNumber": "1.5",
        "Rows": "many",
        "ImageType": "\\\\ A \\",
    }

    outcomes = index.record(received(**awkward), received(study="2"))

    assert [outcome.verdict for outcome in outcomes] == [STORED, STORED]
    [found] = index.find(Level.IMAGE, StudyInstanceUID="2.25.1")
    assert found["StudyDate"] == "20260301"
    assert (found["PatientBirthDate"], found["SeriesNumber"], found["Rows"]) == ("", "", "")
    assert found["StudyTime"] == "nine"
    assert found["PatientName"].startswith("AB?x")
    assert len(found["AccessionNumber"]) == 10_240


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
def test_instance_without_a_place_is_refused(index: Index, keyword: str) -> None:
    with pytest.raises(Malformed, match=keyword):
        index.record(received(**{keyword: ""}))


def test_nothing_received_is_no_work(index: Index) -> None:
    assert index.record() == []


def test_located_instances_come_by_series_and_number(index: Index) -> None:
    index.record(*(received(n, s, PatientID="BN1") for s in ("10", "2") for n in ("10", "9", "1")))
    index.record(received(study="2", NumberOfFrames="30"))

    found = [one.sop_instance_uid for one in index.locate(StudyInstanceUID="2.25.1")]
    frames = [one.number_of_frames for one in index.locate(SOPInstanceUID="2.25.2.1.1")]

    assert found == [f"2.25.1.{s}.{n}" for s in ("2", "10") for n in ("1", "9", "10")]
    assert frames == [30]
    assert len(index.locate(PatientID="BN1")) == 7
    assert len(index.locate(StudyInstanceUID="2.25.1\\2.25.2")) == 7
    assert len(index.locate(PatientID="BN1", SeriesInstanceUID="2.25.1.2")) == 3
    assert index.locate(PatientID="BN2", StudyInstanceUID="2.25.1") == []
    assert index.locate(SOPInstanceUID="2.25.77") == []


def test_located_instance_has_what_a_read_needs(index: Index) -> None:
    sent = received()
    index.record(sent)

    [found] = index.locate(SOPInstanceUID="2.25.1.1.1")

    assert (found.object_key, found.dataset_offset, found.dataset_size, found.dataset_sha256) == (
        sent.object_key,
        sent.dataset_offset,
        sent.dataset_size,
        sent.dataset_sha256,
    )
    assert (found.sop_class_uid, found.transfer_syntax_uid) == (CT, sent.transfer_syntax_uid)
    assert found.number_of_frames == 1


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"StudyInstanceUID": ""},
        {"StudyInstanceUID": "*"},
        {"PatientID": "BN*"},
        {"SOPInstanceUID": "1.x"},
        {"Modality": "CT"},
    ],
    ids=str,
)
def test_retrieval_of_everything_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        instances.locate(Session(), keys)


def test_first_modality_of_a_series_stays_and_all_are_listed(index: Index) -> None:
    index.record(received(Modality="CT"), received("2", Modality="MR", SOPClassUID=MR))

    [series] = index.find(Level.SERIES)

    assert (series["Modality"], series["ModalitiesInStudy"]) == ("CT", ("CT", "MR"))
