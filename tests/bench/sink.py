"""A floor to measure against: TCP to file, one file and one ``fdatasync`` each, nothing else.

``python -m tests.bench.sink PORT FOLDER``: eight bytes of length (big endian), that many bytes,
answered with one dot when they are on the disk. A thread for each connection.
"""

import os
import socket
import sys
import threading
from itertools import count
from pathlib import Path

CHUNK = 256 * 1024


def main() -> None:
    """Serve until killed."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port)) as server:
        for number in count():
            connection, _ = server.accept()
            arguments = (connection, folder, number)
            threading.Thread(target=_receive, args=arguments, daemon=True).start()


def _receive(connection: socket.socket, folder: Path, number: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(CHUNK))
    for object_number in count():
        head = connection.recv(8, socket.MSG_WAITALL)
        if len(head) < 8:
            return
        file = os.open(folder / f"{number}-{object_number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        left = int.from_bytes(head, "big")
        while left:
            got = connection.recv_into(buffer[: min(left, CHUNK)])
            if not got:
                return
            os.write(file, buffer[:got])
            left -= got
        os.fdatasync(file)
        os.close(file)
        connection.sendall(b".")


if __name__ == "__main__":
    main()
