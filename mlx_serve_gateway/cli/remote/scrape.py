"""What GET /metrics tells of each model, at one moment. Pure: text to numbers."""

from typing import Any

import msgspec


class ModelCounts(msgspec.Struct):
    """Since the server started."""

    durations: dict[float, float] = {}
    """Requests that took at most so many seconds."""
    tokens: float = 0
    """Of inputs and answers."""
    padding: float = 0
    inputs: float = 0
    batches: float = 0
    truncated: float = 0

    @property
    def requests(self) -> float:
        return max(self.durations.values(), default=0)


class Scrape(msgspec.Struct):
    at: float
    requests: float = 0
    memory_bytes: float = 0
    models: dict[str, ModelCounts] = {}


def read_scrape(text: str, at: float) -> Scrape:
    """Raises ValueError for what is no such text."""
    from prometheus_client.parser import text_string_to_metric_families

    scrape = Scrape(at)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _take(scrape, sample.name, sample.labels, sample.value)
    return scrape


def _take(scrape: Scrape, name: str, labels: dict[str, Any], value: float) -> None:
    match name:
        case "mlx_serve_requests_total":
            scrape.requests += value
        case "mlx_serve_memory_usage_bytes":
            scrape.memory_bytes = value
        case _ if "model" in labels:
            _take_of_model(
                scrape.models.setdefault(labels["model"], ModelCounts()), name, labels, value
            )
        case _:
            pass


def _take_of_model(counts: ModelCounts, name: str, labels: dict[str, Any], value: float) -> None:
    match name:
        case "mlx_serve_model_request_duration_seconds_bucket":
            counts.durations[float(labels["le"])] = value
        case "mlx_serve_tokens_total" if labels["kind"] in ("input", "output"):
            counts.tokens += value
        case "mlx_serve_tokens_total" if labels["kind"] == "padding":
            counts.padding = value
        case "mlx_serve_inputs_total":
            counts.inputs = value
        case "mlx_serve_model_inference_seconds_count":
            counts.batches = value
        case "mlx_serve_truncated_inputs_total":
            counts.truncated = value
        case _:
            pass
