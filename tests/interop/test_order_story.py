"""One order from the hospital's system to images, and what becomes of them when it errs.

    MLLP order ─ findscu ─ MPPS ─ status by MLLP ─ storescu ─ QIDO, C-FIND, WADO
                                            ADT^A40 and ADT^A37: who is shown, and nothing rewritten

Everything speaks to the server as it is started by its users; nothing here looks inside, but for
the bytes of the objects.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom.association import Association

from tests.fixtures.dcmtk import needs_dcmtk
from tests.fixtures.hl7 import order_message
from tests.fixtures.serving import Serving
from tests.fixtures.story import (
    ORDER,
    REAL,
    UNKNOWN,
    Hospital,
    adt,
    console_of,
    hospital_of,
    perform,
    until,
)

pytestmark = [pytest.mark.interop, needs_dcmtk]


@pytest.fixture
def hospital(serving: Serving, tmp_path: Path) -> Iterator[Hospital]:
    with hospital_of(serving, tmp_path) as made:
        yield made


@pytest.fixture
def console(hospital: Hospital) -> Iterator[Association]:
    with console_of(hospital) as association:
        yield association


def test_story_of_an_order(hospital: Hospital, console: Association) -> None:
    # the order of a person whom nobody knows yet
    ordered = order_message(ORDER, patient=UNKNOWN[1], modality="CT", name=UNKNOWN[0])
    assert hospital.tell(ordered) == "AA"
    [entry] = hospital.worklist()  # asked once, right after the answer
    assert (str(entry.PatientName), entry.PatientID, entry.AccessionNumber) == (*UNKNOWN, ORDER)

    # performed, and the hospital's system knows; found by the number that the console left out
    files = perform(hospital, console, entry)
    until(hospital.statuses, [(ORDER, status) for status in ("IP", "CM")])
    assert hospital.worklist() == []
    until(lambda: hospital.studies(AccessionNumber=ORDER), [(*UNKNOWN, ORDER)])
    image = dcmread(files[1])
    assert hospital.shown(image) == {UNKNOWN}

    # now it is known who it is: shown everywhere, written nowhere
    identity = f"PID|||{REAL[1]}^^^BV^PI||{REAL[0]}||19800101|F"
    assert hospital.tell(adt("A40", identity, f"MRG|{UNKNOWN[1]}^^^BV^PI")) == "AA"
    until(hospital.studies, [(*REAL, ORDER)])
    until(lambda: hospital.shown(image), {REAL})
    assert hospital.studies(PatientID=UNKNOWN[1]) == []
    assert all(map(hospital.holds, files))

    # and it was a mistake
    unlinked = adt("A37", f"PID|||{REAL[1]}^^^BV^PI||", f"PID|||{UNKNOWN[1]}^^^BV^PI||")
    assert hospital.tell(unlinked) == "AA"
    until(hospital.studies, [(*UNKNOWN, ORDER)])
    until(lambda: hospital.shown(image), {UNKNOWN})
    assert all(map(hospital.holds, files))
