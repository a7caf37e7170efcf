import pytest

from ris.reports.templates import Case, Template, closeness, fits, merge

CHEST = Case(service_codes=("X1",), modality="DX", sex="F", age_months=400)


@pytest.mark.parametrize(
    ("values", "fitting"),
    [
        ({}, True),
        ({"service_codes": ("X1", "X2")}, True),
        ({"service_codes": ("X2",)}, False),
        ({"modality": "DX"}, True),
        ({"modality": "CT"}, False),
        ({"sex": "F"}, True),
        ({"sex": "M"}, False),
        ({"least_age_months": 400, "most_age_months": 400}, True),
        ({"least_age_months": 401}, False),
        ({"most_age_months": 399}, False),
        ({"language": "en"}, False),
    ],
    ids=str,
)
def test_template_fits_what_it_does_not_contradict(
    values: dict[str, object], *, fitting: bool
) -> None:
    assert fits(Template(code="a", title="A", **values), CHEST) is fitting  # type: ignore[arg-type]


def test_narrower_template_is_closer() -> None:
    made = [
        Template(code="a", title="", sex="F", most_age_months=600),
        Template(code="b", title="", modality="DX"),
        Template(code="c", title="", service_codes=("X1",)),
        Template(code="d", title=""),
    ]

    assert [one.code for one in sorted(made, key=closeness, reverse=True)] == ["c", "b", "a", "d"]


def test_unknown_merge_field_stays_for_the_reader_to_see() -> None:
    template = Template(
        code="a", title="", sections={"findings": "{{ patient_name }}, {{age}}, {{dose}}"}
    )

    merged = merge(template, {"patient_name": "An <b>", "age": "5 tuổi", "dose": ""})

    assert merged.findings == "An <b>, 5 tuổi, {{dose}}"
    assert merged.impression == ""
