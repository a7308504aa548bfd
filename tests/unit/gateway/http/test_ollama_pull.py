"""POST /api/pull: the lines of a stream, its end, its listeners, and what cannot be pulled."""

import asyncio
from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import Config, ModelsConfig
from mlx_serve_common.conversion import Conversion, Scheme
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import ModelKind, Quality, encode_manifest
from mlx_serve_gateway.jobs import Jobs
from tests.store import ModelStore
from tests.unit.gateway.fake_jobs import SUCCESS, Runs
from tests.unit.gateway.fake_workers import settle
from tests.unit.gateway.http.asgi import Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway, Reply

DIGEST = "sha256:" + "ab12cd34ef56" + "0" * 52
REPO = "--repo=org/tiny"


@pytest.fixture
def gateway(store: ModelStore, jobs: Jobs) -> Gateway:
    config = Config(models=ModelsConfig(directory=str(store.models_dir)))
    return Gateway(store, config, jobs)


class Pulling:
    """A request in flight."""

    def __init__(self, gateway: Gateway, path: str = "/api/pull", **body: Any) -> None:
        self.client, self.scope = Client(msgspec.json.encode(body)), http_scope(path)
        response = response_of(gateway.app, self.scope, self.client.receive)
        self.task = asyncio.ensure_future(response)

    async def reply(self) -> Reply:
        return Reply(**await asyncio.wait_for(self.task, 5))

    async def lines(self) -> list[dict[str, Any]]:
        reply = await self.reply()
        assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
        assert reply.body.endswith(b"\n")
        return [msgspec.json.decode(line) for line in reply.body.splitlines()]


async def pulling(gateway: Gateway, **body: Any) -> Pulling:
    request = Pulling(gateway, **({"model": "org/tiny"} | body))
    await settle()
    return request


async def test_the_lines_are_ollamas(gateway: Gateway, runs: Runs) -> None:
    request = await pulling(gateway)
    for event in (
        JobEvent(status="resolving", detail="org/tiny"),
        JobEvent(status="downloading", detail="config.json", total=5, completed=5),
        JobEvent(status="downloading", digest=DIGEST, detail="x", total=9, completed=0, rate=3),
        JobEvent(status="downloading", digest=DIGEST, detail="x", total=9, completed=9),
        JobEvent(status="verifying", detail="config.json", total=9, completed=5),
        JobEvent(status="verifying", detail="loading the model"),
        JobEvent(status="quantizing"),
    ):
        runs.say[REPO](event)
        await settle()
    await runs.end(REPO, JobEvent(status="success", model="tiny"))

    assert await request.lines() == [
        {"status": "pulling manifest"},
        {"status": "pulling config.json", "total": 5, "completed": 5},
        {"status": "pulling ab12cd34ef56", "digest": DIGEST, "total": 9, "completed": 0},
        {"status": "pulling ab12cd34ef56", "digest": DIGEST, "total": 9, "completed": 9},
        {"status": "verifying", "total": 9, "completed": 5},
        {"status": "verifying: loading the model"},
        {"status": "quantizing"},
        {"status": "success"},
    ]


async def test_a_failure_is_the_last_line_and_no_other_has_an_error(
    gateway: Gateway, runs: Runs
) -> None:
    request = await pulling(gateway, stream=True)
    runs.say[REPO](JobEvent(status="resolving"))
    await settle()
    await runs.end(REPO, JobEvent(error="no such repository", code=ErrorCode.MODEL_NOT_FOUND))
    *normal, last = await request.lines()

    assert normal == [{"status": "pulling manifest"}]
    assert last == {
        "error": "no such repository",
        "type": "invalid_request_error",
        "code": "model_not_found",
    }


