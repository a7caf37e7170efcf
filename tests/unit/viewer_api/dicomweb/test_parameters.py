from urllib.parse import quote, urlencode

import pytest

from storage.archive.model import Level, Query
from storage.base.errors import Malformed
from viewer_api.dicomweb import parameters
from viewer_api.dicomweb.parameters import Search


def parse(query_string: str, level: Level = Level.STUDY, most: int = 5000) -> Search:
    return parameters.parse(query_string, level, {}, most)


@pytest.mark.parametrize(
    ("query_string", "keys"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("PatientName=*Nguy*", {"PatientName": "*Nguy*"}, id="keyword"),
        pytest.param("00100020=P001", {"PatientID": "P001"}, id="tag"),
        pytest.param("0020000d=1.2", {"StudyInstanceUID": "1.2"}, id="tag in lower case"),
        pytest.param("PatientName=", {"PatientName": ""}, id="empty value is universal"),
        pytest.param("PatientName", {"PatientName": ""}, id="no value at all"),
        pytest.param(
            "PatientName=NGUY%E1%BB%84N%5EV%C4%82N+AN",
            {"PatientName": "NGUYỄN^VĂN AN"},
            id="UTF-8, percent and plus decoded",
        ),
        pytest.param(
            "StudyInstanceUID=1.2%2C1.3", {"StudyInstanceUID": "1.2\\1.3"}, id="UIDs by comma"
        ),
        pytest.param(
            "StudyInstanceUID=1.2%5C1.3", {"StudyInstanceUID": "1.2\\1.3"}, id="by backslash"
        ),
        pytest.param(
            "ModalitiesInStudy=CT%2CMR", {"ModalitiesInStudy": "CT\\MR"}, id="codes by comma"
        ),
        pytest.param("PatientID=A%2CB", {"PatientID": "A,B"}, id="a comma elsewhere is a comma"),
        pytest.param(
            "StudyDate=20260101-20260131&ModalitiesInStudy=CT",
            {"StudyDate": "20260101-20260131", "ModalitiesInStudy": "CT"},
            id="several",
        ),
        pytest.param("PatientID=A&00100020=A", {"PatientID": "A"}, id="the same key twice"),
    ],
)
def test_keys_are_read_in_every_shape(query_string: str, keys: dict[str, str]) -> None:
    assert parse(query_string).query == Query(Level.STUDY, keys)


@pytest.mark.parametrize(
    "name",
    [
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "00400275.00400009",
        "RequestAttributesSequence.00400009",
    ],
)
def test_path_into_a_sequence_is_one_key(name: str) -> None:
    asked = parse(f"{name}=S1", Level.SERIES)

    assert asked.query.keys == {"RequestAttributesSequence.ScheduledProcedureStepID": "S1"}
    assert asked.warnings == ()


def test_the_list_of_a_viewer_is_read() -> None:
    asked = parse(
        "limit=101&offset=0&fuzzymatching=true"
        "&includefield=00081030%2C00080060%2C00080090%2C00100030"
    )

    assert (asked.limit, asked.offset, asked.query.fuzzy) == (101, 0, True)
    assert asked.include == {
        "StudyDescription",
        "Modality",
        "ReferringPhysicianName",
        "PatientBirthDate",
    }
    assert asked.warnings == ()


def test_include_fields_repeat_and_unknown_ones_are_passed_over() -> None:
    asked = parse("includefield=StudyDescription&includefield=Nonsense,00091001,,PatientAge")

    assert asked.include == {"StudyDescription", "00090001", "PatientAge"}


def test_include_all_is_everything() -> None:
    assert parse("includefield=StudyDescription,all").include == {parameters.ALL}


@pytest.mark.parametrize("name", ["Rows", "00091001", "PixelSpacing", "Modality"])
def test_attribute_that_is_not_matched_on_is_named_in_a_warning(name: str) -> None:
    [warning] = parse(f"{name}=1").warnings

    assert name in warning


@pytest.mark.parametrize(
    "query_string",
    [
        "PatientNmae=X",
        "nonsense",
        "=x",
        "PatientName.=x",
        ".=x",
        "RequestAttributesSequence.Nonsense=1",
        "limit=-1",
        "limit=ten",
        "limit=1e3",
        "offset=-5",
        "offset=10000000",
        "offset=²",
        "fuzzymatching=maybe",
        "PatientID=A&PatientID=B",
        "PatientName=%FF%FE",
        "PatientName=" + "x" * 5000,
        "&".join(f"00100020={number}" for number in range(300)),
    ],
)
def test_malformed_parameter_is_named(query_string: str) -> None:
    with pytest.raises(Malformed):
        parse(query_string)


@pytest.mark.parametrize("limit", ["999999", "99999999", "9" * 30])
def test_large_limit_is_cut_with_a_warning(limit: str) -> None:
    asked = parse(f"limit={limit}", most=500)

    assert asked.limit == 500
    assert asked.warnings == ("at most 500 results are returned at once",)


def test_without_a_limit_a_study_is_given_whole() -> None:
    parents = {"StudyInstanceUID": "1.2"}

    assert parse("").limit == parameters.DEFAULT_LIMIT
    assert parameters.parse("", Level.IMAGE, parents, 5000).limit == 5000


def test_unsupported_switch_is_a_warning() -> None:
    assert parse("emptyvaluematching=true").warnings == ("emptyvaluematching is not supported",)


def test_the_path_wins_and_may_not_be_contradicted() -> None:
    parents = {"StudyInstanceUID": "1.2"}

    same = parameters.parse("StudyInstanceUID=1.2", Level.SERIES, parents, 10)

    assert same.query.keys == parents
    with pytest.raises(Malformed, match="contradicts the path"):
        parameters.parse("0020000D=1.3", Level.SERIES, parents, 10)


def test_error_does_not_repeat_a_value() -> None:
    query_string = urlencode({"PatientID": "SECRET1"}) + "&" + urlencode({"00100020": "SECRET2"})

    with pytest.raises(Malformed) as caught:
        parse(query_string)

    assert "SECRET" not in str(caught.value)


def test_hostile_name_is_cut() -> None:
    with pytest.raises(Malformed) as caught:
        parse(quote("x" * 3000) + "=1")

    assert len(str(caught.value)) < 200
