"""The tables of the conformance statement are those of the code."""

from pathlib import Path
from typing import Final

from pacs import header
from pacs.scp.worklist_keys import ATTRIBUTES, REQUIRED_KEYS, STEP
from ris.keys import vr_of
from ris.worklist import MATCHED

STATEMENT = Path(__file__).parents[2] / "deploy" / "docs" / "conformance" / "dicom.md"
HOW: Final = {"PN": "name", "DA": "date", "TM": "time", "UI": "uid"} | dict.fromkeys(
    ("DS", "IS", "US"), "number"
)


def _row(keyword: str, type_: str) -> str:
    tag, vr = header.tag_of(keyword.rpartition(".")[2]), vr_of(keyword)
    if vr == "SQ":
        how = "its items" if any(one.startswith(f"{keyword}.") for one in MATCHED) else "none"
    else:
        how = HOW.get(vr, "text") if keyword in MATCHED else "none"
    required = " (R)" if keyword in REQUIRED_KEYS else ""
    name = keyword.replace(f"{STEP}.", "> ")
    return f"| {name} | ({tag >> 16:04X},{tag & 0xFFFF:04X}) | {vr} | {how}{required} | {type_} |"


def test_worklist_attributes_are_stated() -> None:
    stated = STATEMENT.read_text(encoding="utf-8")
    section = stated.partition("## Modality Worklist SCP")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]

    assert rows == [_row(*one) for one in ATTRIBUTES.items()]


def test_keys_that_every_scp_has_are_matched() -> None:
    assert REQUIRED_KEYS <= MATCHED
