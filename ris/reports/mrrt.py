"""Templates as IHE MRRT writes them: HTML5 with a section for each part (IHE RAD TF-3 8.1).

    <meta name="dcterms.…">      title, identifier, language
    <template_attributes>        coded content, and what we ask for beside it
    <section data-section-name>  a text field with the usual text

What an import finds in other sections than ours goes to the findings, under its heading.
"""

import re
from dataclasses import dataclass, field
from html import escape, unescape
from html.parser import HTMLParser
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from ris.reports.faults import Fault, Invalid
from ris.reports.templates import Template

MOST_CHARACTERS: Final = 1_000_000
# section of ours → its name in MRRT, its LOINC code
SECTIONS: Final = {
    "clinical_information": ("Clinical Information", "55752-0"),
    "technique": ("Procedure Information", "55111-5"),
    "comparison": ("Comparison", "18834-2"),
    "findings": ("Findings", "59776-5"),
    "impression": ("Impression", "19005-8"),
    "recommendation": ("Recommendation", "18783-1"),
}
_OURS: Final = {english.lower(): name for name, (english, _) in SECTIONS.items()} | {
    "history": "clinical_information",
    "indication": "clinical_information",
    "clinical history": "clinical_information",
    "procedure": "technique",
    "technique": "technique",
    "comparisons": "comparison",
    "observations": "findings",
    "conclusion": "impression",
    "recommendations": "recommendation",
    "mô tả": "findings",
    "kết luận": "impression",
    "kỹ thuật": "technique",
    "đề nghị": "recommendation",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="{language}">
<head>
<title>{title}</title>
<meta charset="UTF-8" />
<meta name="dcterms.title" content="{title}" />
<meta name="dcterms.identifier" content="{code}" />
<meta name="dcterms.type" content="IMAGE_REPORT_TEMPLATE" />
<meta name="dcterms.language" content="{language}" />
<script type="text/xml">
{attributes}
</script>
</head>
<body>
{sections}
</body>
</html>
"""
_SECTION: Final = """<section id="{name}" class="level1" data-section-name="{english}">
<header class="level1">{english}</header>
<p><textarea id="{name}_text" name="{english}" data-field-type="TEXTAREA" \
data-field-merge-flag="true">{text}</textarea></p>
</section>"""
_VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})
_BREAKS: Final = frozenset({"br", "p", "div", "li", "tr", "header"})


def export(template: Template) -> str:
    """Return a template as an MRRT document."""
    sections = "\n".join(
        _SECTION.format(name=name, english=english, text=escape(template.sections.get(name, "")))
        for name, (english, _) in SECTIONS.items()
    )
    return _PAGE.format(
        language=escape(template.language),
        title=escape(template.title),
        code=escape(template.code),
        attributes=_attributes(template),
        sections=sections,
    )


def read(page: str) -> Template:
    """Return the template of an MRRT document.

    Raises
    ------
    Invalid
        It has no section, or is larger than a template can be.
    """
    if len(page) > MOST_CHARACTERS:
        raise Invalid(Fault("too_long", "", {"most": MOST_CHARACTERS}))
    reader = _Reader()
    reader.feed(page)
    reader.close()
    if not reader.sections:
        raise Invalid(Fault("not_mrrt"))
    given = reader.given
    language = given.get("language", "").partition("-")[0].lower()
    months = given.get("most_age_months", "")
    return Template(
        code=given.get("identifier") or given.get("title", ""),
        title=given.get("title") or given.get("identifier", ""),
        language=language or "vi",
        service_codes=tuple(filter(None, given.get("service_codes", "").split())),
        modality=given.get("modality", ""),
        sex=given.get("sex", ""),
        least_age_months=_number(given.get("least_age_months", "")) or 0,
        most_age_months=_number(months),
        sections={name: _tidy(text) for name, text in reader.sections.items()},
    )


def _attributes(template: Template) -> str:
    root = Element("template_attributes")
    SubElement(root, "top-level-flag").text = "true"
    SubElement(root, "status").text = "ACTIVE"
    coded = SubElement(root, "coded_content")
    coding = SubElement(coded, "coding_schemes")
    SubElement(coding, "coding_scheme", name="LOINC", designator="2.16.840.1.113883.6.1")
    for name, (english, loinc) in SECTIONS.items():
        entry = SubElement(coded, "entry", ORIGTXT=name)
        term = SubElement(entry, "term", type="section")
        SubElement(term, "code", meaning=english, value=loinc, scheme="LOINC")
    most = template.most_age_months
    SubElement(
        root,
        "lienthong",
        service_codes=" ".join(template.service_codes),
        modality=template.modality,
        sex=template.sex,
        least_age_months=str(template.least_age_months),
        most_age_months="" if most is None else str(most),
    )
    return tostring(root, encoding="unicode")


@dataclass
class _Section:
    name: str
    heading: str
    depth: int
    parts: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects meta data and the text of sections; scripts and styles are not text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.given: dict[str, str] = {}
        self.sections: dict[str, str] = {}
        self._open: list[_Section] = []
        self._depth = 0
        self._skipping = ""
        self._title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where sections begin, and what fields hold already."""
        given = {name: value or "" for name, value in attrs}
        if tag == "meta" and given.get("name", "").lower().startswith("dcterms."):
            self.given[given["name"].lower().removeprefix("dcterms.")] = given.get("content", "")
        elif tag in {"script", "style", "header"}:
            self._skipping = self._skipping or tag
        elif tag == "title":
            self._title = True
        elif tag == "section":
            self._begin(given)
        elif tag == "input" and given.get("type", "text") == "text":
            self._add(given.get("value", ""))
        elif tag in _BREAKS:
            self._add("\n")
        if tag not in _VOID:
            self._depth += 1

    def handle_endtag(self, tag: str) -> None:
        """Note where sections end."""
        if tag in _VOID:
            return
        self._depth -= 1
        if tag == self._skipping:
            self._skipping = ""
        elif tag == "title":
            self._title = False
        elif tag == "section" and self._open:
            self._end()
        elif tag in _BREAKS:
            self._add("\n")

    def handle_data(self, data: str) -> None:
        """Take the text of a section, and our own attributes out of the script."""
        if self._skipping == "script":
            if found := re.search(r"<lienthong ([^>]*)/?>", data):
                told = re.findall(r'([a-z_]+)="([^"]*)"', found[1])
                self.given |= {name: unescape(value) for name, value in told}
            return
        if self._title:
            self.given.setdefault("title", data.strip())
        elif not self._skipping:
            self._add(data)

    def _begin(self, given: dict[str, str]) -> None:
        heading = given.get("data-section-name", given.get("id", ""))
        name = _OURS.get(heading.strip().lower(), "")
        self._open.append(_Section(name, heading, self._depth))

    def _end(self) -> None:
        section = self._open.pop()
        text = "".join(section.parts).strip()
        if not text:
            if section.name:
                self.sections.setdefault(section.name, "")
            return
        outer = next((one.name for one in reversed(self._open) if one.name), "findings")
        name = section.name or outer
        told = text if section.name else f"{section.heading}: {text}"
        self.sections[name] = "\n".join(filter(None, (self.sections.get(name, ""), told)))

    def _add(self, text: str) -> None:
        if self._open and not self._skipping:
            self._open[-1].parts.append(text)


def _tidy(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None  # noqa: PLR2004
