from pathlib import Path

import pytest

from ris.hl7 import destinations
from ris.hl7.destinations import Style
from storage.base.errors import Malformed


def test_options_change_the_usual_style() -> None:
    assert destinations.style_of({}) == Style()
    assert destinations.style_of(
        {"version": "2.5.1", "message": "OMG", "senders": "his, his-b", "statuses": ["IP", "CM"]}
    ) == Style(version="2.5.1", message="OMG", senders=("his", "his-b"), statuses=("IP", "CM"))
    assert destinations.style_of({"tls": "yes", "answer_s": "5", "reject_tries": 3}) == Style(
        tls=True, answer_s=5.0, reject_tries=3
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"versoin": "2.4"}, "no option 'versoin'"),
        ({"version": "2.2"}, "option version: one of"),
        ({"message": "OMI"}, "option message: one of"),
        ({"message": "OMG"}, "came with version 2.5"),
        ({"charset": "klingon"}, "option charset"),
        ({"answer_s": "0"}, "option answer_s"),
        ({"answer_s": "long"}, "option answer_s: float is wanted"),
        ({"reject_tries": 0}, "option reject_tries"),
        ({"tls": "perhaps"}, "option tls: true or false"),
        ({"tls_ca": "/nowhere/ca.pem"}, "there is no file /nowhere/ca.pem"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_option_that_cannot_be_is_refused_by_name(options: dict[str, object], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        destinations.style_of(options)


def test_authority_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")

    assert destinations.style_of({"tls_ca": str(tmp_path / "ca.pem")}).tls_ca
