"""The load generator for orders: an order placer with many connections, in a process of its own.

``python -m tests.bench.placer PORT --orders N --connections N [--per-second N] [--patients N]``

Every message is made and framed before the first one is sent, and every answer is checked. With a
rate the messages are sent by the clock (an open loop): an answer counts from when its message was
due, also where the one before kept the connection busy. Prints one JSON object.
"""

import argparse
import json
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

START: Final = b"\x0b"
END: Final = b"\x1c\r"
_ACCEPTED: Final = b"\rMSA|AA|%s\r"
_ZONE: Final = ZoneInfo("Asia/Ho_Chi_Minh")


@dataclass
class Plan:
    """What is sent, and what came of it."""

    frames: Sequence[tuple[bytes, bytes]]
    """Message in its frame, and its control id."""
    connections: int
    per_second: float
    """0: each connection sends as soon as the answer before is there."""
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def order(run: str, number: int, patients: int) -> tuple[bytes, bytes]:
    """Return one framed ORM^O01 (NW) and its control id.

    `patients` is how many of them the orders go round, 0 for a new one each time.
    """
    person = number % patients if patients else number
    patient = f"K{person:06}" if patients else f"{run}{person:06}"
    name = f"NGUYỄN^VĂN {person % 1000:03}"
    sent = datetime.now(_ZONE).strftime("%Y%m%d%H%M%S")
    control_id = f"{run}{number}"
    placer = f"{run}-{number}"
    lines = (
        f"MSH|^~\\&|HIS|BVDK|RIS|BVDK|{sent}||ORM^O01|{control_id}|P|2.3.1||||||UNICODE UTF-8",
        f"PID|1||{patient}^^^BVDK^PI||{name}||19700101|M|||12 Hàng Bài^^Hà Nội||0900000000",
        f"PV1|1|O|K01^P101^01||||DR1^LÊ^THỊ BÌNH|||||||||||V{patient}",
        f"ORC|NW|{placer}|||||^^^{sent}^^R||{sent}|||BS01^TRẦN^VĂN CƯỜNG|||||KCC^Khoa Cấp cứu",
        f"OBR|1|{placer}||18.0155^Chụp sọ não|||||||||đau đầu|||BS01||||||||CT|||||||R51^Đau đầu",
    )
    body = "\r".join(lines).encode() + b"\r"
    return START + body + END, control_id.encode()


def run(port: int, plan: Plan) -> dict[str, float]:
    """Send everything; return rates per second and milliseconds."""
    sockets = [_connect(port) for _ in range(plan.connections)]
    began = time.monotonic() + 0.05
    threads = [
        threading.Thread(target=_send, args=(plan, index, one, began))
        for index, one in enumerate(sockets)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - began
    for one in sockets:
        one.close()
    if plan.failures:
        raise SystemExit(f"{len(plan.failures)} orders were not taken: {plan.failures[0]}")
    cuts = statistics.quantiles(plan.latencies_s, n=100)
    return {
        "applied_s": len(plan.frames) / taken,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
        "worst_ms": max(plan.latencies_s) * 1000,
    }


def _connect(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _send(plan: Plan, index: int, line: socket.socket, began: float) -> None:
    """Send every message whose turn it is on this connection, one after the other."""
    for number in range(index, len(plan.frames), plan.connections):
        frame, control_id = plan.frames[number]
        due = began + number / plan.per_second if plan.per_second else time.monotonic()
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            line.sendall(frame)
            answer = _receive(line)
        except OSError as error:
            plan.failures.append(str(error))
            return
        plan.latencies_s.append(time.monotonic() - due)
        if _ACCEPTED % control_id not in answer:
            plan.failures.append(answer.decode(errors="replace"))
            return


def _receive(line: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(END):
        piece = line.recv(65536)
        if not piece:
            raise ConnectionAbortedError("closed without an answer")
        answer += piece
    return answer


def main() -> None:
    """Send what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("port", type=int)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--per-second", type=float, default=0)
    parser.add_argument("--patients", type=int, default=0)
    asked = parser.parse_args()
    name = f"{time.time_ns() // 1_000_000 % 10**9:X}"  # other numbers than any run before
    frames = [order(name, number, asked.patients) for number in range(asked.orders)]
    measured = run(asked.port, Plan(frames, asked.connections, asked.per_second))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
