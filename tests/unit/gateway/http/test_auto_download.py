"""A request that names a model which is not here: who gets it, who waits, who is told what."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import Config, ModelsConfig, ServerConfig
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway import downloads
from mlx_serve_gateway.jobs import Jobs
from tests.store import ModelStore
from tests.unit.gateway.fake_jobs import Runs
from tests.unit.gateway.fake_workers import settle
from tests.unit.gateway.http.asgi import Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway, Reply

REPO = "--repo=org/tiny"
ALIAS = "--repo=BAAI/bge-small-en-v1.5"
STRANGER = ("10.0.0.9", 99)
KEY = "correct-horse"
FAILURE = JobEvent(error="no such repository", code=ErrorCode.MODEL_NOT_FOUND)


class Asking:
    """A request in flight."""

    def __init__(
        self,
        gateway: Gateway,
        path: str,
        body: dict[str, Any],
        headers: Sequence[tuple[bytes, bytes]] = (),
        client: tuple[str, int] = ("127.0.0.1", 5000),
    ) -> None:
        self.client = Client(msgspec.json.encode(body))
        self.scope = http_scope(path, headers=headers, client=client)
        response = response_of(gateway.app, self.scope, self.client.receive)
        self.task = asyncio.ensure_future(response)

    async def reply(self) -> Reply:
        return Reply(**await asyncio.wait_for(self.task, 5))


def make_gateway(store: ModelStore, jobs: Jobs, **models: Any) -> Gateway:
    config = Config(
        server=ServerConfig(admin_key=KEY),
        models=ModelsConfig(directory=str(store.models_dir), **models),
    )
    return Gateway(store, config, jobs)


async def embedding(gateway: Gateway, model: str = "org/tiny", **more: Any) -> Asking:
    asking = Asking(gateway, "/v1/embeddings", {"model": model, "input": "a"}, **more)
    await settle()
    return asking


async def installed(store: ModelStore, runs: Runs, repo: str = REPO, name: str = "tiny") -> None:
    store.add(name, source=repo.removeprefix("--repo="))
    await runs.end(repo, JobEvent(status="success", model=name))


async def test_it_is_fetched_and_then_served(store: ModelStore, jobs: Jobs, runs: Runs) -> None:
    gateway = make_gateway(store, jobs)
    asking = await embedding(gateway)
    assert not asking.task.done()
    await installed(store, runs)
    reply = await asking.reply()

    assert reply.status == 200
    assert reply.json["model"] == "tiny"
    assert (await (await embedding(gateway)).reply()).status == 200
    assert len(runs.started) == 1


@pytest.mark.parametrize("name", ["bge-small", "bge-small:latest", "BAAI/bge-small-en-v1.5"])
async def test_an_alias_will_do(store: ModelStore, jobs: Jobs, runs: Runs, name: str) -> None:
    asking = await embedding(make_gateway(store, jobs), name)
    await installed(store, runs, ALIAS, "bge-small-en-v1.5")

    assert (await asking.reply()).json["model"] == "bge-small-en-v1.5"


async def test_all_who_ask_wait_for_one_download(store: ModelStore, jobs: Jobs, runs: Runs) -> None:
    gateway = make_gateway(store, jobs)
    requests = [await embedding(gateway) for _ in range(20)]
    requests.append(Asking(gateway, "/api/embed", {"model": "org/tiny", "input": "a"}))
    requests.append(Asking(gateway, "/v1/tokenize", {"model": "org/tiny", "input": "a"}))
    requests.append(Asking(gateway, "/embed", {"model": "org/tiny", "inputs": "a"}))
    await settle()
    await installed(store, runs)

    assert {(await request.reply()).status for request in requests} == {200}
    assert len(runs.started) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/v1/score", {"text_1": "a", "text_2": "b"}),
    ],
)
async def test_rerankers_too(
    store: ModelStore, jobs: Jobs, runs: Runs, path: str, body: dict[str, Any]
) -> None:
    asking = Asking(make_gateway(store, jobs), path, {"model": "org/tiny"} | body)
    await settle()
    store.add("tiny", ModelKind.RERANKER, source="org/tiny")
    await runs.end(REPO, JobEvent(status="success", model="tiny"))

    assert (await asking.reply()).status == 200


async def test_what_turns_out_to_be_something_else_is_told(
    store: ModelStore, jobs: Jobs, runs: Runs
) -> None:
    asking = await embedding(make_gateway(store, jobs))
    store.add("tiny", ModelKind.RERANKER, source="org/tiny")
    await runs.end(REPO, JobEvent(status="success", model="tiny"))
    reply = await asking.reply()

    assert (reply.status, reply.code) == (400, "model_type_mismatch")


async def test_a_slow_one_is_told_to_come_back_while_it_goes_on(
    store: ModelStore, jobs: Jobs, runs: Runs
) -> None:
    gateway = make_gateway(store, jobs, auto_download_timeout=0.02)
    asking = await embedding(gateway)
    runs.say[REPO](JobEvent(status="downloading", detail="x", total=200, completed=86))
    reply = await asking.reply()

    assert (reply.status, reply.code) == (503, "model_loading")
    assert int(reply.headers["retry-after"]) >= 1
    assert "downloading 43 %" in reply.json["detail"]
    await installed(store, runs)
    assert (await (await embedding(gateway)).reply()).status == 200
    assert len(runs.started) == 1


async def test_who_leaves_does_not_end_it(store: ModelStore, jobs: Jobs, runs: Runs) -> None:
    gateway = make_gateway(store, jobs)
    leaving, staying = await embedding(gateway), await embedding(gateway)
    leaving.client.leave(leaving.scope)
    assert (await leaving.reply()).status == 499
    await installed(store, runs)

    assert (await staying.reply()).status == 200


async def test_a_failure_is_told_and_not_repeated_at_once(
    store: ModelStore, jobs: Jobs, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway(store, jobs)
    asking = await embedding(gateway)
    await runs.end(REPO, FAILURE)
    again = await embedding(gateway)
    for request in (asking, again):
        reply = await request.reply()
        assert (reply.status, reply.code) == (404, "model_not_found")
        assert reply.json["detail"] == "no such repository"
    assert len(runs.started) == 1

    monkeypatch.setattr(downloads, "PAUSE_S", 0.0)
    later = await embedding(gateway)
    assert len(runs.started) == 2
    await installed(store, runs)
    assert (await later.reply()).status == 200


async def test_the_servers_stop_is_told(store: ModelStore, jobs: Jobs, runs: Runs) -> None:
    asking = await embedding(make_gateway(store, jobs))
    jobs.request_stop()
    reply = await asking.reply()

    assert (reply.status, reply.code) == (503, "shutting_down")


# --- who may not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"client": STRANGER},
        {"client": STRANGER, "headers": [(b"authorization", b"Bearer wrong-key")]},
        {"headers": [(b"x-forwarded-for", b"127.0.0.1")]},
    ],
)
async def test_a_stranger_gets_nothing_and_is_told_nothing(
    store: ModelStore, jobs: Jobs, runs: Runs, more: dict[str, Any]
) -> None:
    gateway = make_gateway(store, jobs)
    for name in ("org/tiny", "bge-small", "no-such-name"):
        reply = await (await embedding(gateway, name, **more)).reply()
        assert (reply.status, reply.code) == (404, "model_not_found")
        assert "pull" not in reply.json["detail"]
    assert runs.started == []


async def test_a_stranger_with_the_key_is_none(store: ModelStore, jobs: Jobs, runs: Runs) -> None:
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    asking = await embedding(make_gateway(store, jobs), client=STRANGER, headers=headers)
    await installed(store, runs)

    assert (await asking.reply()).status == 200


@pytest.mark.parametrize("off", ["auto_download", "auto_download_on_request"])
async def test_where_it_is_off_it_is_told_how_to_get_it(
    store: ModelStore, jobs: Jobs, runs: Runs, off: str
) -> None:
    reply = await (await embedding(make_gateway(store, jobs, **{off: False}), "bge-small")).reply()

    assert (reply.status, reply.code) == (404, "model_not_found")
    assert "mlx-serve pull BAAI/bge-small-en-v1.5" in reply.json["detail"]
    assert runs.started == []


@pytest.mark.parametrize(
    "name", ["tiny", "../../etc", "a/b/c", "org/tiny@main", "-x/y", "", "x" * 10_000]
)
async def test_what_is_no_repository_is_just_not_found(
    store: ModelStore, jobs: Jobs, runs: Runs, name: str
) -> None:
    reply = await (await embedding(make_gateway(store, jobs), name)).reply()

    assert (reply.status, reply.code) == (404, "model_not_found")
    assert runs.started == []
