"""What has happened, counted for Prometheus: requests, and what the pool tells.

Invariants: labels are bounded: an endpoint is a route of ours, a model one that is installed, and
beyond ``MOST_MODELS`` of these ``other``; whoever counts disturbs nobody.
"""

import platform
from collections.abc import Callable
from functools import partial

from mlx_serve_common import VERSION
from mlx_serve_common.chat import Finish
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import Embedded, Result, Scored
from mlx_serve_gateway.exposition import Counter, Family, Histogram, S, reading
from mlx_serve_gateway.server_events import Died, Event, Left, Loaded

MOST_MODELS = 200

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BYTES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_EVICTED = {"evicted", "idle"}


class Metrics:
    """A ``Meter``, and what counts requests and events."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], str]] = []
        self._models: set[str] = set()

        def counter(name: str, help: str, *labels: str) -> Family[Counter]:
            name = f"mlx_serve_{name}_total"
            return self._shown(Family(name, help, "counter", labels, Counter))

        def histogram(
            name: str, help: str, bounds: tuple[float, ...], *labels: str
        ) -> Family[Histogram]:
            make = partial(Histogram, bounds)
            return self._shown(Family(f"mlx_serve_{name}", help, "histogram", labels, make))

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
        version = {"version": VERSION, "python": platform.python_version()}
        build = reading("mlx_serve_build_info", "Version of the server", [(version, 1)])
        self.show(lambda: build)

    def show(self, source: Callable[[], str]) -> None:
        """Have what it says of this moment in the text as well."""
        self._sources.append(source)

    def text(self) -> str:
        """All of it, as Prometheus reads it."""
        return "".join([source() for source in self._sources])

    def _shown(self, family: Family[S]) -> Family[S]:
        self.show(family.text)
        return family

    def request(self, endpoint: str, status: int, seconds: float, size: int) -> None:
        self._requests.of(endpoint, str(status)).inc()
        self._duration.of(endpoint).observe(seconds)
        self._size.of(endpoint).observe(size)

    def tell(self, event: Event) -> None:
        match event:
            case Loaded():
                self._load.of(self._label(event.model)).observe(event.load_s)
            case Left() if event.reason in _EVICTED:
                self._evictions.of(event.kind.value).inc()
            case Died():
                self._restarts.of(self._label(event.model), event.reason).inc()
            case _:
                pass

    # --- of a model's work -----------------------------------------------------------------------

    def leased(self, model: InstalledModel, *, was_loaded: bool) -> None:
        (self._hits if was_loaded else self._misses).of(model.kind.value).inc()

    def waited(self, model: InstalledModel, seconds: float) -> None:
        self._wait.of(self._label(model.name)).observe(seconds)

    def computed(self, model: InstalledModel, result: Result) -> None:
        if not isinstance(result, Embedded | Scored):
            return
        label, counts = self._label(model.name), result.token_counts
        endpoint = "/v1/embeddings" if isinstance(result, Embedded) else "/v1/rerank"
        self._batch.of(endpoint).observe(len(counts))
        self._inference.of(label).observe(result.compute_s)
        self._inputs.of(label).inc(len(counts))
        self._tokens.of(label, "input").inc(sum(counts))
        self._tokens.of(label, "padding").inc(max(counts) * len(counts) - sum(counts))
        if result.truncated:
            self._truncated.of(label).inc(len(result.truncated))

    def said(self, model: InstalledModel, seconds: float, *, is_first: bool) -> None:
        kind = self._first if is_first else self._next
        kind.of(self._label(model.name)).observe(seconds)

    def answered(self, model: InstalledModel, finish: Finish) -> None:
        label = self._label(model.name)
        self._tokens.of(label, "input").inc(finish.prompt_tokens)
        self._tokens.of(label, "cached").inc(finish.cached_tokens)
        self._tokens.of(label, "output").inc(finish.completion_tokens)

    def ended(self, model: InstalledModel, seconds: float) -> None:
        self._model_duration.of(self._label(model.name)).observe(seconds)

    def _label(self, model: str) -> str:
        if model in self._models:
            return model
        if len(self._models) >= MOST_MODELS:
            return "other"
        self._models.add(model)
        return model
