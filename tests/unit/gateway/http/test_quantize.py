"""POST /api/quantize: what is started, who joins, and what starts nothing."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import Config, ModelsConfig
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_gateway.jobs import Jobs
from tests.store import ModelStore
from tests.unit.gateway.fake_jobs import Runs
from tests.unit.gateway.fake_workers import settle
from tests.unit.gateway.http.asgi import Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway, Reply
from tests.unit.gateway.http.test_ollama_pull import Pulling

MODEL = "--model=tiny"


@pytest.fixture
def gateway(store: ModelStore, jobs: Jobs) -> Gateway:
    store.add("tiny", source="org/tiny")
    config = Config(models=ModelsConfig(directory=str(store.models_dir)))
    return Gateway(store, config, jobs)


async def quantizing(gateway: Gateway, **body: Any) -> Pulling:
    request = Pulling(gateway, "/api/quantize", **({"model": "tiny"} | body))
    await settle()
    return request


@pytest.mark.parametrize(
    ("body", "name", "scheme"),
    [
        ({"bits": 8}, "tiny-8bit", ("affine", 8, 64)),
        ({"bits": 4, "group_size": 32, "name": "작은"}, "작은", ("affine", 4, 32)),
        ({"mode": "mxfp4"}, "tiny-mxfp4", ("mxfp4", 4, 32)),
        ({"model": "ORG/tiny:latest", "mode": "mxfp8"}, "tiny-mxfp8", ("mxfp8", 8, 32)),
    ],
)
async def test_what_is_asked_for(
    gateway: Gateway, runs: Runs, body: dict[str, Any], name: str, scheme: tuple[str, int, int]
) -> None:
    request = await quantizing(gateway, **body)
    ((kind, model, new_name, *more),) = runs.started

    assert (kind, model, new_name) == ("quantize", MODEL, f"--name={name}")
    mode, bits, group_size = scheme
    assert more[2:] == [f"--mode={mode}", f"--bits={bits}", f"--group-size={group_size}"]
    assert gateway.services.jobs.is_working_on(name)
    await runs.end(MODEL)
    await request.lines()


async def test_it_is_told_as_it_goes_to_all_who_ask(gateway: Gateway, runs: Runs) -> None:
    requests = [await quantizing(gateway, bits=8) for _ in range(3)]
    runs.say[MODEL](JobEvent(status="quantizing", detail="a", total=9, completed=3))
    await settle()
    listed = await listed_jobs(gateway)
    await runs.end(MODEL)

    for request in requests:
        assert await request.lines() == [
            {"status": "quantizing", "total": 9, "completed": 3},
            {"status": "success"},
        ]
    assert len(runs.started) == 1
    (job,) = listed
    assert (job["kind"], job["model"], job["completed"]) == ("quantize", "tiny-8bit", 3)


async def listed_jobs(gateway: Gateway) -> list[dict[str, Any]]:
    scope = http_scope("/api/jobs", "GET")
    reply = Reply(**await response_of(gateway.app, scope, Client().receive))
    jobs: list[dict[str, Any]] = reply.json["jobs"]
    return jobs


async def test_a_failure_is_a_status_without_a_stream(gateway: Gateway, runs: Runs) -> None:
    request = await quantizing(gateway, bits=8, stream=False)
    await runs.end(MODEL, JobEvent(error="it is taken", code=ErrorCode.INVALID_REQUEST))

    reply = await request.reply()
    assert (reply.status, reply.json["error"]) == (400, "it is taken")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "8, the recommendation"),
        ({"bits": 5}, 400, "choose 4 or 8"),
        ({"bits": "8"}, 400, "bits"),
        ({"bits": 8, "group_size": 7}, 400, "choose 32, 64 or 128"),
        ({"mode": "gguf"}, 400, "no mode"),
        ({"mode": "mxfp4", "bits": 8}, 400, "always has 4 bits"),
        ({"bits": 8, "name": "../x"}, 400, "cannot be a model's name"),
        ({"bits": 8, "model": None}, 400, "model is required"),
        ({"bits": 8, "model": "absent"}, 404, "not found"),
    ],
)
async def test_what_cannot_be_done_starts_nothing(
    gateway: Gateway, runs: Runs, body: dict[str, Any], status: int, message: str
) -> None:
    reply = await (await quantizing(gateway, **body)).reply()

    assert (reply.status, runs.started) == (status, [])
    assert message in msgspec.json.decode(reply.body)["error"]
