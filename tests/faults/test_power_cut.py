"""R02: the power fails in the middle of ingest; what was answered is there afterwards.

Database, spool and objects lie on an ext4 file system of their own, which is shut down
without a flush (``EXT4_IOC_SHUTDOWN``) under four senders; then everything is killed and
the file system mounted again. ``LIENTHONG_TEST_POWER_CUTS`` sets how often (20 for a release).
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.spool import Spool
from tests.fixtures import ledger
from tests.fixtures.disks import MortalDisk
from tests.fixtures.ledger import Ledger
from tests.fixtures.serving import Serving, freeze

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3000)]

CUTS = int(os.environ.get("LIENTHONG_TEST_POWER_CUTS", "3"))
SENDERS = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MortalDisk]:
    made = MortalDisk(tmp_path / "disk.img", tmp_path / "disk", megabytes=4096)
    yield made
    made.destroy()


def test_what_was_answered_survives_power_cuts(tmp_path: Path, disk: MortalDisk) -> None:
    server = Serving(tmp_path, {"LIENTHONG_DATA_DIR": str(disk.folder / "data")})
    server.start()
    moments = random.Random(20261124)
    restarts = []

    try:
        with ledger.sending(server.dicom_port, tmp_path, SENDERS):
            for _ in range(CUTS):
                ledger.await_answers(tmp_path, more=40)
                time.sleep(moments.uniform(0, 1.5))
                everybody = server.tree()
                # Who could go on would be told of flushes that reach no disk any more (ext4 counts
                # one as done when another one committed its blocks), and would answer.
                freeze(everybody)
                disk.cut_power()
                server.kill(everybody)
                disk.unmount()
                disk.mount()
                restarts.append(server.start())
            ledger.await_answers(tmp_path, more=4)
        written = Ledger.read(tmp_path)
        with server.client() as client:
            found = ledger.verify(client, written)
    finally:
        server.stop()

    print(
        f"power cuts {CUTS}, tried {len(written.tried)}, answered {len(written.answered)}, "
        f"found {found}, ready again after at most {max(restarts):.2f} s"
    )
    assert not list((disk.folder / "data" / "spool").rglob("*.part"))
    disk.unmount()
    disk.check()


def test_this_power_cut_loses_what_was_not_flushed(disk: MortalDisk) -> None:
    """Else the test above would prove nothing."""
    spool = Spool(disk.folder / "spool")
    with spool.incoming(b"head") as incoming:
        incoming.write(b"kept")
    with (disk.folder / "spool" / "unflushed").open("wb") as file:
        file.write(b"lost")

    disk.cut_power()
    with pytest.raises(OSError, match="Input/output error"):
        (disk.folder / "later").touch()
    disk.unmount()
    disk.mount()

    [record] = Spool(disk.folder / "spool").sealed(10)
    assert record.path.read_bytes() == b"headkept"
    unflushed = disk.folder / "spool" / "unflushed"
    assert not unflushed.exists() or unflushed.read_bytes() == b""
