"""Spans by OpenTelemetry's SDK, sent over OTLP/HTTP from a thread of its own.

A request has one span of the kind SERVER, and below it for each thing that a model was asked one of
its waiting and one of its computing. Invariant: names and attributes are routes, methods, numbers
and names of installed models, never what a client has written.
"""

import threading
from time import monotonic, time_ns

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from mlx_serve_common import VERSION
from mlx_serve_gateway.tracing import TraceParent, Work, Works

_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
_CLOSE_S = 2.0


class OpenTelemetryTracing:
    """Raises ``ValueError`` if the SDK cannot read its variables."""

    def __init__(self) -> None:
        named = Resource({"service.name": "mlx-serve", "service.version": VERSION})
        resource = Resource.create().merge(named).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("mlx_serve", VERSION)

    def begin(self, method: str, parent: TraceParent | None) -> "OpenTelemetrySpan":
        within = _remote(parent) if parent is not None else Context()
        return OpenTelemetrySpan(self._tracer, method if method in _METHODS else "_OTHER", within)

    def close(self) -> None:
        # A collector that does not answer must not hold up the end of the server.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)


class OpenTelemetrySpan:
    def __init__(self, tracer: Tracer, method: str, within: Context) -> None:
        self._tracer = tracer
        self._method = method
        self._started, self._started_ns = monotonic(), time_ns()
        self._span = tracer.start_span(
            method,
            within,
            SpanKind.SERVER,
            {"http.request.method": method},
            start_time=self._started_ns,
        )
        self.trace_id = f"{self._span.get_span_context().trace_id:032x}"
        self.works = Works()

    def end(self, endpoint: str, status: int) -> None:
        span = self._span
        if span.is_recording():
            span.update_name(f"{self._method} {endpoint}")
            span.set_attribute("http.route", endpoint)
            _set_outcome(span, status)
            within = set_span_in_context(span)
            for work in self.works.all:
                self._tell(work, within)
        span.end(self._at(monotonic()))

    def _tell(self, work: Work, within: Context) -> None:
        sent_at = work.sent_at or work.ended_at
        self._child("queue", work.model, work.asked_at, sent_at, within)
        if work.sent_at is not None:
            self._child("inference", work.model, sent_at, work.ended_at, within)

    def _child(self, name: str, model: str, start: float, end: float, within: Context) -> None:
        span = self._tracer.start_span(
            name, within, attributes={"mlx_serve.model": model}, start_time=self._at(start)
        )
        span.end(self._at(end))

    def _at(self, moment: float) -> int:
        """From the monotonic clock to the one that spans are told in."""
        return self._started_ns + round((moment - self._started) * 1e9)


def _set_outcome(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))


def _remote(parent: TraceParent) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(parent.trace, 16), int(parent.span, 16), True, flags)
    return set_span_in_context(NonRecordingSpan(context))
