"""/api/chat and /api/generate on a real gateway: words as they come, loading, deaths."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest

from mlx_serve_common.models import ModelKind
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.process.ollama.asking import STRANGER, ask, loaded
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


@pytest.fixture
def model(store: ModelStore, name: str) -> str:
    store.add(name, ModelKind.CHAT, step_s=0.01)
    return name


def chat(gateway: Gateway, model: str, text: str, **more: Any) -> Answer:
    messages = [{"role": "user", "content": text}]
    return ask(gateway, "POST", "/api/chat", model=model, messages=messages, **more)


@contextmanager
def streaming(gateway: Gateway, model: str, prompt: str) -> Iterator[Iterator[dict[str, Any]]]:
    url = f"http://127.0.0.1:{gateway.port}/api/generate"
    body = {"model": model, "prompt": prompt}
    with httpx.stream("POST", url, json=body, timeout=LIMIT_S) as response:
        assert response.status_code == 200
        yield (msgspec.json.decode(line) for line in response.iter_lines())


def test_words_come_one_by_one_and_are_the_whole(gateway: Gateway, model: str) -> None:
    with streaming(gateway, model, "__words:20__") as lines:
        *said, last = lines
    whole = ask(
        gateway, "POST", "/api/generate", model=model, prompt="__words:20__", stream=False
    ).json

    assert len(said) > 1
    assert "".join(line["response"] for line in said) == whole["response"]
    assert (last["eval_count"], whole["eval_count"]) == (20, 20)
    assert last["load_duration"] > whole["load_duration"] == 0
    assert last["total_duration"] > last["load_duration"]


def test_a_conversation(gateway: Gateway, model: str) -> None:
    answer = chat(gateway, model, "hello", stream=False, options={"num_predict": 1})
    assert answer.json["message"]["content"] == "echo: "
    assert answer.json["done_reason"] == "length"
    assert chat(gateway, model, "q", stream=False, format="json").json["message"] == {
        "role": "assistant",
        "content": '{"echo": "q"}',
    }


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_loading_and_letting_go(gateway: Gateway, model: str, path: str) -> None:
    told = ask(gateway, "POST", path, model=model, keep_alive="1h").json
    assert (told["done"], told["done_reason"]) == (True, "load")
    assert loaded(gateway)[model]["state"] == "ready"

    assert ask(gateway, "POST", path, model=model, keep_alive=0).json["done_reason"] == "unload"
    until(lambda: model not in loaded(gateway))


def test_a_death_in_the_middle_ends_the_stream_with_an_error(gateway: Gateway, model: str) -> None:
    with streaming(gateway, model, "__crash_after:2__ a b c") as lines:
        *said, last = lines

    assert isinstance(last["error"], str)
    assert said
    assert not any("error" in line or line["done"] for line in said)
    assert chat(gateway, model, "still there", stream=False).status == 200


def test_who_leaves_stops_the_answer(gateway: Gateway, model: str) -> None:
    with streaming(gateway, model, "__words:100000__") as lines:
        next(lines)
        assert gateway.waiting() == 1

    until(lambda: gateway.waiting() == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_known_before_the_first_word_is_an_http_error(
    gateway: Gateway, model: str, stream: bool
) -> None:
    answer = chat(gateway, model, "__too_long__", stream=stream)

    assert answer.status == 400
    assert "9000" in answer.json["error"]
    assert answer.json["code"] == "context_length_exceeded"


def test_chatting_is_for_everybody(gateway: Gateway, model: str) -> None:
    body = {"model": model, "prompt": "q", "stream": False}
    assert ask(gateway, "POST", "/api/generate", STRANGER, **body).status == 200
