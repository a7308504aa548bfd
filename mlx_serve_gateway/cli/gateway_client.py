"""Asking a running gateway how it is, over HTTP and within a time limit.

Invariants: whatever listens there, an answer or a ``NoAnswer`` comes within twice the limit, and
its size is bounded.
"""

import http.client
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 2.0
# The server first finishes what was asked of the model.
_DELETE_S = 60.0
_MAX_BYTES = 1 << 20


class NoAnswer(Exception):
    """Nothing that a gateway would say came back; ``refused``: nothing even listens."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class WorkerReport(msgspec.Struct, frozen=True):
    """One worker of the detailed report; a gateway of another version may say less or more."""

    model: str
    kind: str = ""
    pid: int | None = None
    state: str = ""
    in_flight: int = 0
    queued: int = 0
    restarts: int = 0
    expires_in_s: float | None = None
    device: str | None = None
    memory_bytes: int | None = None
    error: str | None = None


class _Loaded(msgspec.Struct):
    models: list[dict[str, object]]


class HealthReport(msgspec.Struct, frozen=True):
    """What a gateway says about itself, with the workers where it was willing to tell."""

    status: str
    instance: str
    pid: int | None = None
    version: str = ""
    uptime_s: float = 0
    workers: list[WorkerReport] | None = None
    problems: list[str] = []


def health(base_url: str, timeout_s: float = TIMEOUT_S) -> HealthReport:
    """The short report, or NoAnswer."""
    return read_report(_get(base_url, "/health", timeout_s)[1])


def health_detail(base_url: str, timeout_s: float = TIMEOUT_S) -> msgspec.Raw:
    """The detailed report, as JSON, or NoAnswer; the short one where the details are kept back."""
    status, body = _get(base_url, "/health/detail", timeout_s)
    if status in (401, 403, 404):
        status, body = _get(base_url, "/health", timeout_s)
    read_report(body)
    return msgspec.Raw(body)


def loaded_models(base_url: str, timeout_s: float = TIMEOUT_S) -> list[dict[str, object]]:
    """What ``GET /api/ps`` lists, or NoAnswer."""
    status, body = _get(base_url, "/api/ps", timeout_s)
    try:
        return msgspec.json.decode(body, type=_Loaded).models
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NoAnswer(f"it does not tell what is loaded (status {status})") from None


def delete_model(base_url: str, model: str) -> tuple[int, bytes]:
    """Ask for the removal of an installed model; status and body, or NoAnswer."""
    body = msgspec.json.encode({"model": model})
    return _ask(base_url, "DELETE", "/api/delete", _DELETE_S, body)


def read_report(body: bytes | msgspec.Raw) -> HealthReport:
    try:
        return msgspec.json.decode(body, type=HealthReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NoAnswer("what answers there is no mlx-serve") from None


def _get(base_url: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    return _ask(base_url, "GET", path, timeout_s)


def _ask(
    base_url: str, method: str, path: str, timeout_s: float, body: bytes | None = None
) -> tuple[int, bytes]:
    connection = _connection(base_url, timeout_s)
    try:
        connection.connect()
    except ConnectionRefusedError:
        raise NoAnswer("nothing listens there", refused=True) from None
    except OSError as error:
        raise NoAnswer(f"no connection: {error.strerror or error}") from None
    # The timeout of the socket counts from byte to byte: one byte a second would never end.
    deadline = threading.Timer(timeout_s, _cut, [connection.sock])
    deadline.daemon = True
    deadline.start()
    try:
        connection.request(method, path, body, headers={"Connection": "close"})
        with connection.getresponse() as response:
            return response.status, response.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException):
        raise NoAnswer(f"no answer within {timeout_s:g} s") from None
    finally:
        deadline.cancel()
        connection.close()


def _connection(base_url: str, timeout_s: float) -> http.client.HTTPConnection:
    wrong = NoAnswer(f"{base_url} is not an address like http://127.0.0.1:8000")
    kinds: dict[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    try:
        parts = urlsplit(base_url)
        if not parts.hostname:
            raise wrong
        return kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s)
    except (KeyError, ValueError):
        raise wrong from None


def _cut(channel: socket.socket) -> None:
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)
