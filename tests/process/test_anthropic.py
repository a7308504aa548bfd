"""/v1/messages on a real gateway: events as they come, deaths, departures, counting."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from mlx_serve_common.models import ModelKind
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.process.homes import Home
from tests.waiting import until

pytestmark = pytest.mark.process

HEADERS = {"anthropic-version": "2023-06-01", "x-api-key": "any", "anthropic-beta": "odd-2026"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("m", ModelKind.CHAT, step_s=0.01)
        with Gateway(home.path, home.store) as gateway:
            yield gateway


def body(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "max_tokens": 100_000,
        "messages": [{"role": "user", "content": text}],
    } | more


def create(gateway: Gateway, text: str, **more: Any) -> Answer:
    content = msgspec.json.encode(body(text, **more))
    return gateway.ask("POST", "/v1/messages?beta=true", content, HEADERS)


def events(answer: Answer) -> list[dict[str, Any]]:
    data = [line for line in answer.body.splitlines() if line.startswith(b"data: ")]
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in data]


def test_a_stream_is_the_whole(gateway: Gateway) -> None:
    whole = create(gateway, "a b c").json
    streamed = events(create(gateway, "a b c", stream=True))
    said = [event["delta"]["text"] for event in streamed if event["type"] == "content_block_delta"]

    assert whole["content"] == [{"type": "text", "text": "echo: a b c"}]
    assert "".join(said) == "echo: a b c"
    assert len(said) > 1
    assert streamed[-1] == {"type": "message_stop"}


def test_a_forced_tool_is_called(gateway: Gateway) -> None:
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    told = create(gateway, "q", tools=tools, tool_choice={"type": "tool", "name": "look"}).json

    (call,) = told["content"]
    assert (call["name"], call["input"], told["stop_reason"]) == ("look", {}, "tool_use")


def test_a_death_in_the_middle_is_an_event(gateway: Gateway) -> None:
    streamed = events(create(gateway, "__crash_after:2__ a b c", stream=True))

    assert streamed[-1]["type"] == "error"
    assert streamed[-1]["error"]["type"] == "overloaded_error"
    assert create(gateway, "still there").status == 200


def test_who_leaves_stops_the_answer(gateway: Gateway) -> None:
    url = f"http://127.0.0.1:{gateway.port}/v1/messages"
    asked = body("__words:100000__", stream=True)
    with httpx.stream("POST", url, json=asked, timeout=LIMIT_S) as response:
        lines = (
            response.iter_lines()
        )  # without a name it would end here, and the connection with it
        next(lines)
        assert gateway.waiting() == 1

    until(lambda: gateway.waiting() == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_known_before_the_first_word_is_an_http_error(
    gateway: Gateway, stream: bool
) -> None:
    answer = create(gateway, "__too_long__", stream=stream)

    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_a_path_that_is_not_there(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/v1/messages/batches")
    assert answer.json["error"]["type"] == "not_found_error"


def test_counting(gateway: Gateway) -> None:
    asked = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
    answer = gateway.ask("POST", "/v1/messages/count_tokens", asked, HEADERS)
    assert (answer.status, answer.json) == (200, {"input_tokens": 5})
