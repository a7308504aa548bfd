"""The official ollama client, unmodified, chats with a model that says what a test wants."""

import asyncio
from collections.abc import Iterator

import ollama
import pytest

from tests.compat.conftest import CHAT
from tests.process.gateways import LIMIT_S, Gateway

pytestmark = pytest.mark.compat

HI = [{"role": "user", "content": "hello there"}]
SAID = "echo: hello there"


@pytest.fixture
def client(chat_gateway: Gateway) -> Iterator[ollama.Client]:
    with ollama.Client(host=url(chat_gateway), timeout=LIMIT_S) as client:
        yield client


def url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the one
        b: the other
    """
    return a + b


def test_chat(client: ollama.Client) -> None:
    answer = client.chat(CHAT, HI, options={"temperature": 0, "num_predict": -1})

    assert (answer.message.role, answer.message.content) == ("assistant", SAID)
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert answer.created_at
    assert answer.prompt_eval_count
    assert answer.eval_count
    assert answer.total_duration


def test_a_stream_is_the_whole(client: ollama.Client) -> None:
    parts = list(client.chat(CHAT, HI, stream=True))

    assert len(parts) > 2
    assert "".join(part.message.content or "" for part in parts) == SAID
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def test_tools(client: ollama.Client) -> None:
    asked = {"role": "user", "content": '__call:add:{"a": 1, "b": 2}__'}
    called = client.chat(CHAT, [asked], tools=[add]).message
    (call,) = called.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("add", {"a": 1, "b": 2})

    answer = {"role": "tool", "tool_name": "add", "content": str(add(**call.function.arguments))}
    assert client.chat(CHAT, [asked, called, answer], tools=[add]).message.content == "echo: 3"


@pytest.mark.parametrize("format", ["json", {"type": "object"}])
def test_format(client: ollama.Client, format: object) -> None:
    answer = client.chat(CHAT, HI, format=format)  # type: ignore[call-overload]
    assert answer.message.content == '{"echo": "hello there"}'


@pytest.mark.parametrize("think", [True, "low"])
def test_thinking(client: ollama.Client, think: object) -> None:
    asked = [{"role": "user", "content": "__think:a_while__"}]
    message = client.chat(CHAT, asked, think=think).message  # type: ignore[call-overload]
    assert message.thinking == "a_while"
    parts = client.chat(CHAT, asked, stream=True, think=think)  # type: ignore[call-overload]
    assert "".join(part.message.thinking or "" for part in parts) == "a_while"


def test_logprobs(client: ollama.Client) -> None:
    answer = client.chat(CHAT, HI, logprobs=True, top_logprobs=1)
    assert "".join(each.token for each in answer.logprobs or []) == SAID


def test_generate(client: ollama.Client) -> None:
    answer = client.generate(CHAT, "hello there", system="be kind")
    assert (answer.response, answer.done_reason) == (SAID, "stop")
    parts = list(client.generate(CHAT, "hello there", stream=True))
    assert "".join(part.response or "" for part in parts) == SAID


def test_loading_and_letting_go(client: ollama.Client) -> None:
    assert client.generate(CHAT, keep_alive="5m").done_reason == "load"
    assert client.chat(CHAT).done_reason == "load"
    assert CHAT in [model.model for model in client.ps().models]
    assert client.chat(CHAT, keep_alive=0).done_reason == "unload"


def test_errors(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as unknown:
        client.chat("absent", HI)
    assert unknown.value.status_code == 404
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="9000") as refused:
            list(client.generate(CHAT, "__too_long__", stream=stream))
        assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError) as died:
        list(client.chat(CHAT, [{"role": "user", "content": "__crash_after:1__ a"}], stream=True))
    assert isinstance(died.value.error, str)


def test_async(chat_gateway: Gateway) -> None:
    async def talk() -> tuple[str | None, str]:
        async with ollama.AsyncClient(host=url(chat_gateway), timeout=LIMIT_S) as client:
            whole = await client.chat(CHAT, HI)
            parts = [part async for part in await client.chat(CHAT, HI, stream=True)]
            return whole.message.content, "".join(part.message.content or "" for part in parts)

    assert asyncio.run(talk()) == (SAID, SAID)
