"""The archives that are measured side by side: ours, Orthanc and DCMTK's storescp."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.fixtures import programs

START_S = 30.0


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Archive:
    """One running archive: where it takes associations, and how many instances it can find."""

    name: str
    ae_title: str
    command: Sequence[str]
    folder: Path
    dicom_port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    count: Callable[[], int] | None = None
    """Instances that a query finds now; None when the program has no index."""
    raw: bool = False
    """Takes length-prefixed bytes and not DICOM."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the tree's root."""
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        """Start it and wait until its DICOM port answers."""
        log = (self.folder / f"{self.name}.log").open("wb")
        self.process = subprocess.Popen(
            self.command,
            stdout=log,
            stderr=log,
            env={**os.environ, **self.environment},
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: see {log.name}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it by its process id, with everything that it started."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.dicom_port), 1).close()
            if self.count is not None:
                self.count()
        except OSError:
            return False
        return True


def lienthong(folder: Path) -> Archive:
    """Ours, on the embedded defaults."""
    dicom, http = free_port(), free_port()
    environment = {
        "LIENTHONG_DATA_DIR": str(folder / "data"),
        "LIENTHONG_DICOM_PORT": str(dicom),
        "LIENTHONG_HTTP_PORT": str(http),
        "LIENTHONG_LOG_LEVEL": "WARNING",
    }
    program = str(Path(sys.executable).with_name("lienthong"))
    secret: list[str] = []

    def count() -> int:
        if not secret:
            _fetch(f"http://127.0.0.1:{http}/health/ready", {})
            made = subprocess.run(
                [program, "token", "create", "--role", "admin"],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            )
            secret.append(made.stdout.strip())
        studies = _fetch(
            f"http://127.0.0.1:{http}/dicom-web/studies?PatientID=BENCH&limit=1000",
            {"Authorization": f"Bearer {secret[0]}", "Accept": "application/dicom+json"},
        )
        return sum(study["00201208"]["Value"][0] for study in studies or ())

    return Archive("Lienthong", "LIENTHONG", [program, "serve"], folder, dicom, environment, count)


def orthanc(folder: Path) -> Archive | None:
    """Orthanc as Debian packages it, on its defaults (it syncs), without plugins."""
    program = programs.find("Orthanc")
    if program is None:
        return None
    dicom, http = free_port(), free_port()
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "Name": "ORTHANC",
                "DicomAet": "ORTHANC",
                "DicomPort": dicom,
                "HttpPort": http,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "StorageDirectory": str(folder / "orthanc"),
                "IndexDirectory": str(folder / "orthanc"),
                "DicomAlwaysAllowStore": True,
                "DicomCheckCalledAet": False,
            }
        )
    )

    def count() -> int:
        return int(_fetch(f"http://127.0.0.1:{http}/statistics", {})["CountInstances"])

    # Without TCP_NODELAY its answers meet the sender's delayed acknowledgement: 44 ms each.
    return Archive(
        "Orthanc",
        "ORTHANC",
        [program, str(folder / "orthanc.json")],
        folder,
        dicom,
        {"TCP_NODELAY": "1"},
        count,
    )


def storescp(folder: Path) -> Archive | None:
    """DCMTK's receiver: files only, no index, no fsync. A floor, not a rival."""
    program = programs.find("storescp")
    if program is None:
        return None
    port = free_port()
    (folder / "storescp").mkdir()
    return Archive(
        "storescp",
        "STORESCP",
        [program, "--fork", "-od", str(folder / "storescp"), "-aet", "STORESCP", str(port)],
        folder,
        port,
        {"TCP_NODELAY": "1"},
    )


def sink(folder: Path) -> Archive:
    """Raw TCP to files with an fsync each: what the machine gives. No rival either."""
    port = free_port()
    (folder / "sink").mkdir()
    return Archive(
        "raw sink",
        "",
        [sys.executable, "-m", "tests.bench.sink", str(port), str(folder / "sink")],
        folder,
        port,
        raw=True,
    )


def _fetch(url: str, headers: Mapping[str, str]) -> Any:  # JSON of a shape the caller knows
    request = urllib.request.Request(url, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")
