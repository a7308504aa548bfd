"""The server itself: out of descriptors, held up, broken inside, without its sentinel."""

import http.client
import resource
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import CacheConfig, Config, ModelsConfig
from mlx_serve_common.paths import run_directory
from mlx_serve_gateway.faults import EXIT_FAULT
from mlx_serve_worker.backends.fake import vector
from tests.faults.rig import BATCH_TIMEOUT_S, Rig
from tests.process.gateways import LIMIT_S, Gateway, is_alive
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


@contextmanager
def descriptors(rig: Rig, left: int) -> Iterator[None]:
    """The server may open only so many more."""
    process: Any = rig.process  # on other systems it has no limits to set
    before = process.rlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as fillers:
        # A limit is on the highest number: those below it that are free have to be taken first.
        while (free := _free(numbers := _open_descriptors(rig))) > left:
            filler = http.client.HTTPConnection("127.0.0.1", rig.gateway.port, timeout=LIMIT_S)
            fillers.callback(filler.close)
            # Its number says nothing: one that was just closed may have been the same.
            filler.request("GET", "/livez")
            filler.getresponse().read()
        limit = max(numbers) + 1 + left - free
        process.rlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            yield
        finally:
            process.rlimit(resource.RLIMIT_NOFILE, before)


def _open_descriptors(rig: Rig) -> set[int]:
    return {int(path.name) for path in Path(f"/proc/{rig.gateway.pid}/fd").iterdir()}


def _free(numbers: set[int]) -> int:
    """How many below the highest are."""
    return max(numbers) + 1 - len(numbers)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_more_connections_than_descriptors(rig: Rig) -> None:
    rig.assert_serves("a")
    with descriptors(rig, left=20):
        clients = [socket.create_connection(("127.0.0.1", rig.gateway.port)) for _ in range(100)]
        busy_before = sum(rig.process.cpu_times()[:2])
        sleep(1)  # as long as its work is measured
        busy_s = sum(rig.process.cpu_times()[:2]) - busy_before
        for client in clients:
            client.close()
    assert busy_s < 0.5, "a busy loop"
    freed_at = monotonic()
    rig.assert_serves("a")
    assert monotonic() - freed_at < 5


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_no_descriptor_for_a_worker(rig: Rig) -> None:
    """Wherever in its start they run out, it is not the model's fault."""
    for left in range(14):
        connection = http.client.HTTPConnection("127.0.0.1", rig.gateway.port, timeout=LIMIT_S)
        connection.request("GET", "/livez")
        connection.getresponse().read()
        with ThreadPoolExecutor(1) as threads:
            with descriptors(rig, left):
                asked = threads.submit(_embed, connection, "c")
                wait([asked], timeout=0.5)
            restored_at = monotonic()
            status, body = asked.result()
        assert monotonic() - restored_at < 5
        rig.answered += 1
        connection.close()
        assert status == 200 or b"model_unavailable" in body, (left, status, body)
        rig.assert_serves("c")
        rig.let_go()


