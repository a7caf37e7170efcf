from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone

from storage.audit import chain
from storage.audit.model import CODES, INDICATORS, Entry, Kind, Outcome

AT = datetime(2026, 11, 26, 1, 2, 3, 4, UTC)


def content(**changed: object) -> bytes:
    values = {**asdict(Entry(kind=Kind.VIEW, actor="BS. Đỗ")), "recorded_at": AT}
    return chain.content_sha256({**values, **changed})


def test_the_same_entry_has_the_same_hash_in_every_time_zone() -> None:
    local = AT.astimezone(timezone(timedelta(hours=7)))

    assert content(recorded_at=local) == content()


def test_every_column_is_vouched_for() -> None:
    hashes = {content(**{name: "khác"}) for name in asdict(Entry(kind=Kind.VIEW))}

    assert len(hashes) == len(asdict(Entry(kind=Kind.VIEW)))
    assert content() not in hashes


def test_every_kind_and_outcome_has_a_code_of_dicom() -> None:
    assert {*CODES} == {*Kind}
    assert {*INDICATORS} == {*Outcome}
    assert {one.action for one in CODES.values()} <= {*"CRUDE"}
