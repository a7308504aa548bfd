"""OpenAI's chat endpoints on a real gateway: streams, deaths, departures, many prompts."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import Config
from mlx_serve_common.models import ModelKind
from tests.process.clients import RawClient
from tests.process.gateways import Answer, Gateway
from tests.process.homes import Home
from tests.waiting import until

pytestmark = pytest.mark.process

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ENDLESS = "__words:100000__"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("m", ModelKind.CHAT, step_s=0.01)
        with Gateway(home.path, home.store) as gateway:
            yield gateway


def body(path: str, text: str, **more: Any) -> dict[str, Any]:
    asked: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "user", "content": text}]},
        COMPLETIONS: {"prompt": text, "max_tokens": 10**6},
        RESPONSES: {"input": text},
    }
    return {"model": "m"} | asked[path] | more


def ask(gateway: Gateway, path: str, text: str, **more: Any) -> Answer:
    return gateway.ask("POST", path, msgspec.json.encode(body(path, text, **more)))


def begin(gateway: Gateway, path: str, text: str, **more: Any) -> RawClient:
    """Ask without waiting for the answer."""
    content = msgspec.json.encode(body(path, text, **more))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    client = RawClient(gateway)
    client.send(head.encode(), b"Content-Length: %d\r\n\r\n" % len(content), content)
    return client


def events(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer
    lines = [line for line in answer.body.splitlines() if line.startswith(b"data: ")]
    data = [line.removeprefix(b"data: ") for line in lines]
    return [msgspec.json.decode(each) for each in data if each != b"[DONE]"]


def whole_text(path: str, answer: Any) -> str:
    match path:
        case "/v1/chat/completions":
            text = answer["choices"][0]["message"]["content"]
        case "/v1/completions":
            text = answer["choices"][0]["text"]
        case _:
            text = answer["output"][0]["content"][0]["text"]
    return str(text)


def streamed_texts(path: str, told: list[Any]) -> list[str]:
    match path:
        case "/v1/chat/completions":
            found = [event["choices"][0]["delta"].get("content") for event in told]
        case "/v1/completions":
            found = [event["choices"][0]["text"] for event in told]
        case _:
            found = [event.get("delta") for event in told]
    return [text for text in found if text]


def error_of(event: Any) -> Any:
    return event["response"]["error"] if "response" in event else event["error"]


@pytest.fixture(params=[CHAT, COMPLETIONS, RESPONSES])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_stream_is_the_whole(gateway: Gateway, path: str) -> None:
    whole = whole_text(path, ask(gateway, path, "a 한국어 c").json)
    streamed = streamed_texts(path, events(ask(gateway, path, "a 한국어 c", stream=True)))

    assert whole == "".join(streamed) == "echo: a 한국어 c"
    assert len(streamed) > 1


def test_what_is_known_before_the_first_word_is_an_http_error(gateway: Gateway, path: str) -> None:
    for stream in (True, False):
        answer = ask(gateway, path, "__too_long__", stream=stream)
        assert (answer.status, answer.code) == (400, "context_length_exceeded")


def test_a_death_in_the_middle_is_told(gateway: Gateway, path: str) -> None:
    model = mortal(gateway, path)
    told = events(ask(gateway, path, "__words:9__ __crash_after:2__", model=model, stream=True))

    assert streamed_texts(path, told[:-1]) == ["word0 ", "word1 "]
    assert error_of(told[-1])["code"] == "model_unavailable"
    assert ask(gateway, path, "still there", model=model).status == 200


def test_every_stream_of_a_killed_worker_ends_with_an_error(gateway: Gateway) -> None:
    model = mortal(gateway, "killed")
    listeners = [begin(gateway, CHAT, ENDLESS, model=model, stream=True) for _ in range(3)]
    heard = [_until_first_word(listener) for listener in listeners]
    os.kill(gateway.worker_pid(model), signal.SIGKILL)
    for before, listener in zip(heard, listeners, strict=True):
        # Those that a death interrupts may ask again at once.
        assert b'"code":"model_unavailable"' in before + listener.hear()
        listener.leave()
    assert ask(gateway, CHAT, "still there", model=model).status == 200


def test_tokens_are_counted_while_every_place_is_taken(gateway: Gateway) -> None:
    model = mortal(gateway, "crowded")
    crowd = Config().chat.max_sequences + 1
    listeners = [begin(gateway, CHAT, ENDLESS, model=model) for _ in range(crowd)]
    until(lambda: gateway.waiting() == crowd)
    asked = {"model": model, "messages": [{"role": "user", "content": "abc"}]}
    counted = gateway.ask("POST", "/v1/messages/count_tokens", msgspec.json.encode(asked))

    assert counted.json == {"input_tokens": 3}
    assert gateway.waiting() == crowd
    for listener in listeners:
        listener.leave()
    until(lambda: gateway.waiting() == 0)


def _until_first_word(listener: RawClient) -> bytes:
    heard = b""
    while b"word0" not in heard:
        heard += listener.hear_some()
    return heard


def mortal(gateway: Gateway, name: str) -> str:
    """Another model: one that dies often is not started again."""
    return gateway.store.add(name.replace("/", "-"), ModelKind.CHAT, step_s=0.01).name


@pytest.mark.parametrize("text", [ENDLESS, "__prefill:100000__"], ids=["saying", "reading"])
@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_stops_the_answer(gateway: Gateway, path: str, text: str, stream: bool) -> None:
    client = begin(gateway, path, text, stream=stream)
    until(lambda: gateway.waiting() == 1)
    client.leave()
    until(lambda: gateway.waiting() == 0)


def test_prompts_of_one_request_are_answered_together(gateway: Gateway) -> None:
    texts = [f"number {number}" for number in range(20)]
    told = ask(gateway, COMPLETIONS, "", prompt=texts, n=2).json
    assert [choice["text"] for choice in told["choices"]] == [
        said for text in texts for said in (f"echo: {text}", f"echo 1: {text}")
    ]


def test_one_bad_prompt_leaves_nothing_behind(gateway: Gateway) -> None:
    answer = ask(gateway, COMPLETIONS, "", prompt=[ENDLESS, "__too_long__"])
    assert answer.code == "context_length_exceeded"
    until(lambda: gateway.waiting() == 0)


def test_several_answers(gateway: Gateway) -> None:
    told = ask(gateway, CHAT, "a", n=3).json
    texts = [choice["message"]["content"] for choice in told["choices"]]
    assert texts == ["echo: a", "echo 1: a", "echo 2: a"]


def test_a_very_long_conversation(gateway: Gateway) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] * 2048
    assert ask(gateway, CHAT, "", messages=messages).json["usage"]["prompt_tokens"] > 0


def test_counting(gateway: Gateway) -> None:
    asked = body(CHAT, "hello")
    count = gateway.ask("POST", f"{CHAT}/input_tokens", msgspec.json.encode(asked))
    tokens = gateway.ask("POST", "/tokenize", msgspec.json.encode(asked))
    assert count.json["input_tokens"] == 5
    assert tokens.json["tokens"] == [*b"hello"]
