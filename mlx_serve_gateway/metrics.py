"""What has happened, counted for Prometheus: requests, and what the pool tells.

Invariants: labels are bounded: an endpoint is a route of ours, a model one that is installed, and
beyond ``MOST_MODELS`` of these ``other``; whoever counts disturbs nobody.
"""

import platform
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from mlx_serve_common import VERSION
from mlx_serve_common.chat import Finish
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import Embedded, Result, Scored
from mlx_serve_gateway.server_events import Died, Event, Left, Loaded

MOST_MODELS = 200

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BYTES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_EVICTED = {"evicted", "idle"}

# Without this each series has a second one that says when it was made.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """A ``Meter``, and what counts requests and events."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: set[str] = set()

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"mlx_serve_{name}", help, labels, registry=self.registry)

        def histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            name = f"mlx_serve_{name}"
            return Histogram(name, help, labels, registry=self.registry, buckets=buckets)

        self._requests = counter("requests", "Requests answered", "endpoint", "status")
        self._duration = histogram(
            "request_duration_seconds", "From request to end of answer", _SECONDS, "endpoint"
        )
        self._size = histogram("request_size_bytes", "Size of request bodies", _BYTES, "endpoint")
        self._load = histogram("model_load_seconds", "Loading a model", _LOAD_SECONDS, "model")
        self._inference = histogram(
            "model_inference_seconds", "Computing one micro-batch", _SECONDS, "model"
        )
        self._batch = histogram("batch_size", "Inputs of one micro-batch", _ITEMS, "endpoint")
        self._wait = histogram(
            "queue_wait_seconds",
            "From request to its first input in the worker",
            _SECONDS,
            "model",
        )
        self._hits = counter("cache_hits", "Requests that found their model loaded", "type")
        self._misses = counter("cache_misses", "Requests that did not", "type")
        self._evictions = counter(
            "cache_evictions", "Models unloaded for room or for not being used", "type"
        )
        self._tokens = counter(
            "tokens",
            "Tokens: of inputs, of those known from earlier prompts, of answers, and padding",
            "model",
            "kind",
        )
        self._inputs = counter("inputs", "Inputs computed", "model")
        self._truncated = counter("truncated_inputs", "Inputs cut to fit their model", "model")
        self._first = histogram(
            "time_to_first_token_seconds", "From request to first word", _SECONDS, "model"
        )
        self._next = histogram(
            "inter_token_seconds", "Between two pieces of an answer", _SECONDS, "model"
        )
        self._model_duration = histogram(
            "model_request_duration_seconds", "From request to its end", _SECONDS, "model"
        )
        self._restarts = counter(
            "worker_restarts", "Workers that ended by themselves", "model", "reason"
        )
        build = Gauge(
            "mlx_serve_build_info", "Version of the server", ["version", "python"],
            registry=self.registry,
        )  # fmt: skip
        build.labels(VERSION, platform.python_version()).set(1)
        # Finding a child by its labels costs more than counting with it.
        self._child = lru_cache(maxsize=4096)(_child)

    def request(self, endpoint: str, status: int, seconds: float, size: int) -> None:
        self._child(self._requests, endpoint, str(status)).inc()
        self._child(self._duration, endpoint).observe(seconds)
        self._child(self._size, endpoint).observe(size)

    def tell(self, event: Event) -> None:
        match event:
            case Loaded():
                self._child(self._load, self._label(event.model)).observe(event.load_s)
            case Left() if event.reason in _EVICTED:
                self._child(self._evictions, event.kind.value).inc()
            case Died():
                self._child(self._restarts, self._label(event.model), event.reason).inc()
            case _:
                pass

    # --- of a model's work -----------------------------------------------------------------------

    def leased(self, model: InstalledModel, *, was_loaded: bool) -> None:
        self._child(self._hits if was_loaded else self._misses, model.kind.value).inc()

    def waited(self, model: InstalledModel, seconds: float) -> None:
        self._child(self._wait, self._label(model.name)).observe(seconds)

    def computed(self, model: InstalledModel, result: Result) -> None:
        if not isinstance(result, Embedded | Scored):
            return
        label, counts = self._label(model.name), result.token_counts
        endpoint = "/v1/embeddings" if isinstance(result, Embedded) else "/v1/rerank"
        self._child(self._batch, endpoint).observe(len(counts))
        self._child(self._inference, label).observe(result.compute_s)
        self._child(self._inputs, label).inc(len(counts))
        self._child(self._tokens, label, "input").inc(sum(counts))
        self._child(self._tokens, label, "padding").inc(max(counts) * len(counts) - sum(counts))
        if result.truncated:
            self._child(self._truncated, label).inc(len(result.truncated))

    def said(self, model: InstalledModel, seconds: float, *, is_first: bool) -> None:
        kind = self._first if is_first else self._next
        self._child(kind, self._label(model.name)).observe(seconds)

    def answered(self, model: InstalledModel, finish: Finish) -> None:
        label = self._label(model.name)
        self._child(self._tokens, label, "input").inc(finish.prompt_tokens)
        self._child(self._tokens, label, "cached").inc(finish.cached_tokens)
        self._child(self._tokens, label, "output").inc(finish.completion_tokens)

    def ended(self, model: InstalledModel, seconds: float) -> None:
        self._child(self._model_duration, self._label(model.name)).observe(seconds)

    def _label(self, model: str) -> str:
        if model in self._models:
            return model
        if len(self._models) >= MOST_MODELS:
            return "other"
        self._models.add(model)
        return model


def _child(metric: Counter | Histogram, *labels: str):  # type: ignore[no-untyped-def]
    return metric.labels(*labels)