_WITHOUT_DESCRIPTORS = [
    ("POST", "/api/pull", {"model": "org/none", "stream": False}),
    ("POST", "/api/quantize", {"model": "a", "bits": 4, "stream": False}),
    ("POST", "/api/copy", {"source": "a", "destination": "again"}),
    ("DELETE", "/api/delete", {"model": "again"}),
    ("POST", "/admin/reload", None),
    ("GET", "/v1/models", None),
    ("GET", "/health/detail", None),
    ("GET", "/metrics", None),
]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
@pytest.mark.parametrize(("method", "path", "body"), _WITHOUT_DESCRIPTORS)
def test_no_descriptor_for_what_is_asked(
    rig: Rig, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """Whatever needs one, and however many there are: it is told, and nothing is lost by it."""
    for left in (0, 3, 6):
        connection = http.client.HTTPConnection("127.0.0.1", rig.gateway.port, timeout=LIMIT_S)
        connection.request("GET", "/livez")
        connection.getresponse().read()
        rig.store.models_dir.touch()  # to be looked at again
        with descriptors(rig, left):
            connection.request(method, path, None if body is None else msgspec.json.encode(body))
            response = connection.getresponse()
            content = response.read()
        rig.answered += path not in ("/health/detail", "/metrics")  # nobody counts these
        connection.close()
        assert b"internal_error" not in content, (left, response.status, content)
        assert response.status < 500 or response.status in (502, 503, 507), (left, content)
        assert response.status != 503 or response.headers["retry-after"]
        rig.assert_serves("a")


def _embed(connection: http.client.HTTPConnection, model: str) -> tuple[int, bytes]:
    connection.request(
        "POST", "/v1/embeddings", msgspec.json.encode({"model": model, "input": "x"})
    )
    response = connection.getresponse()
    return response.status, response.read()


def test_a_machine_that_slept(rig: Rig) -> None:
    """Who held work while nothing ran is not taken for hung."""
    for model in ("a", "b"):
        rig.assert_serves(model)
    pids = {model: rig.worker(model).pid for model in ("a", "b")}
    everything = [rig.process, *rig.process.children()]
    with rig.canary.silent(), rig.in_flight("a", ["__sleep:0.5__ a"]) as (request,):
        for process in everything:
            process.suspend()
        sleep(2 * BATCH_TIMEOUT_S + 1)
        for process in reversed(everything):
            process.resume()
    assert request.result().status == 200
    assert {model: rig.worker(model).pid for model in ("a", "b")} == pids


def test_a_server_that_was_held_up_kills_nobody_for_it(rig: Rig) -> None:
    """The worker's answer came in the meantime, and lies unread."""
    rig.assert_serves("a")
    pid = rig.worker("a").pid
    with rig.canary.silent(), rig.in_flight("a", ["__sleep:0.3__ a"]) as (request,):
        rig.process.suspend()
        sleep(2 * BATCH_TIMEOUT_S + 1)
        rig.process.resume()
    assert request.result().status == 200
    assert rig.worker("a").pid == pid


def test_the_sentinel_is_killed_under_load(rig: Rig) -> None:
    rig.assert_serves("a")
    first = rig.gateway.sentinel()
    rig.worker("a").suspend()
    texts = [str(number) for number in range(8)]
    with rig.in_flight("a", texts) as requests:
        first.kill()
        rig.worker("a").resume()
    assert [request.result().vectors() for request in requests] == [[vector(t)] for t in texts]
    until(lambda: not is_alive(first))


# --- servers of their own ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        "mlx_serve_gateway.residents:_LaneObserver:on_result",
        "mlx_serve_gateway.residents:Residents:_stays_after",
    ],
)
def test_a_fault_in_the_books_ends_it_and_all_it_started(
    short_dir: Path, store: ModelStore, broken: str
) -> None:
    store.add("m")
    gateway = Gateway(short_dir, store, BROKEN=broken)
    with suppress(AssertionError), gateway:  # the traceback, which is to be there
        asking = threading.Thread(target=_ignore_failure, args=(gateway,))
        asking.start()
        if "_stays_after" in broken:
            until(lambda: gateway.processes())
            gateway.processes()[0].send_signal(signal.SIGKILL)
        assert gateway.wait(10) == EXIT_FAULT
        asking.join()
    assert gateway.wait(0) == EXIT_FAULT
    assert "ZeroDivisionError" in gateway.log()
    assert gateway.processes() == []


def _ignore_failure(gateway: Gateway) -> None:
    with suppress(OSError, http.client.HTTPException):
        gateway.embed("m", "x")


def test_more_preloads_than_places(short_dir: Path, store: ModelStore) -> None:
    names = [f"m{number}" for number in range(6)]
    for name in names:
        store.add(name)
    config = Config(
        models=ModelsConfig(preload=(*names, "missing")), cache=CacheConfig(max_embedding_models=2)
    )
    with Gateway(short_dir, store, config) as gateway:
        until(lambda: gateway.log().count("residents loaded") == 2)
        health = gateway.ask("GET", "/health").json
        assert health["status"] == "degraded"
        problems = gateway.detail()["problems"]
        assert [problem.split(":")[0] for problem in problems] == ["missing", *names[2:]]
        gateway.assert_serves("m0")
        assert gateway.log().count("residents loaded") == 2
        gateway.assert_serves("m5")
        assert gateway.log().count("residents loaded") == 3


def test_the_folder_of_the_sockets_is_swept_away(short_dir: Path, store: ModelStore) -> None:
    for name in ("old", "new"):
        store.add(name)
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("old")
        shutil.rmtree(run_directory(short_dir))
        gateway.assert_serves("old")
        gateway.assert_serves("new")
        assert run_directory(short_dir).stat().st_mode & 0o777 == 0o700
        run_directory(short_dir).rename(short_dir / "away")
        (short_dir / "run").symlink_to(short_dir / "away")
        store.add("newer")
        refused = gateway.embed("newer", "x")
        assert (refused.status, refused.code) == (503, "model_unavailable")
        gateway.assert_serves("old")