async def test_a_line_is_not_said_twice_in_a_row(gateway: Gateway, runs: Runs) -> None:
    request = await pulling(gateway)
    for waiting_for in ("the hub", "another process"):
        runs.say[REPO](JobEvent(status="resolving", detail=waiting_for))
        await settle()
    await runs.end(REPO)

    assert await request.lines() == [{"status": "pulling manifest"}, {"status": "success"}]


async def test_a_digest_that_is_none_is_left_out(gateway: Gateway, runs: Runs) -> None:
    request = await pulling(gateway)
    runs.say[REPO](JobEvent(status="downloading", digest="etag", detail="a", total=1, completed=1))
    await settle()
    await runs.end(REPO)

    assert "digest" not in (await request.lines())[0]


async def test_without_a_stream_there_is_one_answer_at_the_end(
    gateway: Gateway, runs: Runs
) -> None:
    request = await pulling(gateway, stream=False, insecure=False)
    runs.say[REPO](JobEvent(status="resolving"))
    await settle()
    assert not request.task.done()
    await runs.end(REPO)
    reply = await request.reply()

    assert (reply.status, reply.json) == (200, {"status": "success"})


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.MODEL_NOT_FOUND, 404),
        (ErrorCode.INVALID_MODEL, 400),
        (ErrorCode.INTERNAL_ERROR, 500),
        (None, 500),
    ],
)
async def test_without_a_stream_a_failure_is_a_status(
    gateway: Gateway, runs: Runs, code: ErrorCode | None, status: int
) -> None:
    request = await pulling(gateway, stream=False)
    await runs.end(REPO, JobEvent(error="it failed", code=code))
    reply = await request.reply()

    assert (reply.status, reply.json["error"]) == (status, "it failed")


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_ends_nothing_and_who_asks_again_joins(
    gateway: Gateway, runs: Runs, stream: bool
) -> None:
    leaving = await pulling(gateway, stream=stream)
    leaving.client.leave(leaving.scope)
    await settle()
    await asyncio.wait((leaving.task,), timeout=1)
    assert leaving.task.done()
    leaving.task.exception()
    runs.say[REPO](JobEvent(status="verifying"))
    again = await pulling(gateway)
    await runs.end(REPO)

    assert await again.lines() == [{"status": "verifying"}, {"status": "success"}]
    assert len(runs.started) == 1


async def test_all_who_ask_share_one_download(gateway: Gateway, runs: Runs) -> None:
    requests = [await pulling(gateway, stream=False) for _ in range(6)]
    await runs.end(REPO)

    assert [(await request.reply()).status for request in requests] == [200] * 6
    assert len(runs.started) == 1


@pytest.mark.parametrize(
    ("body", "repository"),
    [
        ({"model": "bge-small"}, "BAAI/bge-small-en-v1.5"),
        ({"model": "bge-small:latest"}, "BAAI/bge-small-en-v1.5"),
        ({"model": None, "name": "hf.co/org/other"}, "org/other"),
        ({"model": "org/other@v1"}, "org/other@v1"),
    ],
)
async def test_what_is_asked_for(
    gateway: Gateway, store: ModelStore, runs: Runs, body: dict[str, Any], repository: str
) -> None:
    request = await pulling(gateway, **body)
    ((kind, repo, *more),) = runs.started

    assert (kind, repo) == ("pull", f"--repo={repository}")
    assert more == [f"--models-dir={store.models_dir}", "--custom-models=custom_models"]
    await runs.end(repo, SUCCESS)
    await request.lines()


async def test_what_is_installed_is_asked_for_as_it_is(
    gateway: Gateway, store: ModelStore, runs: Runs
) -> None:
    conversion = Conversion(Scheme(64, 8, "affine"))
    manifest = store.add("other", source="org/original").manifest
    made = msgspec.structs.replace(manifest, name="here", conversion=conversion)
    store.add_raw("here", encode_manifest(made))
    request = await pulling(gateway, model="here:latest")
    ((_, repo, *more),) = runs.started

    assert repo == "--repo=org/original"
    assert more[2:] == ["--name=here", "--mode=affine", "--bits=8", "--group-size=64"]
    await runs.end(repo)
    await request.lines()


