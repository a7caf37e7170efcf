import pytest

from storage.archive import patients, rows
from storage.archive.model import Level
from storage.archive.patients import Likeness, Patient


def person(name: str = "", born: str = "", sex: str = "") -> dict[str, rows.Value]:
    return rows.values(
        Level.PATIENT, {"PatientName": name, "PatientBirthDate": born, "PatientSex": sex}
    )


AN = person("NGUYỄN^VĂN AN", "19600102")


@pytest.mark.parametrize(
    ("other", "likeness"),
    [
        (person("AN NGUYEN VAN", "19600102"), Likeness.SAME),
        (person("NGUYỄN^VĂN AN", "19600102", "F"), Likeness.SAME),
        (person("NGUYỄN^VĂN AN"), Likeness.COMPATIBLE),
        (person("", "19600102"), Likeness.COMPATIBLE),
        (person(), Likeness.COMPATIBLE),
        (person("NGUYỄN^VĂN AN", "19600103"), Likeness.OTHER),
        (person("NGUYỄN^VĂN", "19600102"), Likeness.OTHER),
        (person("TRẦN^B"), Likeness.OTHER),
    ],
)
def test_name_and_birth_date_decide_about_likeness(
    other: dict[str, rows.Value], likeness: Likeness
) -> None:
    assert patients.likeness(AN, other) is likeness
    assert patients.likeness(other, AN) is likeness


@pytest.mark.parametrize(
    ("one", "other", "certain"),
    [
        (AN, person("nguyen van an", "19600102"), True),
        (AN, person("nguyen van an"), False),
        (person("AN"), person("AN"), False),
        (person("", "19600102"), person("", "19600102"), False),
    ],
)
def test_only_given_and_equal_facts_are_certain(
    one: dict[str, rows.Value], other: dict[str, rows.Value], certain: bool
) -> None:
    assert patients.certainly_same(one, other) is certain


def test_the_same_is_chosen_before_the_compatible() -> None:
    blank, an = Patient(person()), Patient(AN)

    assert patients.choose([blank, an], AN) is an
    assert patients.choose([blank, an], person()) is blank


def test_one_compatible_is_chosen_and_two_are_a_doubt() -> None:
    an, binh = Patient(AN), Patient(person("TRẦN^B"))

    assert patients.choose([an], person("", "19600102")) is an
    assert patients.choose([an, binh], person("", "19600102")) is None
    assert patients.choose([an, binh], person("LÊ^C")) is None
    assert patients.choose([], AN) is None


def test_an_identifier_gets_no_issuer_later() -> None:
    patient = Patient(rows.values(Level.PATIENT, {"PatientID": "1"}))

    patients.fill(patient, {"PatientID": "1", "IssuerOfPatientID": "A", "PatientSex": "F"})

    assert patient.identifier == ("1", "")
    assert patient.filled == {"patient_sex": "F"}


def test_a_patient_without_identifier_gets_it_whole() -> None:
    patient = Patient(rows.values(Level.PATIENT, {}))

    patients.fill(patient, {"PatientID": "1", "IssuerOfPatientID": "A"})

    assert patient.identifier == ("1", "A")


def test_object_is_of_a_patient_by_what_its_objects_say_or_by_what_is_shown() -> None:
    corrected = Patient(AN, shown=Patient(person("TRẦN^BÌNH", "19700203")))
    other = person("LÊ^CHI", "19800101")

    for said in (AN, person("TRAN BINH", "19700203")):
        assert patients.alike(corrected, said) is Likeness.SAME
        assert patients.is_certainly(corrected, said)
        assert patients.choose([corrected], said) is corrected
    assert patients.alike(corrected, other) is Likeness.OTHER
    assert not patients.is_certainly(corrected, other)
    assert patients.choose([corrected], other) is None
