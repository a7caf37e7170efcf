"""The installed build of OHIF: which files there are and how long a browser may keep them.

DATA_DIR/viewer/ohif-3.13.2/index.html, app.bundle.0f61….js, app.bundle.0f61….js.gz, …
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = "3.13.2"
INDEX: Final = "index.html"
PACKED: Final = ".gz"

# What OHIF is made of; other kinds are not served.
TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "woff2": "font/woff2",
}

_HASHED: Final = re.compile(r"(?:^|[./])[0-9a-f]{16}\.")
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class File:
    """One file of the build."""

    path: Path
    media_type: str
    packed: Path | None
    """The same, gzipped; None: it would not be smaller."""
    lasting: bool
    """Its name changes whenever its content does."""


@dataclass(frozen=True, slots=True)
class Build:
    """The files by path below the root, and the hashes of the scripts inside the index."""

    files: Mapping[str, File]
    inline_scripts: tuple[str, ...]
    """As a Content-Security-Policy names them."""

    @property
    def index(self) -> File:
        """The page that every path of the viewer's own leads to."""
        return self.files[INDEX]


def folder(viewer_dir: Path) -> Path:
    """Return where this version is installed."""
    return viewer_dir / f"ohif-{VERSION}"


def find(viewer_dir: Path) -> Build | None:
    """Return the installed build, None when there is none of this version."""
    root = folder(viewer_dir)
    if not (root / INDEX).is_file():
        return None
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    files = {name: _file(root, name) for name in names if name.rpartition(".")[2] in TYPES}
    page = (root / INDEX).read_text(encoding="utf-8")
    hashes = (hashlib.sha256(text.encode()).digest() for text in _INLINE.findall(page))
    return Build(files, tuple(f"'sha256-{base64.b64encode(one).decode()}'" for one in hashes))


def _file(root: Path, name: str) -> File:
    packed = root / f"{name}{PACKED}"
    return File(
        path=root / name,
        media_type=TYPES[name.rpartition(".")[2]],
        packed=packed if packed.is_file() else None,
        lasting=_HASHED.search(name) is not None,
    )
