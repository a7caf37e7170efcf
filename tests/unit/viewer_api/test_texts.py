import re
from datetime import date

import pytest

from storage.access.passwords import Fault
from storage.access.tokens import Role
from viewer_api import pages, texts
from viewer_api.texts import TEXTS, Language

VI, EN = TEXTS[Language.VI], TEXTS[Language.EN]


def test_both_languages_say_everything() -> None:
    assert VI.keys() == EN.keys()
    assert VI.keys() == set(VI)
    assert all(text.strip() for text in (*VI.values(), *EN.values()))


@pytest.mark.parametrize("key", sorted(VI))
def test_both_languages_name_the_same_values(key: str) -> None:
    values = [sorted(re.findall(r"\{(\w+)\}", table[key])) for table in (VI, EN)]

    assert values[0] == values[1]


def test_every_text_that_a_template_or_page_names_is_there() -> None:
    sources = [*(pages.FOLDER / "templates").glob("*.html"), *(pages.FOLDER / "web").glob("*.py")]
    named = {
        key for source in sources for key in re.findall(r'say\("([a-z_]+)"[,)]', source.read_text())
    }

    assert len(named) > 40
    assert named <= VI.keys()


def test_roles_and_faults_have_their_words() -> None:
    assert {f"role_{role}" for role in Role if role is not Role.STATION} <= VI.keys()
    assert {f"password_{fault}" for fault in Fault} <= VI.keys()


@pytest.mark.parametrize(
    ("tag", "language"), [("en", "en"), ("vi", "vi"), ("fr", "vi"), ("", "vi")]
)
def test_unknown_language_is_vietnamese(tag: str, language: str) -> None:
    assert texts.language(tag) == language


def test_dates_are_written_as_people_do() -> None:
    assert texts.day(Language.VI, date(2026, 1, 2)) == "02/01/2026"
    assert texts.day(Language.EN, date(2026, 1, 2)) == "02 Jan 2026"
