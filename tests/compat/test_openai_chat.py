"""The official openai client, unmodified, against chat models."""

import asyncio
from collections.abc import Callable, Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseFunctionToolCall, ResponseInputParam
from pydantic import BaseModel

from tests.compat.conftest import CHAT
from tests.process.gateways import Gateway

pytestmark = pytest.mark.compat

CALL = '__call:Look:{"a":1}__'


class Echo(BaseModel):
    echo: str


class Look(BaseModel):
    """Look a number up."""

    a: int


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def base_url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/v1"


@pytest.fixture
def client(chat_gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url(chat_gateway), api_key="any", max_retries=0) as client:
        yield client


# --- chat ----------------------------------------------------------------------------------------


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=CHAT, messages=user("hello world"))
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("echo: hello world", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert answer.system_fingerprint


def test_a_stream(client: openai.OpenAI) -> None:
    chunks = [
        *client.chat.completions.create(
            model=CHAT,
            messages=user("hello world"),
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == "echo: hello world"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [5]


def test_the_streaming_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=CHAT, messages=user("__think:a b__ hi"), logprobs=True, top_logprobs=2
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()
    (choice,) = answer.choices
    # A role that comes twice would be "assistantassistant".
    assert choice.message.role == "assistant"
    assert choice.message.content == "".join(deltas) == "echo: __think:a b__ hi"
    assert choice.message.model_extra is not None
    assert choice.message.model_extra["reasoning_content"] == "a b"
    assert choice.logprobs is not None
    assert [token.token for token in choice.logprobs.content or []] == deltas[1:]


def test_parsing(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model=CHAT, messages=user("hello"), response_format=Echo)
    assert answer.choices[0].message.parsed == Echo(echo="hello")
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model=CHAT, messages=user("one two"), response_format=Echo, max_completion_tokens=1
        )


def test_tools(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Look)]
    answer = client.chat.completions.parse(model=CHAT, messages=user(CALL), tools=tools)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Look(a=1)

    with client.chat.completions.stream(model=CHAT, messages=user(CALL), tools=tools) as stream:
        stream.until_done()
        (choice,) = stream.get_final_completion().choices
    (streamed,) = choice.message.tool_calls or []
    assert (streamed.function.name, streamed.function.parsed_arguments) == ("Look", Look(a=1))
    assert choice.finish_reason == "tool_calls"

    history: list[ChatCompletionMessageParam] = [
        *user(CALL),
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "Look", "arguments": call.function.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "42"},
    ]
    last = client.chat.completions.create(model=CHAT, messages=history, tools=tools)
    assert last.choices[0].message.content == "echo: 42"


def test_a_tool_that_has_to_be_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=CHAT,
        messages=user("q"),
        tools=[openai.pydantic_function_tool(Look)],
        tool_choice={"type": "function", "function": {"name": "Look"}},
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "Look"


def test_several_at_once_from_asynchronous_code(chat_gateway: Gateway) -> None:
    async def chats() -> list[str | None]:
        url = base_url(chat_gateway)
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:

            async def chat(number: int) -> str:
                stream = await client.chat.completions.create(
                    model=CHAT, messages=user(f"number {number}"), stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(chat(number) for number in range(16)))

    assert asyncio.run(chats()) == [f"echo: number {number}" for number in range(16)]


# --- completions ---------------------------------------------------------------------------------


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=CHAT, prompt=["a b", "c"], n=2, logprobs=1)
    texts = [choice.text for choice in answer.choices]
    assert texts == ["echo: a b", "echo 1: a b", "echo: c", "echo 1: c"]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.text_offset == [0, 6, 8]

    stream = client.completions.create(model=CHAT, prompt="x y", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "echo: x y"


# --- responses -----------------------------------------------------------------------------------


def test_a_response(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=CHAT, input="hello there", instructions="be brief")
    assert (answer.output_text, answer.status) == ("echo: hello there", "completed")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    cut = client.responses.create(model=CHAT, input="one two", max_output_tokens=2)
    assert (cut.status, cut.output_text) == ("incomplete", "echo: one ")


def test_a_streamed_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model=CHAT, input="__think:hm__ hi") as stream:
        events = [*stream]
        answer = stream.get_final_response()
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[0].type == "response.created"
    assert "".join(said) == answer.output_text == "echo: __think:hm__ hi"
    assert [item.type for item in answer.output] == ["reasoning", "message"]


def test_a_parsed_response(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model=CHAT, input="hello", text_format=Echo)
    assert answer.output_parsed == Echo(echo="hello")


def test_a_response_that_calls_and_is_answered(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model=CHAT,
        input=CALL,
        tools=[{"type": "function", "name": "Look", "parameters": {}, "strict": False}],
    )
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.arguments) == ("Look", '{"a":1}')
    items: ResponseInputParam = [
        {"role": "user", "content": "q"},
        {
            "type": "function_call",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments,
        },
        {"type": "function_call_output", "call_id": call.call_id, "output": "42"},
    ]
    assert client.responses.create(model=CHAT, input=items).output_text == "echo: 42"


def test_counting(client: openai.OpenAI) -> None:
    assert client.responses.input_tokens.count(model=CHAT, input="hello").input_tokens == 5


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"), [("", None), ("__too_long__", "context_length_exceeded")]
)
def test_errors_are_typed(client: openai.OpenAI, text: str, code: str | None) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.chat.completions.create(model=CHAT, messages=user(text) if text else []),
        lambda: client.responses.create(model=CHAT, input=text),
        lambda: client.completions.create(model=CHAT, prompt=text, stream=True),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError) as refused:
            call()
        assert refused.value.code == (code or "empty_input")


def test_a_death_in_the_middle_is_an_error(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=CHAT, messages=user("__words:5__ __crash_after:2__"), stream=True
    )
    with pytest.raises(openai.APIError) as died:
        for _ in stream:
            pass
    assert died.value.code == "model_unavailable"