async def test_it_may_be_converted_on_arrival(gateway: Gateway, runs: Runs) -> None:
    first = await pulling(gateway, quantize="4bit", dtype="float16")
    assert runs.started[0][-4:] == (
        "--dtype=float16", "--mode=affine", "--bits=4", "--group-size=64",
    )  # fmt: skip
    again = await pulling(gateway, quantize="4bit", dtype="float16", stream=False)
    assert len(runs.started) == 1
    quality = Quality(texts=100, mean_cosine=0.99, min_cosine=0.98, rank_correlation=0.97)
    success = JobEvent(
        status="success", model="tiny-fp16-4bit", original_size=9, quantized_size=3, quality=quality
    )
    await runs.end(REPO, success)

    (line,) = await first.lines()
    assert line.items() >= {"status": "success", "model": "tiny-fp16-4bit"}.items()
    assert line["quality"]["mean_cosine"] == 0.99
    assert (await again.reply()).json == line
    (job,) = gateway.services.jobs.all()
    assert job.request.model == "tiny-fp16-4bit"


async def test_the_kind_may_be_said(gateway: Gateway, runs: Runs) -> None:
    request = await pulling(gateway, type="reranker")
    assert runs.started[0][-1] == f"--type={ModelKind.RERANKER}"
    other = await pulling(gateway, type="embedding")

    assert (await other.reply()).status == 409
    await runs.end(REPO)
    await request.lines()


async def test_the_name_may_be_said(gateway: Gateway, runs: Runs) -> None:
    first = await pulling(gateway, install_as="mine")
    assert runs.started[0][-1] == "--name=mine"
    await runs.end(REPO)
    await first.lines()
    refused = await pulling(gateway, install_as="../mine")

    assert (await refused.reply()).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": None}, 400),
        ({"model": ""}, 400),
        ({"model": "absent"}, 404),
        ({"model": "../../etc"}, 404),
        ({"model": "-rf/x"}, 404),
        ({"model": "a/b/c"}, 404),
        ({"model": "x" * 10_000}, 404),
        ({"model": "imported"}, 400),
        ({"type": "poem"}, 400),
        ({"quantize": "5bit"}, 400),
        ({"quantize": 4}, 400),
        ({"dtype": "float8"}, 400),
        ({"stream": "yes"}, 400),
    ],
)
async def test_what_cannot_be_pulled_starts_nothing(
    gateway: Gateway, store: ModelStore, runs: Runs, body: dict[str, Any], status: int
) -> None:
    store.add("imported")
    reply = await (await pulling(gateway, **body)).reply()

    assert reply.status == status
    assert isinstance(reply.json["error"], str)
    assert len(reply.body) < 500
    assert runs.started == []


async def test_the_list_of_jobs(gateway: Gateway, runs: Runs) -> None:
    request = await pulling(gateway)
    event = JobEvent(status="downloading", digest=DIGEST, detail="x", total=9, completed=4, rate=2)
    runs.say[REPO](event)

    async def listed() -> dict[str, Any]:
        response = await response_of(gateway.app, http_scope("/api/jobs", "GET"), Client().receive)
        (job,) = msgspec.json.decode(response["body"])["jobs"]
        return dict(job)

    running = await listed()
    assert running.items() >= {
        "kind": "pull", "model": "tiny", "state": "running", "status": "downloading",
        "total": 9, "completed": 4, "rate": 2,
    }.items()  # fmt: skip
    assert "error" not in running
    await runs.end(REPO, JobEvent(error="no", code=ErrorCode.UPSTREAM_ERROR))
    await request.lines()
    ended = await listed()
    assert (ended["state"], ended["error"], ended["code"]) == ("failed", "no", "upstream_error")
    assert ended["ended_at"] >= ended["started_at"]
    assert "rate" not in ended
