"""Templates as MRRT documents, ours and those of others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.reports import mrrt
from ris.reports.faults import Invalid
from ris.reports.model import SECTIONS
from ris.reports.templates import Template

OURS = Template(
    code="CT-SO-NAO",
    title="CLVT sọ não <thường quy>",
    service_codes=("18.0149", "18.0150"),
    modality="CT",
    sex="F",
    least_age_months=72,
    most_age_months=1200,
    sections={
        "technique": "Lát cắt 5 mm, không tiêm.",
        "findings": "Nhu mô não {{age}}: bình thường & cân đối.\n\nXoang sáng.",
        "impression": "Không thấy tổn thương < 5 mm.",
    },
)
# As a library of templates writes them, in our own words.
FOREIGN = """<!DOCTYPE html><html><head><title>CT Chest</title>
<meta name="dcterms.identifier" content="http://example.org/T7"/>
<meta name="dcterms.language" content="en-US"/>
<style>p { color: red }</style>
<script type="text/xml"><template_attributes><status>ACTIVE</status></template_attributes></script>
</head><body>
<section id="a" class="level1" data-section-name="Clinical history">
<header>Clinical history</header>
<p><input type="text" value="Cough"/></p></section>
<section id="b" data-section-name="Findings"><header>Findings</header>
<p>Heart is normal.</p>
<section id="c" data-section-name="Lungs">
<header>Lungs</header><p>Clear,<br/>no nodule.</p></section>
</section>
<section id="d" data-section-name="Bones"><p>Intact.</p></section>
<section id="e" data-section-name="Impression">
<p><textarea>No acute disease.</textarea></p></section>
</body></html>"""


def test_template_comes_back_as_it_went_out() -> None:
    found = mrrt.read(mrrt.export(OURS))

    assert {**found.sections} == {name: OURS.sections.get(name, "") for name in SECTIONS}
    for name in (
        "code",
        "title",
        "language",
        "service_codes",
        "modality",
        "sex",
        "least_age_months",
        "most_age_months",
    ):
        assert getattr(found, name) == getattr(OURS, name)


def test_template_of_others_is_read_by_the_names_of_its_sections() -> None:
    found = mrrt.read(FOREIGN)

    assert (found.code, found.title, found.language) == (
        "http://example.org/T7",
        "CT Chest",
        "en",
    )
    assert found.sections["clinical_information"] == "Cough"
    assert found.sections["impression"] == "No acute disease."
    findings = found.sections["findings"]
    assert "Heart is normal." in findings
    assert "Lungs: Clear,\nno nodule." in findings
    assert "Bones: Intact." in findings
    assert "color" not in str(found.sections)


@pytest.mark.parametrize("page", ["", "text", "<html><p>x</p></html>", "<section"])
def test_page_without_sections_is_no_template(page: str) -> None:
    with pytest.raises(Invalid):
        mrrt.read(page)


def test_page_that_is_too_large_is_refused() -> None:
    with pytest.raises(Invalid):
        mrrt.read("<section>" * 200_000)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_whatever_the_text_no_page_breaks_the_reader(text: str) -> None:
    page = f'<section data-section-name="Findings">{text}</section>'

    try:
        found = mrrt.read(page)
    except Invalid:
        return
    assert {*found.sections} <= {*SECTIONS}
