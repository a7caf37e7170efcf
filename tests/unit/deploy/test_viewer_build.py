import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy import viewer_build
from deploy.viewer_build import NoNpm
from storage.base.errors import Conflict, PeerUnavailable
from viewer_api.viewer import build

SCRIPT = b"console.log('a viewer');\n" * 200
INDEX = b"""<!doctype html><script>window.PUBLIC_URL="/"</script>
<link rel="manifest" href="/manifest.json"><link rel="apple-touch-icon" href="/assets/apple.png">
<script src="/app-config.js"></script><script type="module" src="/init-service-worker.js"></script>
<script defer src="/app.bundle.0f6159c501addfe9.js"></script>
<link href="/app.bundle.css" rel="stylesheet">"""
FILES = {
    "package/dist/index.html": INDEX,
    "package/dist/app.bundle.0f6159c501addfe9.js": SCRIPT,
    "package/dist/app.bundle.css": b"a{}",
    "package/dist/0ddf166f7a343eda.wasm": bytes(range(256)) * 8,
    "package/dist/manifest.json": b"{}",
    "package/dist/assets/images/CT-Bone.png": b"png",
    "package/dist/assets/apple.png": b"png",
    "package/dist/app-config.js": b"theirs",
    "package/dist/init-service-worker.js": b"a worker",
    "package/dist/ort/model.wasm": bytes(1000),
    "package/dist/../../escaped.css": b"out",
    "package/package.json": b"{}",
    "/etc/absolute.css": b"out",
}


def package(folder: Path, files: Mapping[str, bytes] = FILES) -> tuple[Path, str]:
    """Return a package with those files, and its integrity."""
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("package/dist/link.css")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    digest = hashlib.sha512(path.read_bytes()).digest()
    return path, f"sha512-{base64.b64encode(digest).decode()}"


def names(folder: Path) -> set[str]:
    return {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}


def test_what_the_viewer_loads_is_kept_and_nothing_else(tmp_path: Path) -> None:
    folder = viewer_build.install(tmp_path / "viewer", *package(tmp_path))

    assert folder == build.folder(tmp_path / "viewer")
    assert {name for name in names(folder) if not name.endswith(".gz")} == {
        "index.html",
        "app.bundle.0f6159c501addfe9.js",
        "app.bundle.css",
        "0ddf166f7a343eda.wasm",
        "manifest.json",
        "assets/images/CT-Bone.png",
    }
    assert not (tmp_path / "escaped.css").exists()
    assert not Path("/etc/absolute.css").exists()


def test_page_asks_for_nothing_that_is_not_kept(tmp_path: Path) -> None:
    folder = viewer_build.install(tmp_path / "viewer", *package(tmp_path))

    page = (folder / "index.html").read_text()
    assert "apple" not in page
    assert "service-worker" not in page
    for kept in ("manifest.json", "app-config.js", "app.bundle.0f6159c501addfe9.js", "css"):
        assert kept in page


def test_file_is_packed_where_that_helps(tmp_path: Path) -> None:
    folder = viewer_build.install(tmp_path / "viewer", *package(tmp_path))

    found = build.find(tmp_path / "viewer")
    assert found is not None
    packed = found.files["app.bundle.0f6159c501addfe9.js"].packed
    assert packed is not None
    assert gzip.decompress(packed.read_bytes()) == SCRIPT
    assert found.files["app.bundle.css"].packed is None
    assert found.files["assets/images/CT-Bone.png"].packed is None
    assert not any(name.endswith(".gz") for name in found.files)
    assert folder.joinpath("app.bundle.css").read_bytes() == b"a{}"


def test_scripts_inside_the_page_are_known_by_their_hash(tmp_path: Path) -> None:
    viewer_build.install(tmp_path / "viewer", *package(tmp_path))

    found = build.find(tmp_path / "viewer")

    digest = base64.b64encode(hashlib.sha256(b'window.PUBLIC_URL="/"').digest()).decode()
    assert found is not None
    assert found.inline_scripts == (f"'sha256-{digest}'",)


def test_only_names_with_a_hash_last(tmp_path: Path) -> None:
    viewer_build.install(tmp_path / "viewer", *package(tmp_path))

    found = build.find(tmp_path / "viewer")

    assert found is not None
    assert {name for name, file in found.files.items() if file.lasting} == {
        "app.bundle.0f6159c501addfe9.js",
        "0ddf166f7a343eda.wasm",
    }


def test_other_package_than_the_known_one_is_refused(tmp_path: Path) -> None:
    path, _ = package(tmp_path)

    with pytest.raises(Conflict, match=r"package\.tgz is not @ohif/app@"):
        viewer_build.install(tmp_path / "viewer", path)

    assert build.find(tmp_path / "viewer") is None
    assert names(tmp_path / "viewer") == set()


def test_absent_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="No such file"):
        viewer_build.install(tmp_path / "viewer", tmp_path / "nothing.tgz")


def test_installed_viewer_is_left_as_it_is_and_older_ones_go(tmp_path: Path) -> None:
    older = tmp_path / "viewer" / "ohif-3.0.0"
    older.mkdir(parents=True)
    folder = viewer_build.install(tmp_path / "viewer", *package(tmp_path))
    (folder / "mark").write_text("")

    assert viewer_build.install(tmp_path / "viewer", tmp_path / "nothing.tgz") == folder

    assert (folder / "mark").exists()
    assert not older.exists()


def test_installation_that_was_cut_is_begun_anew(tmp_path: Path) -> None:
    half = build.folder(tmp_path / "viewer")
    half.mkdir(parents=True)
    (half / "stale.css").write_text("")
    assert build.find(tmp_path / "viewer") is None

    viewer_build.install(tmp_path / "viewer", *package(tmp_path))

    assert build.find(tmp_path / "viewer") is not None
    assert not (half / "stale.css").exists()


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoNpm, match="lienthong viewer install --from FILE"):
        viewer_build.install(tmp_path / "viewer")


def test_npm_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network unreachable' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(PeerUnavailable, match="network unreachable"):
        viewer_build.install(tmp_path / "viewer")
