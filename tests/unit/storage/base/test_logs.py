import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from storage.base import logs
from storage.base.errors import StoreUnavailable

Line = dict[str, object]


def written(
    name: str, event: str, extra: dict[str, object] | None = None, error: Exception | None = None
) -> Line:
    record = logging.getLogger(name).makeRecord(
        name,
        logging.INFO,
        "file.py",
        1,
        event,
        (),
        (type(error), error, None) if error else None,
        extra=extra,
    )
    line: Line = json.loads(logs.JsonFormatter("api").format(record))
    return line


def raised(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - the test wants it with its traceback
        return error
    raise AssertionError("nothing was raised")


def test_line_has_time_level_role_event_and_facts() -> None:
    line = written("storage.spool", "sealed", {"size": 5, "peer": "CT01"})

    assert str(line.pop("time")).endswith("+00:00")
    assert line == {
        "level": "INFO", "role": "api", "event": "sealed", "logger": "storage.spool",
        "size": 5, "peer": "CT01",
    }  # fmt: skip


def test_unknown_facts_are_dropped_and_only_named() -> None:
    line = written("pacs.ingest", "stored", {"patient_name": "NGUYỄN VĂN AN", "size": 1})

    assert "NGUY" not in json.dumps(line, ensure_ascii=False)
    assert line["dropped"] == ["patient_name"]


def test_fixed_fields_cannot_be_overwritten_by_facts() -> None:
    line = written("storage.spool", "sealed", {"level": "X", "role": "X", "event": "X"})

    assert (line["level"], line["role"], line["event"]) == ("INFO", "api", "sealed")


def test_words_of_libraries_that_quote_values_are_withheld() -> None:
    assert written("pydicom", "Invalid value 'NGUYEN'")["event"] == "library_message"
    assert written("py.warnings", "NGUYEN")["event"] == "library_message"
    assert written("uvicorn.error", "Started")["event"] == "Started"


@pytest.mark.parametrize("hostile", ["a\nb", "a\r\n{}", "\x1b[31m", "\x9b31m", "\u2028", "\ud800"])
@pytest.mark.parametrize("formatter", [logs.JsonFormatter, logs.TextFormatter])
def test_hostile_values_stay_on_one_printable_line(
    hostile: str, formatter: type[logs.JsonFormatter]
) -> None:
    record = logging.makeLogRecord({"name": "storage", "msg": hostile, "peer": hostile})

    line = formatter("api").format(record)

    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_trace_names_the_place_but_repeats_no_value() -> None:
    line = written("pacs.x", "failed", error=raised(lambda: int("NGUYEN VAN AN")))

    assert "builtins.ValueError" in str(line["trace"])
    assert "test_logs.py" in str(line["trace"])
    assert "invalid literal" not in str(line["trace"])


def test_trace_shows_our_own_errors_with_their_cause() -> None:
    def act() -> None:
        try:
            int("NGUYEN VAN AN")
        except ValueError as error:
            raise StoreUnavailable("spool is full") from error

    trace = logs.trace(raised(act))

    assert trace.index("ValueError") < trace.index("storage.base.errors.StoreUnavailable: spool")


def test_error_that_causes_itself_is_told_once() -> None:
    error = ValueError()
    error.__cause__ = error

    assert logs.trace(error).count("ValueError") == 1


def test_bound_facts_stand_beside_every_event_of_the_block() -> None:
    with logs.bound(peer="CT01"), logs.bound(message_id=7):
        inside = written("pacs.scp", "store")
    outside = written("pacs.scp", "store")

    assert (inside["peer"], inside["message_id"]) == ("CT01", 7)
    assert "peer" not in outside


PROGRAM = """
import logging, sys, threading, warnings
from storage.base import logs
logs.configure("INFO", sys.argv[1], "worker")
log = logging.getLogger("storage")
log.info("started", extra={"port": 1})
log.debug("unseen")
warnings.warn("NGUYEN")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
raise RuntimeError("NGUYEN")
"""


def run(format_: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, format_],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "NGUYEN" not in done.stderr.replace('raise RuntimeError("NGUYEN")', "")
    return done.stderr.splitlines()


def test_process_writes_one_object_a_line_uncaught_errors_too() -> None:
    lines = [json.loads(line) for line in run("json")]

    assert [line["event"] for line in lines] == [
        "started", "library_message", "uncaught_exception", "uncaught_exception",
    ]  # fmt: skip
    assert {line["role"] for line in lines} == {"worker"}
    assert "ZeroDivisionError" in lines[2]["trace"]


def test_text_for_a_terminal_has_the_facts_behind_the_event() -> None:
    first, *_ = run("text")

    assert first.endswith("INFO    worker started port=1")


@pytest.mark.parametrize("terminal", [True, False])
def test_automatic_is_text_on_a_terminal_and_json_elsewhere(terminal: bool) -> None:
    read_end, write_end = pty.openpty() if terminal else os.pipe()

    subprocess.run(
        [sys.executable, "-c", PROGRAM, "auto"], stderr=write_end, check=False, timeout=30
    )
    os.close(write_end)

    first = os.read(read_end, 1 << 16).splitlines()[0]
    os.close(read_end)
    assert first.startswith(b"{") is not terminal
    assert b"started" in first
