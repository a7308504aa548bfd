"""A client of a model that nothing is done to: whatever happens elsewhere, it must not notice."""

import http.client
import threading
from time import monotonic
from types import TracebackType
from typing import Any, Self

import msgspec

from mlx_serve_worker.backends.fake import vector
from tests.process.gateways import LIMIT_S, Gateway

MODEL = "canary"
EVERY_S = 0.1
LONGEST_S = 2.0


class Canary:
    """A context manager: sings until it is left."""

    def __init__(self, gateway: Gateway) -> None:
        self.answers = 0
        self.complaints: list[str] = []
        self.longest_s = 0.0
        self._gateway = gateway
        self._over = threading.Event()
        self._voice = threading.Lock()
        self._thread = threading.Thread(target=self._sing, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(LIMIT_S)

    def silent(self) -> threading.Lock:
        """A context manager: while the server itself stands still."""
        return self._voice

    def check(self) -> None:
        assert self._thread.is_alive()
        assert self.complaints == []
        assert self.longest_s <= LONGEST_S

    def _sing(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=LIMIT_S)
        number = 0
        while not self._over.wait(EVERY_S):
            number += 1
            with self._voice:
                started = monotonic()
                try:
                    self._tweet(connection, f"tweet {number}")
                except (OSError, http.client.HTTPException) as error:
                    self.complaints.append(repr(error))
                    connection.close()
                self.longest_s = max(self.longest_s, monotonic() - started)
        connection.close()

    def _tweet(self, connection: http.client.HTTPConnection, text: str) -> None:
        body = msgspec.json.encode({"model": MODEL, "input": text})
        connection.request("POST", "/v1/embeddings", body)
        response = connection.getresponse()
        content = response.read()
        self.answers += 1
        if response.status != 200 or _vector(content) != vector(text):
            self.complaints.append(f"{response.status} {content[:200]!r}")


def _vector(content: bytes) -> Any:
    return msgspec.json.decode(content)["data"][0]["embedding"]
