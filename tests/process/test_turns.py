"""Several models on one device: bulk loads of each give way to who waits for another's answer."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import msgspec
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlx_serve_common.config import BatchConfig, Config, LimitsConfig
from mlx_serve_common.models import ModelKind
from mlx_serve_worker.backends.fake import vector
from tests.process.gateways import Answer, Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process

ONE = BatchConfig(max_batch_size=1, computing_workers=1)
PASS_S = 0.1


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def bulk(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def metric(gateway: Gateway, name: str, model: str) -> float:
    exposed = gateway.ask("GET", "/metrics").body.decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.name == f"mlx_serve_{name}" and sample.labels["model"] == model
    )


def waited_s(gateway: Gateway, model: str) -> float:
    return metric(gateway, "turn_wait_seconds_total", model)


def computed(gateway: Gateway, model: str) -> float:
    return metric(gateway, "inputs_total", model)


@pytest.fixture
def two(store: ModelStore) -> ModelStore:
    store.add("slow", step_s=PASS_S)
    store.add("quick")
    return store


def begin(
    gateway: Gateway, threads: ThreadPoolExecutor, model: str, texts: list[str]
) -> "Future[Answer]":
    """A bulk load that is being computed."""
    before = computed(gateway, model)
    load = threads.submit(gateway.post, {"model": model, "input": texts}, {"X-Priority": "bulk"})
    until(lambda: computed(gateway, model) > before)
    return load


def test_two_bulk_loads_take_turns(
    short_dir: Path, store: ModelStore, threads: ThreadPoolExecutor
) -> None:
    store.add("a", step_s=PASS_S)
    store.add("b", step_s=PASS_S)
    with Gateway(short_dir, store, Config(batch=ONE)) as gateway:
        gateway.assert_serves("a")
        gateway.assert_serves("b")
        workers = [psutil.Process(gateway.worker_pid(model)) for model in "ab"]
        for worker in workers:
            worker.suspend()
        loads = [threads.submit(gateway.embed, model, bulk(9)) for model in "ab"]
        until(lambda: gateway.waiting() == 18)
        started = monotonic()
        for worker in workers:
            worker.resume()
        assert [load.result().vectors() for load in loads] == [list(map(vector, bulk(9)))] * 2
        assert monotonic() - started >= 18 * PASS_S
        assert min(waited_s(gateway, model) for model in "ab") > 2 * PASS_S


def test_without_a_limit_bulk_loads_do_not_wait_for_each_other(
    short_dir: Path, two: ModelStore, threads: ThreadPoolExecutor
) -> None:
    with Gateway(short_dir, two, Config(batch=BatchConfig(max_batch_size=1))) as gateway:
        gateway.assert_serves("quick")
        load = begin(gateway, threads, "slow", bulk(4))
        quick = begin(gateway, threads, "quick", bulk(4))
        assert quick.result().status == load.result().status == 200
        assert waited_s(gateway, "quick") < PASS_S / 10


def test_a_bulk_load_gives_way_to_a_chat_and_gets_on(
    short_dir: Path, two: ModelStore, threads: ThreadPoolExecutor
) -> None:
    two.add("chat", ModelKind.CHAT, step_s=PASS_S / 5)
    with Gateway(short_dir, two, Config(batch=ONE)) as gateway:
        chat = {"model": "chat", "messages": [{"role": "user", "content": "__words:60__"}]}
        load = begin(gateway, threads, "slow", bulk(40))
        before = computed(gateway, "slow")
        answer = gateway.ask("POST", "/v1/chat/completions", msgspec.json.encode(chat))
        assert answer.json["usage"]["completion_tokens"] == 60
        assert before + 1 < computed(gateway, "slow")
        assert not load.done()
        assert load.result().vectors() == list(map(vector, bulk(40)))
        assert waited_s(gateway, "slow") > 2 * PASS_S


def test_who_dies_in_its_turn_holds_nobody_up(
    short_dir: Path, two: ModelStore, threads: ThreadPoolExecutor
) -> None:
    with Gateway(short_dir, two, Config(batch=ONE)) as gateway:
        gateway.assert_serves("quick")
        load = begin(gateway, threads, "slow", ["text", "__crash__"])
        assert load.result().code == "worker_crashed"
        quick = begin(gateway, threads, "quick", bulk(4))
        assert quick.result().vectors() == list(map(vector, bulk(4)))
        assert waited_s(gateway, "quick") < 1


def test_who_is_stopped_in_its_turn_holds_nobody_up_for_long(
    short_dir: Path, two: ModelStore, threads: ThreadPoolExecutor
) -> None:
    limits = LimitsConfig(batch_timeout=4)
    with Gateway(short_dir, two, Config(batch=ONE, limits=limits)) as gateway:
        gateway.assert_serves("quick")
        load = begin(gateway, threads, "slow", bulk(8))
        first = gateway.worker_pid("slow")
        psutil.Process(first).suspend()
        quick = begin(gateway, threads, "quick", bulk(20))
        assert quick.result().vectors() == list(map(vector, bulk(20)))
        # It waited once, not for each of its inputs.
        assert waited_s(gateway, "quick") < 2
        # The stopped one is found out, and only that one.
        assert load.result().vectors() == list(map(vector, bulk(8)))
        assert gateway.worker_pid("slow") != first
        restarts = {each["model"]: each["restarts"] for each in gateway.detail()["workers"]}
        assert restarts == {"slow": 1, "quick": 0}
