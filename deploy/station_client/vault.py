"""What a station keeps: one SQLite file, every value encrypted with AES-256-GCM.

The key is made of a passphrase (scrypt, RFC 7914) or lies in a file. A value is bound to the place
where it stands: moved to another row it cannot be read. Plain are only random ids, versions and
times, which name nobody.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from storage.base.errors import Malformed, NotPermitted, StoreUnavailable

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SALT_BYTES: Final = 16
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 1}
_CHECK: Final = "check"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS plain (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reports (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    arrived_at REAL NOT NULL,
    item BLOB NOT NULL,
    text_version INTEGER NOT NULL DEFAULT 0,
    text BLOB,
    paper_sha256 TEXT NOT NULL DEFAULT '',
    paper BLOB,
    confirmed INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS parts (
    sha256 TEXT NOT NULL, start INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (sha256, start)
);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, path TEXT NOT NULL,
    body BLOB NOT NULL, refused TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS arrivals (id TEXT NOT NULL, version INTEGER NOT NULL, at REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One report as this station has it."""

    id: str
    state: str
    version: int
    arrived_at: float
    item: Mapping[str, Any]
    text: Mapping[str, Any] | None
    """None: it has not come yet, or is of an older version."""
    paper_sha256: str
    """Of the paper that is here; '' none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A request that waits to be sent."""

    key: str
    path: str
    body: Mapping[str, Any]
    refused: str
    """Why the server does not take it; '' it was not asked, or is to be asked again."""


class _Database(sqlite3.Connection):
    """A connection whose trouble is ours: a disk that is full, or was pulled out."""

    def execute(self, *given: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as the parent has it
        """Run one statement.

        Raises
        ------
        StoreUnavailable
            The file cannot be read or written now.
        """
        try:
            return super().execute(*given)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"the copy cannot be used: {error}") from error


