"""What two looks at /metrics tell of the time between them."""

import math

import pytest

from mlx_serve_gateway.cli.gateway_client import HealthReport, WorkerReport
from mlx_serve_gateway.cli.remote.overview import headline, overview, row
from mlx_serve_gateway.cli.remote.rates import Rates, quantile, rates, requests_per_s
from mlx_serve_gateway.cli.remote.scrape import ModelCounts, Scrape, read_scrape
from tests.every_metric import exposition


def test_a_scrape_is_read() -> None:
    scrape = read_scrape(exposition(), 5.0)
    assert (scrape.at, scrape.requests) == (5.0, 1)
    assert scrape.memory_bytes > 1_000_000
    counts = scrape.models["m"]
    assert counts.durations[math.inf] == counts.requests == 1
    assert counts.durations[0.05] == 0
    assert (counts.tokens, counts.padding) == (3 + 10 + 3, 0)
    assert (counts.inputs, counts.batches, counts.truncated) == (1, 1, 1)


@pytest.mark.parametrize("text", ["<html>", "mlx_serve_requests_total{ 1", "a b c"])
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_scrape(text, 0.0)


def counted(at: float, **more: float) -> Scrape:
    requests = more.pop("requests", 0.0)
    durations = {0.1: requests / 2, 1.0: requests, math.inf: requests}
    return Scrape(at, requests, 0, {"m": ModelCounts(durations, **more)})


def test_rates_are_of_the_time_between() -> None:
    before = counted(10, requests=100, tokens=1000, padding=0, inputs=50, batches=10)
    after = counted(12, requests=140, tokens=1600, padding=200, inputs=90, batches=20)
    found = rates("m", before, after)
    assert (found.requests_per_s, found.tokens_per_s) == (20, 300)
    assert (found.inputs_per_batch, found.padding) == (4, 0.25)
    assert found.p50_s == pytest.approx(0.1)
    assert found.p99_s == pytest.approx(0.982)
    assert requests_per_s(before, after) == 20


def test_what_cannot_be_known_is_not_said() -> None:
    one = counted(10, requests=100, tokens=10)
    assert rates("m", one, one) == Rates()
    assert rates("m", one, counted(12, requests=5)) == Rates(), "a server that was started anew"
    assert requests_per_s(one, counted(12, requests=5)) is None
    idle = rates("m", one, counted(12, requests=100, tokens=10))
    assert idle == Rates(requests_per_s=0, tokens_per_s=0)
    assert rates("unheard of", one, counted(12)) == Rates(requests_per_s=0, tokens_per_s=0)


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, {}, None),
        (0.5, {1.0: 0, math.inf: 0}, None),
        (0.5, {1.0: 10, 2.0: 10, math.inf: 10}, 0.5),
        (0.9, {1.0: 5, 2.0: 10, math.inf: 10}, 1.8),
        (0.99, {1.0: 5, math.inf: 10}, 1.0),
        (0.5, {1.0: 0.0, 2.0: 1.0, math.inf: 1.0}, 1.5),
    ],
)
def test_quantiles_are_those_of_prometheus(
    share: float, counts: dict[float, float], expected: float | None
) -> None:
    assert quantile(share, counts) == (expected if expected is None else pytest.approx(expected))


def test_an_overview_is_short() -> None:
    report = HealthReport(
        status="ok",
        instance="i",
        version="1.0",
        uptime_s=90,
        workers=[
            WorkerReport("m", state="waiting for room", queued=7, memory_bytes=1_200_000_000),
            WorkerReport("n", state="ready", in_flight=3),
        ],
    )
    before = counted(0)
    after = counted(
        1, requests=12_345, tokens=1_234_567, padding=0, inputs=9, batches=4, truncated=2
    )
    seen = overview(report, before, after)
    assert headline(seen) == "mlx-serve 1.0 ok, up 1m 30s, 0 B, 12k requests/s"
    assert row(seen.models[0]) == (
        "m", "waiting", "1.2 GB", "0/7", "12k", "100ms", "982ms", "1235k", "2.2", "0%", "2",
    )  # fmt: skip
    assert row(seen.models[1]) == ("n", "ready", "-", "3/0", "0.0", "-", "-", "0.0", "-", "-", "0")
