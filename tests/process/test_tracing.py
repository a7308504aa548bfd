"""Spans, as a collector gets them from a real server."""

import http.client
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time_ns

import pytest

from mlx_serve_common.models import ModelKind
from tests.process.collector import Collector
from tests.process.gateways import SOURCE, Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "a-secret-of-somebody"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@contextmanager
def traced(
    short_dir: Path, store: ModelStore, *, answers: bool = True, **env: str
) -> Iterator[tuple[Gateway, Collector]]:
    with (
        Collector(answers=answers) as collector,
        Gateway(
            short_dir, store, None, **SOON, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **env
        ) as gateway,
    ):
        yield gateway, collector


def test_a_request_is_one_span_with_its_waiting_and_computing_below(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("a", step_s=0.2)
    with traced(short_dir, store) as (gateway, collector):
        before = time_ns()
        gateway.assert_serves("a")
        until(lambda: len(collector.spans) == 3)

        (root,) = collector.roots()
        assert root.name == "POST /v1/embeddings"
        assert root.parent == ""
        assert root.attributes == {
            "http.request.method": "POST",
            "http.route": "/v1/embeddings",
            "http.response.status_code": 200,
        }
        assert before <= root.start_ns < root.end_ns
        assert not root.is_error
        queue, inference = sorted(collector.below(root), key=lambda span: span.start_ns)
        assert (queue.name, inference.name) == ("queue", "inference")
        assert {span.trace for span in collector.spans} == {root.trace}
        for child in (queue, inference):
            assert child.attributes == {"mlx_serve.model": "a"}
            assert root.start_ns <= child.start_ns <= child.end_ns <= root.end_ns
        assert queue.end_ns == inference.start_ns
        assert inference.end_ns - inference.start_ns >= 0.2e9
        assert collector.resource["service.name"] == "mlx-serve"
        assert f"[trace {root.trace}]" not in gateway.log()  # at INFO nothing is said of a 200


def test_the_trace_of_the_caller_goes_on(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with traced(short_dir, store) as (gateway, collector):
        told = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        gateway.post({"model": "a", "input": "x"}, told)
        until(lambda: collector.roots())
        (root,) = collector.roots()
        assert (root.trace, root.parent) == (TRACE, PARENT)

        # Who does not keep his own trace does not want ours.
        gateway.post({"model": "a", "input": "x"}, {"traceparent": f"00-{TRACE}-{PARENT}-00"})
        gateway.post({"model": "a", "input": "x"}, {"traceparent": "00-nonsense"})
        until(lambda: len(collector.roots()) == 2)
        assert collector.roots()[1].parent == ""


def test_a_failed_request_is_found_in_the_log_by_its_trace(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("dies", crash_at_load=True)
    with traced(short_dir, store) as (gateway, collector):
        assert gateway.embed("nobody", "x").status == 404
        failed = gateway.embed("dies", "x").status
        assert failed >= 500
        until(lambda: len(collector.roots()) == 2)
        missing, dead = collector.roots()
        assert missing.attributes["http.response.status_code"] == 404
        assert not missing.is_error
        assert dead.is_error
        assert dead.attributes["error.type"] == str(failed)
        assert [span.name for span in collector.below(dead)] == ["queue"]
        for span in (missing, dead):
            assert f"[trace {span.trace}]" in gateway.log()


def test_a_stream_ends_before_its_span(short_dir: Path, store: ModelStore) -> None:
    store.add("c", ModelKind.CHAT)
    body = b'{"model":"c","messages":[{"role":"user","content":"hi"}],"stream":true}'
    with traced(short_dir, store) as (gateway, collector):
        assert b"[DONE]" in gateway.ask("POST", "/v1/chat/completions", body).body
        until(lambda: collector.roots())
        (root,) = collector.roots()
        assert root.name == "POST /v1/chat/completions"
        assert sorted(span.name for span in collector.below(root)) == ["inference", "queue"]


def test_spans_hold_nothing_of_what_clients_write(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with traced(short_dir, store) as (gateway, collector):
        headers = {
            "x-request-id": SECRET, "user-agent": SECRET, "authorization": f"Bearer {SECRET}",
            "tracestate": f"a={SECRET}", "baggage": f"a={SECRET}",
        }  # fmt: skip
        gateway.post({"model": "a", "input": SECRET}, headers)
        gateway.post({"model": SECRET, "input": SECRET}, headers)
        gateway.ask("GET", f"/{SECRET}?{SECRET}={SECRET}")
        gateway.ask("GET", f"/v1/models/{SECRET}")
        gateway.ask(SECRET.upper(), "/v1/models")
        for path in ("/metrics", "/health", "/livez", "/readyz"):
            gateway.ask("GET", path)
        until(lambda: len(collector.roots()) == 5)
        assert SECRET.encode().lower() not in collector.received.lower()
        assert {span.name for span in collector.roots()} == {
            "POST /v1/embeddings", "GET other", "GET /v1/models/{}", "_OTHER /v1/models",
        }  # fmt: skip


def test_what_is_left_is_sent_at_the_end(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with Collector() as collector:
        endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces"}
        service = {"OTEL_SERVICE_NAME": "mine", "OTEL_BSP_SCHEDULE_DELAY": "100000"}
        with Gateway(short_dir, store, None, **endpoint, **service) as gateway:
            gateway.assert_serves("a")
        assert len(collector.spans) == 3
        assert collector.resource["service.name"] == "mine"


def test_a_collector_that_is_stuck_holds_up_nobody(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with traced(short_dir, store, answers=False) as (gateway, _):
        for _ in range(3):
            gateway.assert_serves("a")
        started = monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert monotonic() - started < 6


def test_no_collector_costs_a_line_in_the_log(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with Gateway(
        short_dir, store, None, **SOON, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9"
    ) as here:
        here.assert_serves("a")
        until(lambda: "export" in here.log())


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "URL"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_SDK_DISABLED": "TRUE"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "not grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "is wrong"),
    ],
)
def test_nothing_is_sent_unless_it_is_wanted(
    short_dir: Path, store: ModelStore, env: dict[str, str], said: str
) -> None:
    store.add("a")
    with Collector() as collector:
        given = {name: text.replace("URL", collector.url) for name, text in env.items()}
        with Gateway(short_dir, store, None, **SOON, **given) as gateway:
            gateway.assert_serves("a")
        assert collector.received == b""
        lines = [line for line in gateway.log().splitlines() if "traced" in line]
        assert len(lines) == bool(said)
        assert said in "".join(lines)


def test_without_the_extra_a_server_serves_and_says_what_is_missing(
    short_dir: Path, store: ModelStore
) -> None:
    package = short_dir / "stand-in" / "opentelemetry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not installed')")
    store.add("a")
    with traced(short_dir, store, PYTHONPATH=f"{package.parent}:{SOURCE}") as (gateway, _):
        gateway.assert_serves("a")
        assert "opentelemetry-exporter-otlp-proto-http is not installed" in gateway.log()


def test_a_client_that_leaves_is_told_apart(short_dir: Path, store: ModelStore) -> None:
    store.add("slow", step_s=30)
    with traced(short_dir, store) as (gateway, collector):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
        connection.request("POST", "/v1/embeddings", b'{"model":"slow","input":"x"}')
        until(lambda: gateway.waiting() == 1)
        connection.close()
        until(lambda: collector.roots())
        (root,) = collector.roots()
        assert root.attributes["http.response.status_code"] == 499
        assert not root.is_error
