"""The text that Prometheus reads, compared with what prometheus_client writes and reads."""

import math
import random
from functools import partial

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as TheirCounter
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.parser import text_string_to_metric_families

from mlx_serve_gateway.exposition import Counter, Family, Histogram, reading

BOUNDS = (0.001, 0.25, 1, 120, 16_777_216)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """A limit of a bucket by its value: 1e+06 is 1000000.0."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name.endswith("_created"):
                continue
            if "le" in labels:
                labels = labels | {"le": str(float(labels["le"]))}
            key = (name, frozenset(labels.items()))
            assert key not in found
            found[key] = value
    return found


def latencies() -> Family[Histogram]:
    return Family("took_seconds", "How long", "histogram", ["of"], partial(Histogram, BOUNDS))


def test_a_histogram_says_what_prometheus_client_says() -> None:
    registry, chance = CollectorRegistry(), random.Random(1)
    theirs = TheirHistogram("took_seconds", "How long", ["of"], buckets=BOUNDS, registry=registry)
    ours = latencies()
    seen = [*BOUNDS, 0.0, -1.0, 1e9, *(math.exp(chance.uniform(-12, 20)) for _ in range(200))]
    for value in seen:
        for family in ("a", "b%d"):
            theirs.labels(family).observe(value)
            ours.of(family).observe(value)
        assert samples(ours.text()) == samples(generate_latest(registry).decode())


def test_a_counter_says_what_prometheus_client_says() -> None:
    registry = CollectorRegistry()
    theirs = TheirCounter("asked", "How often", ["path", "status"], registry=registry)
    ours = Family("asked_total", "How often", "counter", ["path", "status"], Counter)
    for amount in (1, 2.5, 1e22, 1e-7):
        theirs.labels("/", "200").inc(amount)
        ours.of("/", "200").inc(amount)
        assert samples(ours.text()) == samples(generate_latest(registry).decode())


@pytest.mark.parametrize(
    "name", ["m", "한국어 모델", 'x"} 1\nevil{', "\\", "\\n", "100%s %d", "{}", "", 'a"b\\"c']
)
def test_a_label_is_read_as_it_was_given(name: str) -> None:
    counter = Family("asked_total", "How often", "counter", ["of"], Counter)
    counter.of(name).inc()
    histogram = latencies()
    histogram.of(name).observe(1)
    now = reading("queued", "How many", [({"of": name}, 3)])
    for text in (counter.text(), histogram.text(), now):
        assert {dict(labels)["of"] for _, labels in samples(text)} == {name}


def test_a_change_is_seen_at_once() -> None:
    counter = Family("asked_total", "How often", "counter", [], Counter)
    for expected in range(1, 4):
        counter.of().inc()
        assert list(samples(counter.text()).values()) == [expected]


def test_labels_that_do_not_fit_are_a_bug() -> None:
    with pytest.raises(ValueError):
        latencies().of("a", "b")


def test_what_was_never_counted_is_only_described() -> None:
    assert latencies().text() == "# HELP took_seconds How long\n# TYPE took_seconds histogram\n"
    assert reading("up", "Is up", [({}, 1)]) == "# HELP up Is up\n# TYPE up gauge\nup 1\n"
