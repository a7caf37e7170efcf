import pytest
from sqlalchemy.dialects import postgresql

from storage.archive import matching
from storage.archive.attributes import visible
from storage.archive.matching import Reach
from storage.archive.model import Level
from storage.base.errors import Malformed


def condition(keyword: str, value: str, level: Level = Level.IMAGE):
    return matching.condition(visible(level)[keyword], value, level)


def sql(keyword: str, value: str) -> str:
    found = condition(keyword, value)
    assert found is not None
    options = {"literal_binds": True}
    return str(found.clause.compile(dialect=postgresql.dialect(), compile_kwargs=options))


@pytest.mark.parametrize("keyword", sorted(visible(Level.IMAGE)))
@pytest.mark.parametrize("value", ["", "*", "**", " ", "\0", "*\\"])
def test_universal_key_asks_nothing(keyword: str, value: str) -> None:
    if visible(Level.IMAGE)[keyword].vr != "LT" or "\\" not in value:
        assert condition(keyword, value) is None


@pytest.mark.parametrize("keyword", ["PatientAge", "NumberOfStudyRelatedInstances"])
def test_returned_attribute_is_not_matched(keyword: str) -> None:
    assert condition(keyword, "070Y") is None


@pytest.mark.parametrize(
    ("value", "clause"),
    [
        ("100%", "= '100%%'"),
        ("100%*", "LIKE '100!%%%%' ESCAPE '!'"),
        ("a_b?", "LIKE 'a!_b_' ESCAPE '!'"),
        ("wow!*", "LIKE 'wow!!%%' ESCAPE '!'"),
    ],
)
def test_wild_cards_become_those_of_sql_and_others_are_text(value: str, clause: str) -> None:
    assert sql("StudyDescription", value).endswith(clause)


@pytest.mark.parametrize(
    ("keyword", "value", "level", "reach"),
    [
        ("StudyInstanceUID", "1.2", Level.STUDY, Reach.INDEX),
        ("FrameOfReferenceUID", "1.2", Level.SERIES, Reach.WALK),
        ("PatientID", "1", Level.STUDY, Reach.INDEX),
        ("PatientID", "1*", Level.STUDY, Reach.PROBE),
        ("PatientID", "*123", Level.STUDY, Reach.PROBE),
        ("PatientID", "*12", Level.STUDY, Reach.WALK),
        ("PatientID", "1\\*12", Level.STUDY, Reach.WALK),
        ("AccessionNumber", "A?", Level.STUDY, Reach.PROBE),
        ("StudyDescription", "*CT*", Level.STUDY, Reach.WALK),
        ("StudyDescription", "*CTA*", Level.STUDY, Reach.INDEX),
        ("StudyDescription", "*C?TA*", Level.STUDY, Reach.WALK),
        ("SeriesDescription", "axial", Level.SERIES, Reach.WALK),
        ("PatientName", "an", Level.STUDY, Reach.INDEX),
        ("PatientName", "an", Level.PATIENT, Reach.PROBE),
        ("PatientName", "A*", Level.STUDY, Reach.INDEX),
        ("PatientName", "*AN*", Level.STUDY, Reach.WALK),
        ("PatientName", "?AN?N*", Level.STUDY, Reach.WALK),
        ("PatientName", "*VAN*AN*", Level.STUDY, Reach.INDEX),
        ("PatientName", "*山*", Level.STUDY, Reach.WALK),
        ("OperatorsName", "an", Level.SERIES, Reach.WALK),
        ("StudyDate", "20260301", Level.STUDY, Reach.WALK),
        ("ModalitiesInStudy", "CT\\MR", Level.STUDY, Reach.INDEX),
        ("ModalitiesInStudy", "CT\\M*", Level.STUDY, Reach.WALK),
        ("Modality", "CT", Level.SERIES, Reach.INDEX),
        ("Modality", "C*", Level.SERIES, Reach.WALK),
        ("SOPClassesInStudy", "1.2", Level.STUDY, Reach.WALK),
    ],
)
def test_reach_follows_the_indexes(keyword: str, value: str, level: Level, reach: Reach) -> None:
    found = condition(keyword, value, level)

    assert found is not None
    assert found.reach is reach


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "2024-01-01x"),
        ("StudyDate", "-"),
        ("StudyTime", "7"),
        ("StudyInstanceUID", "1.2.a"),
        ("StudyInstanceUID", "1..2"),
        ("SOPClassesInStudy", "CT"),
        ("InstanceNumber", "1e3"),
    ],
)
def test_bad_value_is_told_by_its_keyword_alone(keyword: str, value: str) -> None:
    with pytest.raises(Malformed, match=keyword) as caught:
        condition(keyword, value)

    assert value not in str(caught.value).replace(keyword, "")


def test_number_that_no_column_holds_matches_nothing() -> None:
    assert "NULL" in sql("InstanceNumber", "99999999999") or "1 != 1" in sql(
        "InstanceNumber", "99999999999"
    )
