from datetime import UTC, datetime, timedelta

from storage.base.clock import utc_now


def test_instants_are_aware_and_of_now() -> None:
    now = utc_now()

    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
