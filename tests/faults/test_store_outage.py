"""R07: the S3 store dies under ingest; nobody is refused, nothing is lost, the backlog drains.

``LIENTHONG_TEST_OUTAGE_S`` sets for how long (the suite's default is short; 60 for a release).
"""

import os
import time
from pathlib import Path

import pytest

from tests.fixtures import ledger
from tests.fixtures.ledger import Ledger
from tests.fixtures.objects import SeaweedFS
from tests.fixtures.serving import Serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OUTAGE_S = float(os.environ.get("LIENTHONG_TEST_OUTAGE_S", "10"))


def test_an_outage_of_the_store_is_not_noticed_by_senders(
    tmp_path: Path, own_seaweedfs: SeaweedFS
) -> None:
    settings = {"LIENTHONG_OBJECTS_URL": own_seaweedfs.url("outage"), "LIENTHONG_SETTLE_S": "1"}
    server = Serving(tmp_path, settings)
    server.start()

    try:
        with ledger.sending(server.dicom_port, tmp_path, senders=2):
            ledger.await_answers(tmp_path, more=20)
            own_seaweedfs.kill()
            time.sleep(OUTAGE_S)
            ledger.await_answers(tmp_path, more=20)
            own_seaweedfs.start()
            ledger.await_answers(tmp_path, more=20)
        written = Ledger.read(tmp_path)
        with server.client() as client:
            found = ledger.verify(client, written, within_s=120)
        drained_s = _drained(tmp_path / "data" / "spool")
    finally:
        server.stop()

    print(
        f"store away {OUTAGE_S:.0f} s: answered {len(written.answered)}, found {found}, "
        f"refused {len(written.refused)}, spool empty {drained_s:.1f} s later"
    )
    assert not written.refused


def _drained(spool: Path) -> float:
    started = time.monotonic()
    while [path for path in spool.rglob("*") if path.suffix in {".dcm", ".open", ".pack"}]:
        assert time.monotonic() - started < 120, "the spool does not drain"
        time.sleep(0.1)
    return time.monotonic() - started
