"""Workers that die or hang under a real gateway: everybody is answered, the guilty with 500."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from mlx_serve_common.config import Config, LimitsConfig
from mlx_serve_worker.backends.fake import vector
from tests.process.clients import embed_all, in_flight
from tests.process.gateways import GONE_S, Answer, Gateway, is_alive
from tests.store import ModelStore
from tests.waiting import async_until, until

pytestmark = pytest.mark.process


def restarts(gateway: Gateway, model: str) -> int:
    worker = gateway.worker(model)
    assert worker is not None
    count: int = worker["restarts"]
    return count


async def test_killing_the_worker_costs_no_request(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        worker = psutil.Process(gateway.worker_pid("m"))
        worker.suspend()
        texts = [f"text {number}" for number in range(64)]
        requests = asyncio.ensure_future(embed_all(gateway, "m", texts))
        await in_flight(gateway, 64)
        worker.kill()
        answers = await requests

        assert [answer.vectors() for answer in answers] == [[vector(text)] for text in texts]
        assert gateway.worker_pid("m") != worker.pid
        assert restarts(gateway, "m") == 1


async def test_a_killed_idle_worker_is_replaced_for_the_next_request(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        psutil.Process(gateway.worker_pid("m")).kill()

        gateway.assert_serves("m")
        assert restarts(gateway, "m") == 1


async def with_company(gateway: Gateway, poison: str) -> tuple[Answer, list[Answer], list[str]]:
    """A poison in the middle of a batch: its answer, those of its company, and their texts."""
    worker = psutil.Process(gateway.worker_pid("m"))
    worker.suspend()
    held = asyncio.ensure_future(embed_all(gateway, "m", ["first"]))
    await in_flight(gateway, 1)
    texts = [f"innocent {number}" for number in range(20)]
    mixed = [*texts[:10], poison, *texts[10:]]
    requests = asyncio.ensure_future(embed_all(gateway, "m", mixed))
    await in_flight(gateway, 1 + len(mixed))
    worker.resume()
    answers = await requests
    assert (await held)[0].vectors() == [vector("first")]
    return answers.pop(10), answers, texts


@pytest.mark.parametrize("poison", ["__crash__", "__exit0__", "__raise_base__"])
async def test_a_poison_is_refused_and_its_company_served(
    short_dir: Path, store: ModelStore, poison: str
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        guilty, innocent, texts = await with_company(gateway, poison)

        assert [answer.vectors() for answer in innocent] == [[vector(text)] for text in texts]
        assert (guilty.status, guilty.code, guilty.param) == (500, "worker_crashed", "input")
        assert guilty.headers["x-should-retry"] == "false"
        assert restarts(gateway, "m") == 2

        gateway.assert_serves("m")
        pid = gateway.worker_pid("m")
        refused = [
            gateway.embed("m", ["fine", poison], encoding_format=encoding)
            for encoding in ("float", "base64")
        ]
        assert {(a.status, a.code) for a in refused} == {(400, "request_quarantined")}
        assert min(answer.took_s for answer in refused) < 0.05
        assert gateway.worker_pid("m") == pid
        gateway.assert_serves("m")


async def test_a_client_that_retries_does_not_kill_worker_after_worker(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        with openai.OpenAI(base_url=url, api_key="any", max_retries=2) as client:
            for _ in range(10):
                with pytest.raises(openai.APIStatusError):
                    client.embeddings.create(model="m", input="__crash__")
        gateway.assert_serves("m")

        assert restarts(gateway, "m") == 2


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_what_is_not_finite_is_an_error_and_no_number(
    short_dir: Path, store: ModelStore, encoding: str
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        pid = gateway.worker_pid("m")
        bad = gateway.embed("m", ["fine", "__nan__"], encoding_format=encoding)
        assert (bad.status, bad.code) == (500, "invalid_model_output")
        assert bad.headers["x-should-retry"] == "false"
        failing = gateway.embed("m", "__raise__")
        assert (failing.status, failing.code) == (500, "inference_failed")

        _, innocent, texts = await with_company(gateway, "__nan__")
        assert [answer.vectors() for answer in innocent] == [[vector(text)] for text in texts]
        assert gateway.worker_pid("m") == pid


@pytest.mark.parametrize("how", ["spinning", "stopped"])
async def test_a_hung_worker_is_replaced_and_the_others_are_not_touched(
    short_dir: Path, store: ModelStore, how: str
) -> None:
    store.add("m")
    store.add("other")
    config = Config(limits=LimitsConfig(batch_timeout=0.8))
    with Gateway(short_dir, store, config) as gateway:
        for model in ("m", "other"):
            gateway.assert_serves(model)
        other_pid = gateway.worker_pid("other")
        texts = [f"text {number}" for number in range(8)]
        if how == "stopped":
            psutil.Process(gateway.worker_pid("m")).send_signal(signal.SIGSTOP)
        else:
            texts.append("__spin__")
        requests = asyncio.ensure_future(embed_all(gateway, "m", texts))
        while not requests.done():
            (answer,) = await embed_all(gateway, "other", ["meanwhile"])
            assert answer.vectors() == [vector("meanwhile")]
            assert answer.took_s < 0.7
        answers = await requests

        assert [a.vectors() for a in answers[:8]] == [[vector(text)] for text in texts[:8]]
        if how == "spinning":
            assert (answers[8].status, answers[8].code) == (500, "worker_crashed")
        assert gateway.worker_pid("other") == other_pid


async def test_a_model_that_cannot_be_loaded(short_dir: Path, store: ModelStore) -> None:
    store.add("bad", load_error="the weights are cut off", load_s=0.2)
    with Gateway(short_dir, store) as gateway:
        answers = await embed_all(gateway, "bad", ["x"] * 20)

        assert {(answer.status, answer.code) for answer in answers} == {(500, "invalid_model")}
        assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}
        assert gateway.log().count("ended: could not be loaded") == 1
        assert gateway.ask("GET", "/health").json["status"] == "degraded"


async def test_a_model_that_crashes_at_loading_is_given_a_rest(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("bad", crash_at_load=True)
    store.add("good")
    with Gateway(short_dir, store) as gateway:
        answers = await embed_all(gateway, "bad", ["x"] * 10)
        assert {(answer.status, answer.code) for answer in answers} == {(503, "model_unavailable")}
        assert {answer.headers["retry-after"] for answer in answers} == {"30"}

        again = gateway.embed("bad", "x")
        assert (again.status, again.code) == (503, "model_unavailable")
        assert again.took_s < 0.1
        assert restarts(gateway, "bad") == 3
        gateway.assert_serves("good")


async def test_a_worker_that_talks_garbage_is_replaced(short_dir: Path, store: ModelStore) -> None:
    store.add("garbage", garbage=True)
    with Gateway(short_dir, store) as gateway:
        answer = gateway.embed("garbage", "x")
        assert (answer.status, answer.code) == (500, "worker_crashed")

        store.replace("garbage")
        gateway.assert_serves("garbage")


def _unloaded(gateway: Gateway) -> None:
    gateway.ask("POST", "/admin/unload", b'{"model":"m"}')


def _crashed(gateway: Gateway) -> None:
    psutil.Process(gateway.worker_pid("m")).kill()


def _stopped(gateway: Gateway) -> None:
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(5) == 0


def _killed(gateway: Gateway) -> None:
    gateway.signal(signal.SIGKILL)


def _grandchildren(gateway: Gateway) -> list[psutil.Process]:
    return [process for process in gateway.processes() if process.name() == "sleep"]


@pytest.mark.parametrize("end", [_unloaded, _crashed, _stopped, _killed])
def test_what_a_worker_has_started_ends_with_it(
    short_dir: Path, store: ModelStore, end: Callable[[Gateway], None]
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        assert gateway.embed("m", "__grandchild__").status == 200
        # It has no name and no environment yet in the moment in which it becomes another program.
        until(lambda: _grandchildren(gateway))
        (grandchild,) = _grandchildren(gateway)
        end(gateway)
        until(lambda: not is_alive(grandchild), GONE_S, "the end of what a worker has started")


async def test_the_loop_is_not_held_up_by_any_of_this(short_dir: Path, store: ModelStore) -> None:
    """A canary of four requests a second to a model that nothing happens to."""
    store.add("m")
    store.add("canary")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("canary")
        took: list[float] = []
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:

            async def sing() -> None:
                while True:
                    body = {"model": "canary", "input": "tweet"}
                    response = await client.post("/v1/embeddings", json=body)
                    assert response.status_code == 200
                    took.append(response.elapsed.total_seconds())
                    await asyncio.sleep(0.02)

            song = asyncio.ensure_future(sing())
            await embed_all(gateway, "m", ["__crash__", "__stderr:2048__", "__nan__", "fine"])
            await async_until(lambda: len(took) > 20)
            song.cancel()

        assert max(took) < 1