class Vault:
    """The encrypted copy of one station."""

    def __init__(self, path: Path, secret: str | bytes) -> None:
        """Open or begin a copy; `secret` is a passphrase, or the key itself.

        Raises
        ------
        NotPermitted
            It is not the secret that the copy was begun with.
        StoreUnavailable
            The file cannot be opened, or is none of ours.
        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, factory=_Database)
        except (OSError, sqlite3.DatabaseError) as error:
            raise StoreUnavailable(f"the copy cannot be opened: {error}") from error
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA secure_delete = ON")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            self._database.execute(statement)
        self._cipher = AESGCM(self._key(secret))
        self._require_secret()

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Write all that is written in the block, or nothing."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # a full disk has ended it already
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def get(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return what is kept under a name, None when nothing is."""
        row = self._row("SELECT value FROM known WHERE name = ?", name)
        return self._open(row[0], "known", name) if row else None

    def put(self, name: str, value: Any) -> None:  # noqa: ANN401 - JSON
        """Keep JSON under a name."""
        sealed = self._seal(value, "known", name)
        self._run("INSERT OR REPLACE INTO known VALUES (?, ?)", name, sealed)

    def copies(self) -> Sequence[Copy]:
        """Return every report that is here."""
        rows = self._database.execute(
            "SELECT id, state, version, arrived_at, item, text_version, text, paper_sha256 "
            "FROM reports ORDER BY arrived_at DESC, id"
        ).fetchall()
        return [self._copy(row) for row in rows]

    def keep(self, item: Mapping[str, Any], at: float) -> None:
        """Take an item of the feed; the same one again changes nothing."""
        uid, version, state = str(item["id"]), int(item["version"]), str(item["state"])
        known = self._row("SELECT version, state FROM reports WHERE id = ?", uid)
        if known is None or known[0] != version:
            self._run("INSERT INTO arrivals VALUES (?, ?, ?)", uid, version, at)
        if known is not None and (known[0] != version or state != "released"):
            self._forget_contents(uid)
        sealed = self._seal(item, "item", uid)
        self._run(
            "INSERT INTO reports (id, state, version, arrived_at, item) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET state = excluded.state, version = excluded.version, "
            "item = excluded.item, confirmed = 1, arrived_at = CASE WHEN version = "
            "excluded.version THEN arrived_at ELSE excluded.arrived_at END",
            *(uid, state, version, at, sealed),
        )

    def delete(self, uid: str) -> bool:
        """Delete a copy with all that belongs to it; return whether there was one."""
        self._forget_contents(uid)
        gone = self._database.execute("DELETE FROM reports WHERE id = ?", (uid,))
        return gone.rowcount > 0

    def delete_all(self) -> None:
        """Delete every copy, and what waits to be sent."""
        for table in ("reports", "parts", "outbox", "known", "arrivals"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self._database.execute("VACUUM")

    def doubt(self) -> None:
        """Begin to read the feed anew: what it does not name is none of ours any more."""
        self._database.execute("UPDATE reports SET confirmed = 0")

    def doubtful(self) -> Sequence[str]:
        """Return what the feed did not name since `doubt`."""
        rows = self._database.execute("SELECT id FROM reports WHERE NOT confirmed").fetchall()
        return [row[0] for row in rows]

    def put_text(self, uid: str, version: int, text: Mapping[str, Any]) -> None:
        """Keep the text of a version."""
        sealed = self._seal(text, "text", uid)
        self._run(
            "UPDATE reports SET text = ?, text_version = ? WHERE id = ?", sealed, version, uid
        )

    def put_part(self, sha256: str, start: int, content: bytes) -> None:
        """Keep a piece of a paper that has arrived."""
        place = f"{sha256} {start}"
        self._run(
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)",
            *(sha256, start, self._seal_bytes(content, "part", place)),
        )

    def part(self, sha256: str) -> bytes:
        """Return what has arrived of a paper, from its beginning without a gap."""
        rows = self._database.execute(
            "SELECT start, content FROM parts WHERE sha256 = ? ORDER BY start", (sha256,)
        ).fetchall()
        whole = b""
        for start, sealed in rows:
            if start != len(whole):
                break
            whole += self._open_bytes(sealed, "part", f"{sha256} {start}")
        return whole

    def forget_part(self, sha256: str) -> None:
        """Forget the pieces of a paper."""
        self._run("DELETE FROM parts WHERE sha256 = ?", sha256)

    def put_paper(self, uid: str, sha256: str, content: bytes) -> None:
        """Keep a paper that is whole, instead of its pieces."""
        sealed = self._seal_bytes(content, "paper", uid)
        self._run(
            "UPDATE reports SET paper = ?, paper_sha256 = ? WHERE id = ?", sealed, sha256, uid
        )
        self.forget_part(sha256)

    def paper(self, uid: str) -> bytes | None:
        """Return the paper of a report, None when it is not here."""
        row = self._row("SELECT paper FROM reports WHERE id = ?", uid)
        return self._open_bytes(row[0], "paper", uid) if row and row[0] else None

    def post(self, path: str, body: Mapping[str, Any], key: str = "") -> str:
        """Have a request sent when the line is there; return the key that makes it one."""
        made = key or secrets.token_urlsafe(18)
        sealed = self._seal(body, "outbox", made)
        self._run(
            "INSERT OR IGNORE INTO outbox (key, path, body) VALUES (?, ?, ?)", made, path, sealed
        )
        return made

    def outbox(self) -> Sequence[Letter]:
        """Return what waits to be sent, oldest first, and what the server refused."""
        rows = self._database.execute(
            "SELECT key, path, body, refused FROM outbox ORDER BY number"
        ).fetchall()
        return [
            Letter(key=key, path=path, body=self._open(body, "outbox", key), refused=refused)
            for key, path, body, refused in rows
        ]

    def sent(self, key: str) -> None:
        """Take a request from the outbox."""
        self._run("DELETE FROM outbox WHERE key = ?", key)

    def refuse(self, key: str, why: str) -> None:
        """Leave a request that the server does not take to a person."""
        self._run("UPDATE outbox SET refused = ? WHERE key = ?", why, key)

    def arrivals(self) -> Sequence[tuple[str, int]]:
        """Return which version of which report arrived, in order."""
        rows = self._database.execute("SELECT id, version FROM arrivals ORDER BY rowid").fetchall()
        return [(uid, version) for uid, version in rows]

    def _forget_contents(self, uid: str) -> None:
        row = self._row("SELECT item FROM reports WHERE id = ?", uid)
        paper = (self._open(row[0], "item", uid).get("paper") or {}) if row else {}
        if "sha256" in paper:
            self.forget_part(str(paper["sha256"]))
        self._run(
            "UPDATE reports SET text = NULL, text_version = 0, paper = NULL, paper_sha256 = '' "
            "WHERE id = ?",
            uid,
        )

    def _copy(self, row: Sequence[Any]) -> Copy:
        uid, state, version, arrived_at, item, text_version, text, paper_sha256 = row
        current = text is not None and text_version == version
        return Copy(
            id=uid,
            state=state,
            version=version,
            arrived_at=arrived_at,
            item=self._open(item, "item", uid),
            text=self._open(text, "text", uid) if current else None,
            paper_sha256=paper_sha256,
        )

    def _key(self, secret: str | bytes) -> bytes:
        if isinstance(secret, bytes):
            if len(secret) != KEY_BYTES:
                raise Malformed(f"a key has {KEY_BYTES} bytes")
            return secret
        row = self._row("SELECT value FROM plain WHERE name = 'salt'")
        salt = row[0] if row else secrets.token_bytes(SALT_BYTES)
        self._run("INSERT OR IGNORE INTO plain VALUES ('salt', ?)", salt)
        return Scrypt(salt=salt, length=KEY_BYTES, **_SCRYPT).derive(secret.encode())

    def _require_secret(self) -> None:
        try:
            if self.get(_CHECK) is None:
                self.put(_CHECK, _CHECK)
        except NotPermitted:
            self.close()
            raise

    def _seal(self, value: Any, table: str, name: str) -> bytes:  # noqa: ANN401
        return self._seal_bytes(json.dumps(value).encode(), table, name)

    def _open(self, sealed: bytes, table: str, name: str) -> Any:  # noqa: ANN401
        return json.loads(self._open_bytes(sealed, table, name))

    def _seal_bytes(self, content: bytes, table: str, name: str) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, f"{table} {name}".encode())

    def _open_bytes(self, sealed: bytes, table: str, name: str) -> bytes:
        nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, content, f"{table} {name}".encode())
        except InvalidTag as error:
            raise NotPermitted("the secret is not the one of this copy") from error

    def _row(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - of SQLite
        return self._database.execute(statement, values).fetchone()

    def _run(self, statement: str, *values: object) -> None:
        self._database.execute(statement, values)
