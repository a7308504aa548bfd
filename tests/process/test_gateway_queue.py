"""Waiting in the queue: what is too much is refused, and who leaves takes its work along."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from mlx_serve_common.config import BatchConfig, Config, LimitsConfig
from mlx_serve_worker.backends.fake import vector
from tests.process.clients import POST, RawClient
from tests.process.gateways import Answer, Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


@contextmanager
def held(gateway: Gateway) -> Iterator["Future[Answer]"]:
    """The worker has one input and stands still: whatever is sent has to wait."""
    worker = psutil.Process(gateway.worker_pid("m"))
    with ThreadPoolExecutor(1) as threads:
        worker.suspend()
        answer = threads.submit(gateway.embed, "m", "first")
        until(lambda: gateway.waiting() == 1)
        try:
            yield answer
        finally:
            worker.resume()


def test_a_full_queue_refuses_at_once(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    config = Config(
        limits=LimitsConfig(max_queue_items=10, max_inputs=40), batch=BatchConfig(max_batch_size=1)
    )
    with Gateway(short_dir, store, config) as gateway, ThreadPoolExecutor(3) as threads:
        gateway.assert_serves("m")
        with held(gateway) as answer:
            # Two batches ahead take 32 of these, the queue keeps two.
            many = [f"text {number}" for number in range(34)]
            accepted = threads.submit(gateway.embed, "m", many)
            until(lambda: gateway.waiting() == 35)
            refused = gateway.embed("m", ["a"] * 9)
            assert (refused.status, refused.code) == (429, "queue_full")
            assert refused.json["error"]["type"] == "rate_limit_error"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.took_s < 0.5
            fits = threads.submit(gateway.embed, "m", "one more")
            until(lambda: gateway.waiting() == 36)

        assert answer.result().vectors() == [vector("first")]
        assert accepted.result().vectors() == [vector(text) for text in many]
        assert fits.result().vectors() == [vector("one more")]
        assert gateway.embed("m", many).status == 200


def test_who_leaves_the_queue_is_not_computed(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway, ThreadPoolExecutor(1) as threads:
        gateway.assert_serves("m")
        # Not a worker that stands still: it has to hear of it while it computes.
        running = threads.submit(gateway.embed, "m", "__sleep:2__")
        until(lambda: gateway.waiting() == 1)
        # Each of these would take a minute.
        body = msgspec.json.encode({"model": "m", "input": ["__sleep:60__"] * 200})
        clients = [RawClient(gateway) for _ in range(20)]
        for client in clients:
            client.post(body)
        until(lambda: gateway.waiting() == 1 + 20 * 200)
        for number, client in enumerate(clients):
            if number % 2:
                client.reset()
            else:
                client.leave()
        until(lambda: gateway.detail()["queued"] == 0)
        assert not running.done()

        canary = gateway.embed("m", "canary")
        assert canary.vectors() == [vector("canary")]
        assert canary.took_s < 10
        until(lambda: gateway.waiting() == 0, 5)


def test_who_leaves_while_being_computed_harms_nobody(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        pid = gateway.worker_pid("m")
        client = RawClient(gateway)
        client.post(b'{"model":"m","input":"__sleep:0.3__"}')
        until(lambda: gateway.waiting() == 1)
        client.leave()

        gateway.assert_serves("m")
        assert gateway.worker_pid("m") == pid
        until(lambda: gateway.waiting() == 0)
        until(lambda: " 499" in gateway.log())


def test_who_leaves_while_sending_its_body_is_forgotten(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        clients = [RawClient(gateway) for _ in range(20)]
        for client in clients:
            client.send(POST + b"Content-Length: 1000\r\n\r\n{")
        for client in clients:
            client.leave()
        gateway.assert_serves("m")
        until(lambda: gateway.log().count(" 499") == 20)


def test_who_leaves_while_a_model_loads_lets_it_load(short_dir: Path, store: ModelStore) -> None:
    store.add("m", load_s=0.4)
    with Gateway(short_dir, store) as gateway:
        client = RawClient(gateway)
        client.post(b'{"model":"m","input":"gone"}')
        until(lambda: gateway.worker("m"))
        client.leave()

        gateway.assert_serves("m")
        assert gateway.log().count("loaded m") == 1


def test_half_closing_the_connection_is_leaving(short_dir: Path, store: ModelStore) -> None:
    """Hypercorn cannot tell the two apart; what matters is that nothing waits for anything."""
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        client = RawClient(gateway)
        client.post(b'{"model":"m","input":"__sleep:0.3__"}')
        until(lambda: gateway.waiting() == 1)
        client.end_sending()
        heard = client.hear()
        client.leave()

        assert heard == b"" or heard.startswith(b"HTTP/1.1 499 ")
        until(lambda: gateway.waiting() == 0)


def test_a_single_query_is_not_stuck_behind_a_bulk_load(short_dir: Path, store: ModelStore) -> None:
    store.add("m", step_s=0.02)
    config = Config(batch=BatchConfig(max_batch_size=4))
    with Gateway(short_dir, store, config) as gateway, ThreadPoolExecutor(1) as threads:
        gateway.assert_serves("m")
        texts = [f"text {number}" for number in range(240)]
        bulk = threads.submit(gateway.embed, "m", texts)
        until(lambda: gateway.waiting() > 150)
        single = gateway.embed("m", "single")

        assert not bulk.done()
        assert single.took_s < 1
        assert bulk.result().vectors() == [vector(text) for text in texts]


def test_a_request_that_takes_too_long_is_given_up(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    config = Config(limits=LimitsConfig(request_timeout=0.4))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("m")
        with held(gateway) as answer:
            assert (answer.result().status, answer.result().code) == (504, "inference_timeout")
            assert 0.4 <= answer.result().took_s < 2
        until(lambda: gateway.waiting() == 0)
        gateway.assert_serves("m")


def test_loading_does_not_count_as_computing(short_dir: Path, store: ModelStore) -> None:
    store.add("m", load_s=0.6)
    config = Config(limits=LimitsConfig(request_timeout=0.3))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("m")


def test_a_model_that_is_never_loaded_is_given_up(short_dir: Path, store: ModelStore) -> None:
    store.add("m", never_ready=True)
    store.add("good")
    # Enough for the other one on a machine that is busy.
    config = Config(limits=LimitsConfig(load_timeout=3))
    with Gateway(short_dir, store, config) as gateway:
        answers: list[Answer] = []
        clients = [
            threading.Thread(target=lambda: answers.append(gateway.embed("m", "x")))
            for _ in range(5)
        ]
        for client in clients:
            client.start()
        gateway.assert_serves("good")
        for client in clients:
            client.join()

        assert {(answer.status, answer.code) for answer in answers} == {(503, "model_unavailable")}
        assert all(2.9 < answer.took_s < 7.5 for answer in answers)


def test_a_storm_of_connections_leaves_nothing_behind(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        body = b'{"model":"m","input":["a","b"]}'
        for number in range(300):
            client = RawClient(gateway)
            if number % 3:
                client.post(body)
            if number % 2:
                client.reset()
            else:
                client.leave()
        gateway.assert_serves("m")
        until(lambda: gateway.waiting() == 0)
