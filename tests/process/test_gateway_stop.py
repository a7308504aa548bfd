"""Stopping: what runs is finished, what is new is told so, and a second signal ends it at once."""

import asyncio
import http.client
import signal
import socket
from pathlib import Path
from time import monotonic

import psutil
import pytest

from mlx_serve_common.config import Config, LimitsConfig, ModelsConfig
from mlx_serve_worker.backends.fake import vector
from tests.process.clients import POST, RawClient, embed_all, in_flight
from tests.process.gateways import Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


def assert_workers_left_by_themselves(gateway: Gateway, count: int) -> None:
    assert gateway.log().count("ended: server shutdown (exit code 0)") == count
    for unwanted in ("does not stop by itself", "crashed"):
        assert unwanted not in gateway.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_runs_is_finished(short_dir: Path, store: ModelStore, number: int) -> None:
    names = ("a", "b")
    for name in names:
        store.add(name)
    with Gateway(short_dir, store) as gateway:
        for name in names:
            gateway.assert_serves(name)
        workers = [psutil.Process(gateway.worker_pid(name)) for name in names]
        for worker in workers:
            worker.suspend()
        texts = [f"text {number}" for number in range(32)]
        requests = [asyncio.ensure_future(embed_all(gateway, name, texts)) for name in names]
        await in_flight(gateway, 64)
        # To the whole group, as a terminal does: the workers must not follow it.
        gateway.signal_group(number)
        for worker in workers:
            worker.resume()
        for request in requests:
            answers = await request
            assert [answer.vectors() for answer in answers] == [[vector(text)] for text in texts]

        assert gateway.wait(5) == 0
        assert_workers_left_by_themselves(gateway, 2)


async def test_what_is_new_is_told_that_we_are_leaving(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        kept_alive = http.client.HTTPConnection("127.0.0.1", gateway.port)
        kept_alive.request("GET", "/health")
        assert kept_alive.getresponse().read()
        held = asyncio.ensure_future(embed_all(gateway, "m", ["__sleep:1__"]))
        await in_flight(gateway, 1)
        gateway.signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, until, lambda: _is_draining(gateway))

        refused = await loop.run_in_executor(None, gateway.embed, "m", "late")
        assert (refused.status, refused.code) == (503, "shutting_down")
        assert refused.headers["connection"] == "close"
        assert int(refused.headers["retry-after"]) >= 1
        health = await loop.run_in_executor(None, gateway.ask, "GET", "/health")
        assert (health.status, health.json["status"]) == (503, "draining")
        ready = await loop.run_in_executor(None, gateway.ask, "GET", "/readyz")
        assert ready.json["reasons"] == ["the server is shutting down"]
        live = await loop.run_in_executor(None, gateway.ask, "GET", "/livez")
        assert live.status == 200
        kept_alive.request("POST", "/v1/embeddings", b'{"model":"m","input":"late"}')
        late = kept_alive.getresponse()
        assert (late.status, late.headers["connection"]) == (503, "close")
        late.read()
        kept_alive.close()

        (answer,) = await held
        assert answer.status == 200
        assert gateway.wait(5) == 0


def _is_draining(gateway: Gateway) -> bool:
    return gateway.ask("GET", "/readyz").status == 503


def test_an_idle_server_stops_at_once(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        idle = socket.create_connection(("127.0.0.1", gateway.port))
        started = monotonic()
        gateway.signal(signal.SIGTERM)

        assert gateway.wait(5) == 0
        assert monotonic() - started < 1.5
        assert_workers_left_by_themselves(gateway, 1)
        idle.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(short_dir: Path, store: ModelStore, number: int) -> None:
    store.add("m")
    store.add("spinning")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        gateway.assert_serves("spinning")
        clients = [RawClient(gateway), RawClient(gateway)]
        clients[0].post(b'{"model":"m","input":"__sleep:30__"}')
        clients[1].post(b'{"model":"spinning","input":"__spin__"}')
        until(lambda: gateway.waiting() == 2)
        gateway.signal(number)
        until(lambda: _is_draining(gateway))
        started = monotonic()
        gateway.signal(number)

        assert gateway.wait(5) == 128 + number
        gateway.assert_nothing_left()
        assert monotonic() - started < 2
        for client in clients:
            client.leave()


async def test_what_does_not_end_in_time_is_answered_too(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("m")
    config = Config(limits=LimitsConfig(drain_timeout=0.5))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("m")
        worker = psutil.Process(gateway.worker_pid("m"))
        worker.suspend()
        requests = asyncio.ensure_future(embed_all(gateway, "m", ["a", "b", "c"]))
        await in_flight(gateway, 3)
        gateway.signal(signal.SIGTERM)
        answers = await requests
        assert {(answer.status, answer.code) for answer in answers} == {(503, "shutting_down")}

        worker.resume()
        assert gateway.wait(5) == 0
        assert_workers_left_by_themselves(gateway, 1)


def test_clients_that_do_nothing_do_not_hold_it_up(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    config = Config(limits=LimitsConfig(drain_timeout=0.5))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("m")
        silent = RawClient(gateway)
        in_a_header = RawClient(gateway)
        in_a_header.send(POST + b"Conten")
        never_reading = RawClient(gateway)
        texts = b",".join([b'"x"'] * 2000)
        for _ in range(20):
            never_reading.post(b'{"model":"m","input":[' + texts + b"]}")
        started = monotonic()
        gateway.signal(signal.SIGTERM)

        assert gateway.wait(10) == 0
        assert monotonic() - started < 0.5 + 2 + 1
        for client in (silent, in_a_header, never_reading):
            client.leave()


def test_half_a_body_does_not_hold_it_up_forever(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    config = Config(limits=LimitsConfig(drain_timeout=0.5))
    with Gateway(short_dir, store, config) as gateway:
        gateway.assert_serves("m")
        client = RawClient(gateway)
        client.send(POST + b"Content-Length: 1000\r\n\r\n{")
        started = monotonic()
        gateway.signal(signal.SIGTERM)

        assert gateway.wait(10) == 0
        assert monotonic() - started < 0.5 + 2 + 1
        client.leave()


def test_a_load_does_not_hold_it_up(short_dir: Path, store: ModelStore) -> None:
    store.add("slow", load_s=30)
    config = Config(models=ModelsConfig(preload=("slow",)))
    with Gateway(short_dir, store, config) as gateway:
        until(lambda: gateway.worker("slow"))
        started = monotonic()
        gateway.signal(signal.SIGTERM)

        assert gateway.wait(5) == 0
        assert monotonic() - started < 1.5


def test_starting_and_stopping_over_and_over(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    for _ in range(4):
        with Gateway(short_dir, store) as gateway:
            gateway.assert_serves("m")


def test_the_port_is_free_afterwards(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        gateway.assert_nothing_left()
        with socket.create_server(("127.0.0.1", gateway.port)):
            pass


def test_a_parent_that_ignores_its_children_does_no_harm(
    short_dir: Path, store: ModelStore
) -> None:
    """An ignored SIGCHLD is inherited, and the kernel then reaps children by itself."""
    store.add("m")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        gateway = Gateway(short_dir, store)
        gateway.__enter__()
    finally:
        signal.signal(signal.SIGCHLD, before)
    try:
        gateway.assert_serves("m")
        gateway.embed("m", "__exit0__")
        gateway.assert_serves("m")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(5) == 0
    finally:
        gateway.__exit__(None, None, None)
