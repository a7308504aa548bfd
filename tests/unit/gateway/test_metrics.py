"""What Prometheus is told: exact counts under exact names, and labels that nobody can multiply."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlx_serve_common.chat import Finish
from mlx_serve_common.models import InstalledModel, Manifest, ModelKind
from mlx_serve_common.wire import Embedded, Scored, Tokenized
from mlx_serve_gateway.metrics import MOST_MODELS, Metrics
from mlx_serve_gateway.server_events import Died, Left, Loaded, Refused

EMBEDDING, RERANKER, CHAT = ModelKind.EMBEDDING, ModelKind.RERANKER, ModelKind.CHAT


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def model(name: str, kind: ModelKind = EMBEDDING) -> InstalledModel:
    return InstalledModel(Manifest(name=name, kind=kind, architecture="", created_at=""), Path())


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def test_requests_are_counted_by_endpoint_and_status(metrics: Metrics) -> None:
    for status in (200, 200, 429):
        metrics.request("/v1/embeddings", status, 0.02, 100)
    seen = samples(metrics)
    assert seen["mlx_serve_requests_total", "/v1/embeddings", "200"] == 2
    assert seen["mlx_serve_requests_total", "/v1/embeddings", "429"] == 1
    assert seen["mlx_serve_request_duration_seconds_count", "/v1/embeddings"] == 3
    assert seen["mlx_serve_request_duration_seconds_bucket", "/v1/embeddings", "0.01"] == 0
    assert seen["mlx_serve_request_duration_seconds_bucket", "/v1/embeddings", "0.025"] == 3
    assert seen["mlx_serve_request_size_bytes_sum", "/v1/embeddings"] == 300


def test_a_micro_batch_is_counted_with_its_padding(metrics: Metrics) -> None:
    result = Embedded([1, 2, 3], [b"", b"", b""], [5, 8, 3], [2], 0.5)
    metrics.computed(model("m"), result)
    seen = samples(metrics)
    assert seen["mlx_serve_batch_size_sum", "/v1/embeddings"] == 3
    assert seen["mlx_serve_model_inference_seconds_sum", "m"] == 0.5
    assert seen["mlx_serve_tokens_total", "m", "input"] == 16
    assert seen["mlx_serve_tokens_total", "m", "padding"] == 3 * 8 - 16
    assert seen["mlx_serve_truncated_inputs_total", "m"] == 1


def test_a_rerank_is_told_from_an_embedding(metrics: Metrics) -> None:
    metrics.computed(model("r", RERANKER), Scored([1], [0.5], [0.1], [4], [], 0.1))
    metrics.computed(model("r", RERANKER), Tokenized([1], [[1]], [[]]))
    seen = samples(metrics)
    assert seen["mlx_serve_batch_size_count", "/v1/rerank"] == 1
    assert ("mlx_serve_batch_size_count", "/v1/embeddings") not in seen


def test_models_come_and_go(metrics: Metrics) -> None:
    metrics.tell(Loaded(model="m", kind=EMBEDDING, pid=1, device="cpu", load_s=1.5, memory_bytes=1))
    for reason in ("evicted", "idle", "requested", "shutdown"):
        metrics.tell(Left(model="m", kind=EMBEDDING, reason=reason))
    metrics.tell(Died(model="m", kind=EMBEDDING, reason="crashed", exit_code=-11))
    metrics.tell(Refused(model="m", kind=EMBEDDING, message="no room"))
    metrics.leased(model("m"), was_loaded=False)
    metrics.leased(model("m"), was_loaded=True)
    metrics.leased(model("m"), was_loaded=True)
    seen = samples(metrics)
    assert seen["mlx_serve_model_load_seconds_sum", "m"] == 1.5
    assert seen["mlx_serve_cache_evictions_total", "embedding"] == 2
    assert seen["mlx_serve_worker_restarts_total", "m", "crashed"] == 1
    assert seen["mlx_serve_cache_hits_total", "embedding"] == 2
    assert seen["mlx_serve_cache_misses_total", "embedding"] == 1


def test_answers_are_counted_as_they_are_said(metrics: Metrics) -> None:
    chat = model("c", CHAT)
    metrics.waited(chat, 0.2)
    metrics.said(chat, 0.3, is_first=True)
    metrics.said(chat, 0.04, is_first=False)
    metrics.said(chat, 0.04, is_first=False)
    metrics.answered(chat, Finish("stop", None, 10, 4, 3, 0, 0.0, 0.0))
    seen = samples(metrics)
    assert seen["mlx_serve_queue_wait_seconds_sum", "c"] == 0.2
    assert seen["mlx_serve_time_to_first_token_seconds_count", "c"] == 1
    assert seen["mlx_serve_inter_token_seconds_count", "c"] == 2
    kinds = ("input", "cached", "output")
    assert [seen["mlx_serve_tokens_total", "c", kind] for kind in kinds] == [10, 4, 3]


def test_more_models_than_are_bearable_are_others(metrics: Metrics) -> None:
    for number in range(MOST_MODELS + 5):
        metrics.waited(model(f"m{number}"), 0.1)
    metrics.waited(model("m0"), 0.1)
    seen = samples(metrics)
    assert seen["mlx_serve_queue_wait_seconds_count", "other"] == 5
    assert seen["mlx_serve_queue_wait_seconds_count", "m0"] == 2
