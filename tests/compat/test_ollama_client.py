"""The official ollama client, unmodified: a real download from a stand-in hub, and real vectors."""

import asyncio
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ollama
import openai
import pytest

from tests.engine import tiny
from tests.hub.faults import Fault
from tests.hub.repositories import HubRepository
from tests.hub.server import Hub
from tests.process.gateways import Gateway
from tests.process.homes import Home

pytestmark = [pytest.mark.compat, pytest.mark.engine]

REPO = "org/tiny"
# Two pulls write their progress with different speed; what is compared is what they end with.
LIMIT_S = 60


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tiny.build(tiny.LAYOUTS["mean"], tmp_path_factory.mktemp("tiny"))
    with Hub() as hub:
        for repo in (REPO, "org/second", "org/third"):
            hub.add(HubRepository.of_folder(repo, folder))
        yield hub


@pytest.fixture(scope="module")
def gateway(hub: Hub) -> Iterator[Gateway]:
    with Home() as home:
        env = hub.environment() | {"HF_HOME": str(home.path / "hf")}
        with Gateway(home.path, home.store, None, **env) as gateway:
            yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    with ollama.Client(host=url(gateway), timeout=LIMIT_S) as client:
        yield client


@pytest.fixture
def model(client: ollama.Client) -> str:
    """Installed by whoever needs it first."""
    assert client.pull(REPO).status == "success"
    return "tiny"


def url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


def names(client: ollama.Client) -> list[str | None]:
    return [model.model for model in client.list().models]


def test_the_life_of_a_model(client: ollama.Client, hub: Hub) -> None:
    told = list(client.pull("org/second", stream=True))
    assert told[0].status == "pulling manifest"
    assert told[-1].status == "success"
    progress = [line for line in told if line.digest]
    sizes = [len(file.content) for file in hub.repositories["org/second"].files.values()]
    assert progress[-1].total == sum(sizes)
    done = [line.completed or 0 for line in progress]
    assert done == sorted(done)
    assert done[-1] == sum(sizes)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", line.digest or "") for line in progress)
    assert "second" in names(client)

    # What is here already ends with the very same word.
    assert [*client.pull("org/second", stream=True)][-1].status == "success"

    one = client.embed("second", "a text")
    assert [len(vector) for vector in one.embeddings] == [tiny.WIDTH]
    client.copy("second", "another")
    assert client.embed("another", "a text").embeddings == one.embeddings
    client.delete("second")
    assert "second" not in names(client)
    assert client.embed("another", "a text").embeddings == one.embeddings
    client.delete("another")
    with pytest.raises(ollama.ResponseError) as gone:
        client.embed("another", "a text")
    assert gone.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as unknown:
        client.delete("another")
    assert unknown.value.status_code == 404


def test_list(client: ollama.Client, model: str) -> None:
    listed = next(each for each in client.list().models if each.model == model)

    assert listed.size is not None
    assert listed.size > 0
    assert len(listed.digest or "") == 64
    assert listed.modified_at is not None
    assert abs(datetime.now(UTC) - listed.modified_at) < timedelta(hours=1)
    assert listed.details is not None
    assert listed.details.family == "bert"
    assert listed.details.quantization_level == "F32"


def test_show(client: ollama.Client, model: str) -> None:
    for name in (model, REPO, f"{model}:latest"):
        shown = client.show(name)
        assert shown.modelinfo is not None
        assert shown.modelinfo["bert.embedding_length"] == tiny.WIDTH
        assert shown.modelinfo["general.source.repository"] == REPO
        assert shown.capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError) as unknown:
        client.show("no-such-model")
    assert unknown.value.status_code == 404
    assert "not found" in unknown.value.error


