"""The archives that are measured side by side: ours, Orthanc and DCMTK's storescp."""

import json
import os
import re
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

START_S = 60.0
_PROGRAM = (sys.executable, "-m", "deploy.cli")
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


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
    http_port: int = 0
    headers: Callable[[], Mapping[str, str]] = dict
    """What an HTTP request must say to be let in."""
    receiver: str = ""
    """A word in the command line of the processes that receive; empty: all of them do."""
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
        log = (self.folder / "archive.log").open("wb")
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
                self.__exit__()
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


def lienthong(folder: Path, name: str = "Lienthong") -> Archive:
    """Ours, on the embedded defaults; `folder` may have been used before."""
    dicom, http = free_port(), free_port()
    environment = {
        "LIENTHONG_DATA_DIR": str(folder / "data"),
        "LIENTHONG_DICOM_PORT": str(dicom),
        "LIENTHONG_HTTP_PORT": str(http),
        "LIENTHONG_VIEWER_PORT": "0",
        "LIENTHONG_HL7_PORT": str(free_port()),
        "LIENTHONG_LOG_LEVEL": "WARNING",
    }
    secret: list[str] = []

    def headers() -> Mapping[str, str]:
        if not secret:
            fetch(f"http://127.0.0.1:{http}/health/ready")
            secret.append(command(environment, "token", "create", "--role", "admin"))
        return {"Authorization": f"Bearer {secret[0]}"}

    def count() -> int:
        url = f"http://127.0.0.1:{http}/dicom-web/studies?PatientID=BENCH&limit=1000"
        studies = fetch(url, {**headers(), "Accept": "application/dicom+json"})
        return sum(study["00201208"]["Value"][0] for study in studies or ())

    serve = [*_PROGRAM, "serve"]
    return Archive(
        name,
        "LIENTHONG",
        serve,
        folder,
        dicom,
        environment,
        count,
        http,
        headers=headers,
        receiver="deploy.roles dicom",
    )


def command(environment: Mapping[str, str], *arguments: str) -> str:
    """Run our command line on the data folder that `environment` names; return what it prints."""
    made = subprocess.run(
        [*_PROGRAM, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def orthanc(
    folder: Path, *, dicomweb: bool = False, destination: tuple[str, int] | None = None
) -> Archive | None:
    """Orthanc as Debian packages it, on its defaults (it syncs); plugins only with `dicomweb`.

    `destination` is the AE title and port of the one that it may C-MOVE to.
    """
    program = programs.find("Orthanc")
    if program is None or (dicomweb and not _PLUGIN.exists()):
        return None
    dicom, http = free_port(), free_port()
    configuration: dict[str, object] = {
        "Name": "ORTHANC",
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomCheckCalledAet": False,
    }
    if dicomweb:
        configuration["Plugins"] = [str(_PLUGIN)]
    if destination:
        title, port = destination
        configuration["DicomModalities"] = {"destination": [title, "127.0.0.1", port]}
    (folder / "orthanc.json").write_text(json.dumps(configuration))

    def count() -> int:
        return int(fetch(f"http://127.0.0.1:{http}/statistics")["CountInstances"])

    # Without TCP_NODELAY its answers meet the sender's delayed acknowledgement: 44 ms each.
    return Archive(
        "Orthanc",
        "ORTHANC",
        [program, str(folder / "orthanc.json")],
        folder,
        dicom,
        {"TCP_NODELAY": "1"},
        count,
        http,
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


def fetch(
    url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Any:  # JSON of a shape the caller knows
    """Return the JSON that a GET gives, or a POST of `body`."""
    request = urllib.request.Request(url, body, dict(headers or {}))
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def versions() -> str:
    """Name the versions of the others that are installed."""
    found = [
        _version(name, option)
        for name, option in (("Orthanc", "--version"), ("storescp", "--version"))
        if programs.find(name)
    ]
    if _PLUGIN.exists():
        found.append(f"DICOMweb plugin {_PLUGIN.resolve().name.partition('.so.')[2]}")
    return ", ".join(found)


def _version(name: str, option: str) -> str:
    said = subprocess.run(
        [str(programs.find(name)), option], capture_output=True, text=True, check=False
    )
    number = re.search(r"[0-9]+(\.[0-9]+)+", said.stdout + said.stderr)
    return f"{name} {number[0] if number else '?'}"


def made(name: str, make: Callable[[Path], Archive | None], scratch: Path) -> Archive | None:
    """Make an archive on a folder of its own; say it loudly when its program is not installed."""
    folder = scratch / name
    folder.mkdir()
    archive = make(folder)
    if archive is None:
        print(f"!!! LEFT OUT: {name} is not installed !!!")
    return archive
