"""Pulling, by itself and because a request needs the model; downloads are stand-ins."""

import asyncio
import signal
import threading
from pathlib import Path

import pytest

from mlx_serve_worker.backends.fake import vector
from tests.process.clients import embed_all
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.process.ollama.asking import (
    OWNER,
    STRANGER,
    Stream,
    ask,
    go_on,
    installed,
    jobs,
    serving,
    starts,
)
from tests.process.stand_in_job import DIGEST, TOTAL
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


def test_a_pull_is_told_as_it_goes_and_the_model_serves(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    stream = Stream(gateway, model=f"org/{name}")
    told = [stream.line() for _ in range(2)]
    assert told[0] == {"status": "pulling manifest"}
    assert told[1].items() >= {"digest": DIGEST, "total": TOTAL}.items()
    (job,) = jobs(gateway, name)
    assert (job["kind"], job["state"]) == ("pull", "running")
    go_on(store, name)

    assert stream.rest()[-1] == {"status": "success"}
    gateway.assert_serves(name)
    (job,) = jobs(gateway, name)
    assert job["state"] == "succeeded"


def test_listeners_join_leave_and_share_one_download(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    leaving, staying = (Stream(gateway, model=f"org/{name}") for _ in range(2))
    assert leaving.line() == {"status": "pulling manifest"}
    leaving.leave()
    late = Stream(gateway, name=f"org/{name}", stream=True)
    assert late.line() == {"status": "pulling manifest"}
    go_on(store, name)

    for stream in (staying, late):
        assert stream.rest()[-1] == {"status": "success"}
    assert starts(store, name) == 1


def test_the_last_listener_leaves_and_the_download_goes_on(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    stream = Stream(gateway, model=f"org/{name}")
    stream.line()
    stream.leave()
    go_on(store, name)

    until(lambda: name in installed(gateway))


def test_a_pull_without_a_stream(gateway: Gateway, store: ModelStore, name: str) -> None:
    go_on(store, name)
    answer = ask(gateway, "POST", "/api/pull", model=f"org/{name}", stream=False, insecure=False)
    assert (answer.status, answer.json) == (200, {"status": "success"})

    answer = ask(gateway, "POST", "/api/pull", model="org/fails", stream=False)
    assert (answer.status, answer.json["error"]) == (404, "there is no such repository")


@pytest.mark.parametrize("failure", ["fails", "dies", "says-nothing", "lies"])
def test_however_a_pull_fails_its_stream_ends_with_an_error(gateway: Gateway, failure: str) -> None:
    lines = Stream(gateway, model=f"org/{failure}").rest()

    assert isinstance(lines[-1]["error"], str)
    assert all("error" not in line for line in lines[:-1])
    assert failure not in installed(gateway)


def test_a_stop_ends_the_download_and_tells_its_listener(
    short_dir: Path, own_store: ModelStore
) -> None:
    with serving(short_dir, own_store) as gateway:
        stream = Stream(gateway, model="org/waits")
        stream.line()
        gateway.signal(signal.SIGTERM)
        assert stream.rest()[-1]["code"] == "shutting_down"
        assert gateway.wait() == 0


def test_a_killed_gateway_takes_its_jobs_along(short_dir: Path, own_store: ModelStore) -> None:
    with serving(short_dir, own_store) as gateway:
        stream = Stream(gateway, model="org/is-deaf")
        # From here on it says nothing: it does not notice that nobody listens.
        while stream.line()["status"] != "verifying":
            pass
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        stream.leave()


# --- on request ----------------------------------------------------------------------------------


def test_a_request_fetches_what_is_not_here_once_for_everybody(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    answers: list[Answer] = []
    asking = threading.Thread(
        target=lambda: answers.extend(asyncio.run(embed_all(gateway, f"org/{name}", "abcd")))
    )
    asking.start()
    stream = Stream(gateway, model=f"org/{name}")
    stream.line()
    go_on(store, name)
    asking.join(LIMIT_S)

    assert stream.rest()[-1] == {"status": "success"}
    assert [answer.vectors() for answer in answers] == [[vector(text)] for text in "abcd"]
    assert starts(store, name) == 1


def test_a_slow_download_is_told_and_goes_on(short_dir: Path, own_store: ModelStore) -> None:
    with serving(short_dir, own_store, auto_download_timeout=0.1) as gateway:
        answer = gateway.embed("org/waits", "a")
        assert (answer.status, answer.code) == (503, "model_loading")
        assert int(answer.headers["retry-after"]) >= 1
        until(lambda: "50 %" in gateway.embed("org/waits", "a").json["detail"])
        go_on(own_store, "waits")
        until(lambda: gateway.embed("org/waits", "a").status == 200)
    assert starts(own_store, "waits") == 1


def test_a_stranger_downloads_nothing(gateway: Gateway, store: ModelStore, name: str) -> None:
    go_on(store, name)
    body = {"model": f"org/{name}", "input": "a"}
    answer = gateway.post(body, STRANGER)
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert starts(store, name) == 0

    assert gateway.post(body, OWNER).status == 200


def test_a_preload_is_fetched_too(short_dir: Path, own_store: ModelStore) -> None:
    with serving(short_dir, own_store, preload=("org/waits",), pin=("org/waits",)) as gateway:
        reasons = gateway.ask("GET", "/readyz").json["reasons"]
        assert reasons == ["org/waits: it is being downloaded"]
        go_on(own_store, "waits")
        until(lambda: gateway.ask("GET", "/readyz").status == 200)
        worker = gateway.worker("waits")

    assert worker is not None
    assert worker["pinned"]
