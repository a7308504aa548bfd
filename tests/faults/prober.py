"""Asks for /health twenty times a second, from a process of its own: threads of a crowd of clients
would be waited for, and not the server.

``python -m tests.faults.prober PORT`` asks until its standard input ends, then prints the seconds
that each answer took, as JSON.
"""

import http.client
import subprocess
import sys
import threading
from time import monotonic
from types import TracebackType
from typing import Self

import msgspec

EVERY_S = 0.05
_LIMIT_S = 60


class Prober:
    """A context manager; afterwards it has what was found."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.took_s: list[float] = []
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", "-m", __name__, str(self._port)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        told, _ = self._process.communicate(timeout=2 * _LIMIT_S)
        self.took_s, self.wrong = msgspec.json.decode(told, type=tuple[list[float], list[str]])


def _probe(port: int, over: threading.Event) -> tuple[list[float], list[str]]:
    took_s: list[float] = []
    wrong: list[str] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)
    while not over.wait(EVERY_S):
        started = monotonic()
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            wrong.append(repr(error))
            connection.close()
            continue
        if response.status != 200:
            wrong.append(f"status {response.status}")
        took_s.append(monotonic() - started)
    connection.close()
    return took_s, wrong


def main() -> None:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    sys.stdout.write(msgspec.json.encode(_probe(int(sys.argv[1]), over)).decode())


if __name__ == "__main__":
    main()