def test_ps_and_keep_alive(client: ollama.Client, model: str) -> None:
    for keep_alive, stays in (("5m", timedelta(minutes=5)), (7200, timedelta(hours=2))):
        client.embed(model, "a text", keep_alive=keep_alive)
        (loaded,) = (each for each in client.ps().models if each.model == model)
        assert loaded.expires_at is not None
        left = loaded.expires_at - datetime.now(UTC)
        assert stays - timedelta(seconds=30) < left <= stays
        assert loaded.context_length is not None
        assert loaded.size is not None
        assert loaded.size_vram is not None

    client.embed(model, "a text", keep_alive=-1)
    (loaded,) = (each for each in client.ps().models if each.model == model)
    assert loaded.expires_at is not None
    assert loaded.expires_at > datetime.now(UTC) + timedelta(days=3650)
    client.embed(model, keep_alive=0)
    waiting = (each.model for _ in range(1000) for each in client.ps().models)
    assert next((name for name in waiting if name != model), None) is None


def test_embed(client: ollama.Client, gateway: Gateway, model: str) -> None:
    answer = client.embed(model, ["a text", "", "another"])
    assert len(answer.embeddings) == 3
    for vector in answer.embeddings:
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-5)
    assert answer.prompt_eval_count
    assert answer.total_duration
    openai_client = openai.OpenAI(base_url=f"{url(gateway)}/v1", api_key="any", max_retries=0)
    with openai_client:
        same = openai_client.embeddings.create(
            model=model, input=["a text", "", "another"], encoding_format="float"
        )
    for one, other in zip(answer.embeddings, same.data, strict=True):
        assert list(one) == other.embedding
    alone = client.embeddings(model, "a text").embedding
    assert list(alone) == pytest.approx(list(answer.embeddings[0]), abs=1e-6)

    assert client.embed(model).embeddings == []
    short = client.embed(model, "a text", dimensions=4).embeddings[0]
    assert len(short) == 4
    assert math.isclose(math.hypot(*short), 1, abs_tol=1e-5)


def test_what_is_too_long_is_cut_or_refused(client: ollama.Client, model: str) -> None:
    long = "word " * 5000
    assert len(client.embed(model, long).embeddings) == 1
    with pytest.raises(ollama.ResponseError, match="exceeds the context length") as refused:
        client.embed(model, long, truncate=False)
    assert refused.value.status_code == 400


def test_a_pull_that_fails_raises(client: ollama.Client, hub: Hub) -> None:
    with pytest.raises(ollama.ResponseError) as plain:
        client.pull("org/absent")
    assert plain.value.status_code in (401, 404)
    with pytest.raises(ollama.ResponseError) as streamed:
        list(client.pull("org/absent", stream=True))
    assert isinstance(streamed.value.error, str)
    with pytest.raises(ollama.ResponseError) as unknown:
        client.pull("no-repository")
    assert unknown.value.status_code == 404
    assert "absent" not in names(client)


def test_pulls_at_once_share_one_download(gateway: Gateway, hub: Hub) -> None:
    hub.faults["model.safetensors"] = Fault(times=1, bytes_per_s=200_000)
    before = hub.file_bytes()
    size = sum(len(file.content) for file in hub.repositories["org/third"].files.values())

    async def all_at_once() -> list[ollama.ProgressResponse]:
        async with ollama.AsyncClient(host=url(gateway), timeout=LIMIT_S) as client:
            pulls = [client.pull("org/third") for _ in range(6)]
            return list(await asyncio.gather(*pulls))

    answers = asyncio.run(all_at_once())
    assert [answer.status for answer in answers] == ["success"] * 6
    assert hub.file_bytes() - before <= size * 1.05


def test_what_is_not_supported_is_told_in_words(client: ollama.Client, model: str) -> None:
    with pytest.raises(ollama.ResponseError, match="import"):
        client.create("mine", from_=model)
    with pytest.raises(ollama.ResponseError, match="published"):
        client.push(model)


def test_a_model_that_is_not_here_is_fetched_by_its_first_request(
    client: ollama.Client, hub: Hub, tmp_path: Path
) -> None:
    folder = tiny.build(tiny.LAYOUTS["mean"], tmp_path / "fetched")
    hub.add(HubRepository.of_folder("org/fetched", folder))

    assert len(client.embed("org/fetched", "a text").embeddings) == 1
    assert "fetched" in names(client)
