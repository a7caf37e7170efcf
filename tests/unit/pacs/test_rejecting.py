"""Rejection notes as they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pacs import rejecting
from storage.archive.rejection_rules import Named, Note, Title
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.rejection_notes import coded, evidence, rejection

EXPLICIT = str(ExplicitVRLittleEndian)


def read(note: Dataset, syntax: str = EXPLICIT) -> Note | None:
    return rejecting.read(encode(note, syntax), syntax)


def named(*some: Dataset) -> tuple[Named, ...]:
    return tuple(
        Named(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID, one.SOPClassUID)
        for one in some
    )


@pytest.mark.parametrize("title", Title)
@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian],
    ids=lambda syntax: syntax.keyword,
)
def test_note_says_what_it_rejects_and_why(title: Title, syntax: str) -> None:
    first, other = ct_slice(), ct_slice()

    note = read(rejection(title, [first, other]), syntax)

    assert note == Note(title, named(first, other), "TRẦN^MINH", "Bệnh nhân cử động")


def test_deflated_note_is_read() -> None:
    image = ct_slice()

    note = read(rejection(Title.QUALITY, [image]), DeflatedExplicitVRLittleEndian)

    assert note is not None
    assert note.named == named(image)


@pytest.mark.parametrize(
    "title",
    [
        [coded("113000", "DCM", "Of Interest")],
        [coded("113001", "99LOCAL", "Rejected for Quality Reasons")],
        [coded("", "DCM", "")],
        [Dataset()],
        [],
    ],
    ids=["of interest", "of another scheme", "empty", "empty item", "none"],
)
def test_selection_of_another_title_is_no_note(title: list[Dataset]) -> None:
    assert read(rejection(Title.QUALITY, [ct_slice()], ConceptNameCodeSequence=title)) is None


def test_note_without_evidence_rejects_nothing_and_says_so() -> None:
    note = read(rejection(Title.SAFETY, [ct_slice()], CurrentRequestedProcedureEvidenceSequence=[]))

    assert note is not None
    assert (note.named, note.fault) == ((), rejecting.NOTHING_NAMED)


def test_evidence_without_uids_is_left_out_and_told() -> None:
    image, odd = ct_slice(), ct_slice()
    items = evidence([image, odd])
    items[1].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = ""

    note = read(rejection(Title.SAFETY, [image], CurrentRequestedProcedureEvidenceSequence=items))

    assert note is not None
    assert (note.named, note.fault) == (named(image), rejecting.NO_UIDS)


def test_note_does_not_reject_itself() -> None:
    note = rejection(Title.SAFETY, [ct_slice()])
    note.CurrentRequestedProcedureEvidenceSequence = evidence([note])

    found = read(note)

    assert found is not None
    assert (found.named, found.fault) == ((), rejecting.NOTHING_NAMED)


def test_object_that_is_named_twice_is_rejected_once() -> None:
    image = ct_slice()

    note = read(rejection(Title.SAFETY, [image, image]))

    assert note is not None
    assert (note.named, note.fault) == (named(image), "")


@pytest.mark.parametrize("limit", ["MOST", "MOST_STUDIES"])
def test_note_of_more_than_anybody_means_rejects_nothing(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(rejecting, limit, 2)

    note = read(rejection(Title.SAFETY, [ct_slice() for _ in range(3)]))

    assert note is not None
    assert (note.named, note.fault) == ((), rejecting.TOO_MANY)


_NOTE = encode(rejection(Title.SAFETY, [ct_slice(), ct_slice()]))


@given(st.integers(0, len(_NOTE) - 1), st.binary(min_size=1, max_size=8))
def test_whatever_stands_in_a_note_is_read_or_left(at: int, other: bytes) -> None:
    broken = _NOTE[:at] + other + _NOTE[at + len(other) :]

    found = rejecting.read_if_sound(broken, EXPLICIT)

    assert found is None or isinstance(found, Note)
