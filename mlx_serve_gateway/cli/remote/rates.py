"""How fast a server is, from two looks at what it has counted. Pure.

Invariants: what two looks cannot tell is None: no time between them, nothing counted between them,
or a server that was started anew and counts from zero.
"""

import math
from collections.abc import Mapping

import msgspec

from mlx_serve_gateway.cli.remote.scrape import ModelCounts, Scrape


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    requests_per_s: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    tokens_per_s: float | None = None
    inputs_per_batch: float | None = None
    padding: float | None = None
    """The share of what was computed that was padding."""


def requests_per_s(before: Scrape, after: Scrape) -> float | None:
    return _rate(before.requests, after.requests, after.at - before.at)


def rates(model: str, before: Scrape, after: Scrape) -> Rates:
    now = after.models.get(model, ModelCounts())
    then = before.models.get(model, ModelCounts())
    if after.at <= before.at or now.requests < then.requests or now.tokens < then.tokens:
        return Rates()
    seconds = after.at - before.at
    took = {limit: count - then.durations.get(limit, 0) for limit, count in now.durations.items()}
    padding, batches = now.padding - then.padding, now.batches - then.batches
    computed = now.tokens - then.tokens + padding if batches else 0
    return Rates(
        requests_per_s=_rate(then.requests, now.requests, seconds),
        p50_s=quantile(0.5, took),
        p99_s=quantile(0.99, took),
        tokens_per_s=_rate(then.tokens, now.tokens, seconds),
        inputs_per_batch=_ratio(now.inputs - then.inputs, batches),
        padding=_ratio(padding, computed),
    )


def quantile(share: float, counts: Mapping[float, float]) -> float | None:
    """As Prometheus' ``histogram_quantile``: from counts of what was at most so large."""
    limits = sorted(counts)
    if not limits or counts[limits[-1]] <= 0:
        return None
    wanted = share * counts[limits[-1]]
    lower, below = 0.0, 0.0
    for limit in limits:
        if counts[limit] >= wanted:
            if math.isinf(limit):
                return lower
            return lower + (limit - lower) * (wanted - below) / max(1.0, counts[limit] - below)
        lower, below = limit, counts[limit]
    return None


def _rate(then: float, now: float, seconds: float) -> float | None:
    return (now - then) / seconds if seconds > 0 and now >= then else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
