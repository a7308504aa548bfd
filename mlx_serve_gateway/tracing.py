"""Whether requests are traced, and what is remembered of one that is.

Invariant: OpenTelemetry is imported only where it is installed and was told where to send spans;
without it a request costs one look at a variable.
"""

import logging
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import NamedTuple, Protocol

log = logging.getLogger(__name__)

_MOST_WORKS = 32
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_PACKAGE = "opentelemetry-exporter-otlp-proto-http"


class TraceParent(NamedTuple):
    """The span of the caller, in hexadecimal digits."""

    trace: str
    span: str
    is_sampled: bool


class Work(NamedTuple):
    """What a model was asked for a request; times are of the monotonic clock."""

    model: str
    asked_at: float
    sent_at: float | None
    """When the first of it was given to the worker."""
    ended_at: float


class Works:
    """Of one request; of very many only the first."""

    def __init__(self) -> None:
        self.all: list[Work] = []

    def add(self, work: Work) -> None:
        if len(self.all) < _MOST_WORKS:
            self.all.append(work)


works: ContextVar[Works | None] = ContextVar("works", default=None)
"""Of the request that is being served, if it is traced."""


class RequestSpan(Protocol):
    trace_id: str
    works: Works

    def end(self, endpoint: str, status: int) -> None: ...


class Tracing(Protocol):
    def begin(self, method: str, parent: TraceParent | None) -> RequestSpan: ...

    def close(self) -> None:
        """Send what is left, for a moment at most."""


def tracing_from(environ: Mapping[str, str]) -> Tracing | None:
    """As OpenTelemetry's own variables want it."""
    endpoint = _first(environ, _ENDPOINTS)
    if endpoint is None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    if (protocol := _first(environ, _PROTOCOLS) or _PROTOCOL) != _PROTOCOL:
        log.warning("requests are not traced: spans are sent by %s, not %s", _PROTOCOL, protocol)
        return None
    try:
        from mlx_serve_gateway.opentelemetry_tracing import OpenTelemetryTracing

        tracing = OpenTelemetryTracing()
    except ImportError:
        log.warning("requests are not traced: %s is not installed (the extra [otel])", _PACKAGE)
        return None
    except ValueError as error:
        log.warning("requests are not traced: a variable OTEL_… is wrong: %s", error)
        return None
    log.info("requests are traced")
    return tracing


def _first(environ: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)
