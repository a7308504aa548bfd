"""Models coming and going: who is in memory, and that nothing else stays there."""

import asyncio
import signal
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from mlx_serve_common.config import CacheConfig, Config, ModelsConfig
from mlx_serve_worker.backends.fake import vector
from tests.process.clients import RawClient, embed_all
from tests.process.gateways import Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process

MIB = 1024 * 1024


class Footprint:
    """What a gateway holds, as the system sees it."""

    def __init__(self, gateway: Gateway) -> None:
        process = psutil.Process(gateway.pid)
        children = process.children()
        self.descriptors = process.num_fds()
        self.threads = process.num_threads()
        self.children = len(children)
        self.zombies = sum(child.status() == psutil.STATUS_ZOMBIE for child in children)
        self.sockets = len(gateway.sockets())
        self.memory = process.memory_info().rss


def settled(gateway: Gateway, workers: int) -> Footprint:
    """The footprint once exactly these many workers are there."""
    until(lambda: Footprint(gateway).children == workers + 1, what=f"{workers} workers, a sentinel")
    until(lambda: Footprint(gateway).sockets == workers)
    return Footprint(gateway)


def test_models_coming_and_going_leave_nothing_behind(short_dir: Path, store: ModelStore) -> None:
    names = ["a", "b", "c"]
    for name in names:
        store.add(name)
    config = Config(cache=CacheConfig(max_embedding_models=2))
    with Gateway(short_dir, store, config) as gateway:
        for _ in range(2):
            for name in names:
                gateway.assert_serves(name)
        before = settled(gateway, 2)
        for _ in range(10):
            for name in names:
                gateway.assert_serves(name)
        after = settled(gateway, 2)

        assert gateway.log().count("gateway.residents loaded") >= 36
        assert after.zombies == 0
        assert abs(after.descriptors - before.descriptors) <= 2
        assert after.threads == before.threads
        assert after.memory - before.memory < 4 * MIB
        assert "crashed" not in gateway.log()
        assert gateway.detail()["problems"] == []


def test_connections_coming_and_going_leave_nothing_behind(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        gateway.ask("GET", "/health")
        before = Footprint(gateway)
        for number in range(200):
            match number % 4:
                case 0:
                    gateway.ask("GET", "/health")
                case 1:
                    gateway.assert_serves("m")
                case 2:
                    client = RawClient(gateway)
                    client.post(b'{"model":"m","input":"x"}')
                    client.leave()
                case _:
                    RawClient(gateway).reset()

        until(lambda: Footprint(gateway).descriptors <= before.descriptors + 1, 5)
        assert Footprint(gateway).threads == before.threads


async def test_a_cold_model_is_loaded_once_for_everybody(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("m", load_s=0.3)
    with Gateway(short_dir, store) as gateway:
        texts = [f"text {number}" for number in range(50)]
        answers = await embed_all(gateway, "m", texts)

        assert [answer.vectors() for answer in answers] == [[vector(text)] for text in texts]
        assert gateway.log().count("loaded m") == 1


async def test_many_models_in_few_places_serve_everybody(
    short_dir: Path, store: ModelStore
) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        store.add(name)
    config = Config(cache=CacheConfig(max_embedding_models=2))
    with Gateway(short_dir, store, config) as gateway:
        rounds = [embed_all(gateway, name, [f"{name} {n}" for n in range(10)]) for name in names]
        for name, answers in zip(names, await asyncio.gather(*rounds), strict=True):
            expected = [[vector(f"{name} {n}")] for n in range(10)]
            assert [answer.vectors() for answer in answers] == expected


def test_requests_about_as_far_apart_as_a_model_lives(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    ttl_s = 0.2
    config = Config(cache=CacheConfig(ttl_seconds=ttl_s))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("m")
        for number in range(12):
            # From a little too early to a little too late, and so the very moment as well.
            sleep(ttl_s + (number - 6) * 0.003)
            gateway.assert_serves("m")
        loads = gateway.log().count("loaded m")

        assert 2 <= loads <= 13
        assert gateway.log().count("idle for longer") >= 1
        until(lambda: not gateway.processes(), what="the end of the idle worker")
        until(lambda: gateway.detail()["workers"] == [])


def test_a_model_over_the_budget_is_refused_and_evicts_nobody(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("small")
    store.add("huge", weights_bytes=2**40)
    config = Config(cache=CacheConfig(memory_budget=10 * 2**30))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("small")
        pid = gateway.worker_pid("small")
        refused = gateway.embed("huge", "x")

        assert (refused.status, refused.code) == (503, "insufficient_memory")
        assert "1228.89 GiB" in refused.json["error"]["message"]
        assert "10.00 GiB" in refused.json["error"]["message"]
        assert refused.took_s < 0.2
        assert gateway.worker_pid("small") == pid


def test_a_pinned_model_stays(short_dir: Path, store: ModelStore) -> None:
    for name in ("pinned", "other", "third"):
        store.add(name)
    config = Config(
        models=ModelsConfig(pin=("pinned",)),
        cache=CacheConfig(max_embedding_models=2, ttl_seconds=0.2),
    )
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("pinned")
        pid = gateway.worker_pid("pinned")
        for name in ("other", "third", "other"):
            gateway.assert_serves(name)
        until(lambda: len(gateway.processes()) == 1)
        assert gateway.worker_pid("pinned") == pid

        psutil.Process(pid).kill()
        until(lambda: (worker := gateway.worker("pinned")) and worker["pid"] not in (None, pid))
        gateway.assert_serves("pinned")


def test_a_model_installed_while_serving_is_served(short_dir: Path, store: ModelStore) -> None:
    with Gateway(short_dir, store) as gateway:
        assert gateway.embed("late", "x").status == 404
        store.add("late")
        gateway.assert_serves("late")
        assert [model["id"] for model in gateway.ask("GET", "/v1/models").json["data"]] == ["late"]


def test_a_model_taken_away_while_loaded_is_not_served_any_more(
    short_dir: Path, store: ModelStore
) -> None:
    model = store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        model.path.rename(store.models_dir / ".trash")
        gone = gateway.embed("m", "x")

        assert (gone.status, gone.code) == (404, "model_not_found")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(5) == 0


@pytest.mark.slow
def test_a_time_to_live_of_a_second_for_a_minute(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    config = Config(cache=CacheConfig(ttl_seconds=1))
    with Gateway(short_dir, store, config) as gateway:
        until_s = monotonic() + 45
        number = 0
        while monotonic() < until_s:
            gateway.assert_serves("m")
            number += 1
            sleep(1 + (number % 11 - 5) * 0.01)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_loads_leave_nothing_behind(short_dir: Path, store: ModelStore) -> None:
    names = ["a", "b", "c"]
    for name in names:
        store.add(name)
    config = Config(cache=CacheConfig(max_embedding_models=2))
    with Gateway(short_dir, store, config) as gateway:
        for name in names:
            gateway.assert_serves(name)
        before = settled(gateway, 2)
        for number in range(200):
            gateway.assert_serves(names[number % 3])
        after = settled(gateway, 2)

        assert abs(after.descriptors - before.descriptors) <= 2
        assert after.threads == before.threads
        assert after.memory - before.memory < 16 * MIB


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_ten_thousand_requests_stay_small(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        for start in range(0, 10_000, 100):
            texts = [f"text {number}" for number in range(start, start + 100)]
            answers = await embed_all(gateway, "m", texts)
            assert {answer.status for answer in answers} == {200}

        assert Footprint(gateway).memory <= 70 * MIB
