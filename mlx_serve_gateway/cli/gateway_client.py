"""What a gateway says of itself: how it is, which models are loaded.

Invariants: a report is what a gateway of any version would say, or a ``NoAnswer`` is raised.
"""

import msgspec

from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.cli.gateway_connection import TIMEOUT_S, Answer, Gateway, NoAnswer, ask

# The server first finishes what was asked of the model.
_DELETE_S = 60.0


class LoadReport(msgspec.Struct, frozen=True):
    stage: str
    done: float | None = None
    still_s: float = 0


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
    load: LoadReport | None = None
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
    return read_report(ask(Gateway(base_url), "GET", "/health", timeout_s=timeout_s).body)


def health_detail(
    base_url: str, timeout_s: float = TIMEOUT_S, *, key: str | None = None
) -> msgspec.Raw:
    """The detailed report, as JSON, or NoAnswer; the short one where the details are kept back."""
    gateway = Gateway(base_url, key)
    status, body = ask(gateway, "GET", "/health/detail", timeout_s=timeout_s)
    if status in (401, 403, 404):
        status, body = ask(gateway, "GET", "/health", timeout_s=timeout_s)
    read_report(body)
    return msgspec.Raw(body)


def loaded_models(gateway: Gateway) -> list[dict[str, object]]:
    """What ``GET /api/ps`` lists, or NoAnswer."""
    status, body = ask(gateway, "GET", "/api/ps")
    try:
        return msgspec.json.decode(body, type=_Loaded).models
    except UNDECODABLE:
        raise NoAnswer(f"it does not tell what is loaded (status {status})") from None


def delete_model(gateway: Gateway, model: str) -> Answer:
    """Ask for the removal of an installed model; status and body, or NoAnswer."""
    body = msgspec.json.encode({"model": model})
    return ask(gateway, "DELETE", "/api/delete", body, timeout_s=_DELETE_S)


def read_report(body: bytes | msgspec.Raw) -> HealthReport:
    try:
        return msgspec.json.decode(body, type=HealthReport)
    except UNDECODABLE:
        raise NoAnswer("what answers there is no mlx-serve") from None


class Refusal(msgspec.Struct, frozen=True):
    message: str
    code: str = ""


class _Envelope(msgspec.Struct):
    """An error in OpenAI's form, or in Ollama's."""

    error: Refusal | str
    code: str = ""


def read_refusal(body: bytes) -> Refusal:
    """Why a gateway does not do what it was asked."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except UNDECODABLE:
        return Refusal("it does not say why")
    if isinstance(envelope.error, str):
        return Refusal(envelope.error, envelope.code)
    return envelope.error
