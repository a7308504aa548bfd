"""What an operator does to a running server, over HTTP."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from mlx_serve_common.config import CacheConfig, Config, ModelsConfig
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


@pytest.fixture
def gateway(short_dir: Path, store: ModelStore) -> Iterator[Gateway]:
    store.add("a")
    store.add("b")
    with Gateway(short_dir, store) as gateway:
        yield gateway


def order(gateway: Gateway, what: str, **body: Any) -> Answer:
    return gateway.ask("POST", f"/admin/{what}", msgspec.json.encode(body))


def state(gateway: Gateway, model: str) -> str:
    worker = gateway.worker(model)
    return "absent" if worker is None else str(worker["state"])


def test_a_model_is_loaded_and_unloaded(gateway: Gateway) -> None:
    answer = order(gateway, "load", model="a")
    assert (answer.status, answer.json) == (200, {"model": "a", "state": "ready", "pinned": False})
    assert state(gateway, "a") == "ready"
    assert order(gateway, "unload", model="a").status == 200
    until(lambda: state(gateway, "a") == "absent")


def test_a_pinned_model_comes_and_stays(gateway: Gateway) -> None:
    assert order(gateway, "pin", model="a").json["pinned"]
    until(lambda: state(gateway, "a") == "ready")
    refused = order(gateway, "unload", model="a")
    assert refused.status == 409
    assert "unpin" in refused.json["error"]["message"]
    assert not order(gateway, "unpin", model="a").json["pinned"]
    assert order(gateway, "unload", model="a").status == 200
    until(lambda: state(gateway, "a") == "absent")


def test_a_model_that_is_not_there_is_told(gateway: Gateway) -> None:
    for what in ("load", "unload", "pin", "unpin"):
        assert order(gateway, what, model="nobody").json["error"]["code"] == "model_not_found"
    assert order(gateway, "load").status == 400


def test_a_drain_ends_the_server_well(gateway: Gateway) -> None:
    assert order(gateway, "drain").json == {"status": "draining"}
    assert gateway.wait() == 0


@pytest.mark.parametrize("how", ["by request", "by signal"])
def test_a_changed_configuration_is_taken(gateway: Gateway, how: str) -> None:
    gateway.assert_serves("a")
    config = Config(
        models=ModelsConfig(directory=str(gateway.store.models_dir), aliases={"other": "b"}),
        cache=CacheConfig(max_embedding_models=1),
    )
    gateway.change_config(models=config.models, cache=config.cache)
    assert gateway.embed("other", "x").status == 404
    if how == "by request":
        applied = ["models.aliases", "cache.max_embedding_models"]
        assert order(gateway, "reload").json == {"applied": applied, "needs_restart": []}
    else:
        gateway.signal(signal.SIGHUP)
        until(lambda: "reloaded" in gateway.log())
    assert gateway.embed("other", "x").status == 200
    until(lambda: state(gateway, "a") == "absent")


def test_what_cannot_change_now_is_told_and_left(gateway: Gateway) -> None:
    config = Config()
    limits = msgspec.structs.replace(config.limits, load_timeout=7)
    gateway.change_config(limits=limits)
    assert order(gateway, "reload").json == {
        "applied": [],
        "needs_restart": ["limits.load_timeout"],
    }


def test_a_wrong_configuration_changes_nothing(gateway: Gateway) -> None:
    (gateway.home / "reload.json").write_text('{"server": {"port": "no number"}}')
    answer = order(gateway, "reload")
    assert answer.status == 400
    assert "port" in answer.json["error"]["message"]
    gateway.signal(signal.SIGHUP)
    until(lambda: gateway.log().count("is not reloaded") == 2)
    gateway.assert_serves("a")


def test_what_happens_is_told_when_it_happens(gateway: Gateway) -> None:
    gateway.assert_serves("a")
    url = f"http://127.0.0.1:{gateway.port}/admin/events"
    with httpx.stream("GET", url, timeout=LIMIT_S) as stream:
        lines = stream.iter_lines()
        loaded = msgspec.json.decode(next(lines))
        assert (loaded["event"], loaded["model"], loaded["kind"]) == ("loaded", "a", "embedding")
        order(gateway, "unload", model="a")
        left = msgspec.json.decode(next(lines))
        assert (left["event"], left["reason"]) == ("left", "idle")
        assert left["number"] == loaded["number"] + 1
    with httpx.stream("GET", url, params={"after": left["number"]}, timeout=LIMIT_S) as stream:
        lines = stream.iter_lines()
        gateway.assert_serves("b")
        assert msgspec.json.decode(next(lines))["model"] == "b"


def test_metrics_agree_with_what_was_asked(gateway: Gateway) -> None:
    for _ in range(5):
        gateway.assert_serves("a")
    gateway.embed("nobody", "x")
    gateway.ask("GET", "/nowhere/at-all")
    gateway.ask("GET", "/v1/models/a")
    answer = gateway.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    for line in (
        'mlx_serve_requests_total{endpoint="/v1/embeddings",status="200"} 5',
        'mlx_serve_requests_total{endpoint="/v1/embeddings",status="404"} 1',
        'mlx_serve_requests_total{endpoint="other",status="404"} 1',
        'mlx_serve_requests_total{endpoint="/v1/models/{}",status="200"} 1',
        'mlx_serve_models_loaded{type="embedding"} 1',
        'mlx_serve_cache_misses_total{type="embedding"} 1',
        'mlx_serve_cache_hits_total{type="embedding"} 4',
        'mlx_serve_batch_size_count{endpoint="/v1/embeddings"} 5',
        'mlx_serve_model_load_seconds_count{model="a"} 1',
        'mlx_serve_in_flight{model="a"} 0',
        'mlx_serve_queue_depth{model="a"} 0',
    ):
        assert line in lines, line
