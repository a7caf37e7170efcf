"""A floor to measure against: MLLP to one file, an ``fdatasync`` for each message, AA; no more.

``python -m tests.bench.mllp_sink PORT FOLDER``: nothing is read of a message but its control id,
nothing is found again, nothing is applied. A thread and a file for each connection.
"""

import os
import socket
import sys
import threading
from itertools import count
from pathlib import Path

from tests.bench.placer import END, START


def main() -> None:
    """Serve until killed."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port)) as server:
        for number in count():
            connection, _ = server.accept()
            arguments = (connection, folder / f"{number}")
            threading.Thread(target=_converse, args=arguments, daemon=True).start()


def _converse(connection: socket.socket, path: Path) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    held = b""
    while piece := connection.recv(65536):
        held += piece
        while END in held:
            message, _, held = held.partition(END)
            os.write(file, message)
            os.fdatasync(file)
            control_id = message.split(b"|", 10)[9]
            connection.sendall(START + b"MSH|^~\\&\rMSA|AA|" + control_id + b"\r" + END)
    os.close(file)


if __name__ == "__main__":
    main()
