"""HTTP connections with a time-out that fits a slow line.

urllib3 gives the connect time-out to the sending of a request as well, and for the whole
body at once: 8 MiB in 3 s would be asked of every line. Here connecting must be quick, and
each slice of a body, like each read, has the longer time-out of its own.
"""

import os
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

CONNECT_TIMEOUT_S: Final = 3.0
_SLICE: Final = 256 << 10


class _Connection(HTTPConnection):
    def connect(self) -> None:
        patient, self.timeout = self.timeout, CONNECT_TIMEOUT_S
        try:
            super().connect()
        finally:
            self.timeout = patient
        self.sock.settimeout(patient)

    def send(self, data: Any) -> None:  # noqa: ANN401 (its parent's signature)
        if not isinstance(data, bytes):
            super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _SLICE):
            super().send(view[start : start + _SLICE])


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def pools(timeout_s: float, connections: int) -> PoolManager:
    """Return connection pools that verify certificates and try nothing twice.

    Parameters
    ----------
    timeout_s
        For each read, and for each slice of a body that is sent.
    connections
        How many of them to a host are kept open.
    """
    manager = PoolManager(
        timeout=Timeout(connect=timeout_s, read=timeout_s),
        maxsize=connections,
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE"),
    )
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager
