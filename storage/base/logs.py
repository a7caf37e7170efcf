"""Logs: one constant event and facts beside it, never what is known of a patient.

``log.info("instance_stored", extra={"sop_instance_uid": uid})``. Only the facts in
`FACTS` are written; the names of others stand in `dropped`. What libraries say is
written when the library is in `_TRUSTED`, else only that it spoke: their texts
quote values. For the same reason a trace shows where an error came from, and its
text only when it is an error of ours or of the operating system.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

from storage.base.errors import ImagingError

FACTS: Final = frozenset(
    """
    abstract_syntax accession_number action address ae_title association associations attempt
    backlog bytes called_ae_title caller calling_ae_title completed count destination detail
    device_serial_number duration_ms duration_s event_type exit_code failed failure fault folder
    forced frames free_bytes held host http_status instances job kind lag_ms limit manufacturer
    message_control_id message_id method mode model object_key operation origin outcome path pause_s
    peer pid port protection quarantined query_level reason received record records refused
    remaining request_id restarts retry_in_s
    role_name route scheme seconds series_instance_uid service setting signal size sop_class_uid
    sop_instance_uid source_ae_title stage state status stored study_instance_uid tag timeout_s
    token_prefix total transaction_uid transfer_syntax_uid url_host verb verdict version warning
    wire worker workers
    """.split()  # noqa: SIM905 - a hundred quotes read worse
)

_OURS: Final = frozenset({"storage", "ris", "pacs", "viewer_api", "deploy", "__main__"})
_TRUSTED: Final = frozenset({"uvicorn", "alembic", "asyncio", "concurrent"})
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET: Final = ("pynetdicom", "pydicom", "urllib3", "alembic", "uvicorn.access")

_MAX_CAUSES: Final = 8

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound_facts", default={})  # noqa: B039


@contextmanager
def bound(**facts: object) -> Iterator[None]:
    """Write `facts` beside every event of this thread while the block lasts."""
    token = _bound.set({**_bound.get(), **facts})
    try:
        yield
    finally:
        _bound.reset(token)


def configure(level: str, format_: Literal["auto", "json", "text"], role: str) -> None:
    """Send every log record of this process to standard error, and uncaught errors too.

    `auto` is text for a person at a terminal and JSON for whatever else reads it.
    """
    text = sys.stderr.isatty() if format_ == "auto" else format_ == "text"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(role) if text else JsonFormatter(role))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def entry(record: logging.LogRecord, role: str) -> dict[str, object]:
    """Return what may be written of `record`, in the order of reading."""
    given = {name: value for name, value in vars(record).items() if name not in _PLAIN}
    facts = {**_bound.get(), **given}
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    lines: dict[str, object] = {"time": time, "level": record.levelname, "role": role}
    lines |= {"event": _event(record), "logger": record.name}
    lines |= {name: value for name, value in facts.items() if name in FACTS}
    dropped = sorted(facts.keys() - FACTS)
    if dropped and _library(record) in _OURS:
        lines["dropped"] = dropped
    if record.exc_info and record.exc_info[1] is not None:
        lines["trace"] = trace(record.exc_info[1])
    return lines


def trace(error: BaseException) -> str:
    """Return the stack of `error` and of its causes, with no text that may quote a value."""
    return "\n-- then --\n".join(_told(link) for link in reversed(_chain(error)))


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain and len(chain) < _MAX_CAUSES:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def _told(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if isinstance(error, ImagingError | OSError) else ""
    return f"{frames}{type(error).__module__}.{type(error).__qualname__}{said}"


class JsonFormatter(logging.Formatter):
    """One JSON object on one line; everything outside printable ASCII is escaped."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        return json.dumps(entry(record, self._role), default=str)


class TextFormatter(JsonFormatter):
    """For a terminal: ``12:00:00.000 INFO api event key=value``, the trace on lines below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; control characters in it are escaped."""
        lines = entry(record, self._role)
        below = f"\n{lines.pop('trace')}" if "trace" in lines else ""
        time, level, role, event, _logger = (str(lines.pop(name)) for name in _HEAD)
        facts = " ".join(f"{name}={_printable(value)}" for name, value in lines.items())
        head = f"{time[11:23]} {level:7} {role} {_printable(event)}"
        return f"{head} {facts}".rstrip() + below


_HEAD: Final = ("time", "level", "role", "event", "logger")


def _printable(value: object) -> str:
    shown = str(value)
    if shown.isprintable():
        return shown
    return json.dumps(shown)


def _event(record: logging.LogRecord) -> str:
    trusted = _library(record) in _OURS | _TRUSTED
    return record.getMessage() if trusted else "library_message"


def _library(record: logging.LogRecord) -> str:
    return record.name.partition(".")[0]


def _uncaught(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, frames)
        return
    logging.getLogger(__name__).critical("uncaught_exception", exc_info=error)


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None:
        logging.getLogger(__name__).critical("uncaught_exception", exc_info=given.exc_value)
