"""/v1/responses: what is made of a request, and what is refused."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.chat import Conversation, Delta, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Generate
from mlx_serve_gateway.http.responses_input import in_messages_shape
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, SIMPLE, TOOL, finish
from tests.unit.gateway.http.computing import Gateway, Reply

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FLAT_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": None}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
SHAPED_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"a":1}'},
}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
THOUGHT = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]}


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, chat=ABLE)
    store.add("simple", ModelKind.CHAT, chat=SIMPLE)
    gateway = Gateway(store)
    gateway.pool.says = [Delta("one"), Delta(finish=finish())]
    return gateway


async def create(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/responses", {"model": "m", "input": "hi"} | body)


async def generate(gateway: Gateway, **body: Any) -> tuple[Conversation, Sampling]:
    reply = await create(gateway, **body)
    assert reply.status == 200, reply
    part = gateway.pool.parts.pop()
    assert isinstance(part, Generate)
    assert isinstance(part.prompt, Conversation)
    return part.prompt, part.sampling


# --- items ---------------------------------------------------------------------------------------


def test_a_text_and_instructions() -> None:
    assert in_messages_shape("be brief", "hi") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_messages_with_and_without_a_type() -> None:
    parts = [{"type": "input_text", "text": "hi"}]
    given = [{"role": "developer", "content": "a"}, {"type": "message", "role": "user", "id": "x"}]
    assert in_messages_shape(None, [given[0], given[1] | {"content": parts}]) == [
        {"role": "developer", "content": "a"},
        {"role": "user", "content": parts},
    ]


def test_what_an_assistant_does_in_a_row_is_one_message() -> None:
    said = {"role": "assistant", "content": "let me see"}
    other = CALL | {"call_id": "c2"}
    assert in_messages_shape(None, [THOUGHT, said, CALL, other, RESULT]) == [
        said | {"reasoning_content": "hm", "tool_calls": [SHAPED_CALL, SHAPED_CALL | {"id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]


def test_calls_after_thoughts_only() -> None:
    assert in_messages_shape(None, [THOUGHT, CALL]) == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [SHAPED_CALL],
        }
    ]


def test_two_answers_are_two_messages() -> None:
    said = {"role": "assistant", "content": "a"}
    assert in_messages_shape(None, [said, THOUGHT, said]) == [
        said,
        said | {"reasoning_content": "hm"},
    ]
    assert in_messages_shape(None, [said, said]) == [said, said]


def test_thoughts_may_stand_in_the_content() -> None:
    given = {"type": "reasoning", "summary": [], "content": [{"type": "x", "text": "hm"}]}
    (message,) = in_messages_shape(None, [given])
    assert message["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"content": "no role"}, ErrorCode.INVALID_REQUEST),
        ({"type": "reasoning", "content": [5]}, ErrorCode.INVALID_REQUEST),
        ({"type": "reasoning", "content": "hm"}, ErrorCode.INVALID_REQUEST),
        ({"type": 5}, ErrorCode.INVALID_REQUEST),
        ("hi", ErrorCode.INVALID_REQUEST),
        ({"type": "item_reference", "id": "x"}, ErrorCode.UNSUPPORTED_PARAMETER),
        ({"type": "web_search_call"}, ErrorCode.UNSUPPORTED_PARAMETER),
    ],
)
def test_bad_items_are_named_by_their_place(item: Any, code: ErrorCode) -> None:
    with pytest.raises(ServeError) as refused:
        in_messages_shape("be", [{"role": "user", "content": "hi"}, item])
    assert (refused.value.code, refused.value.param) == (code, "input")
    assert refused.value.message.startswith("input[1]")


@pytest.mark.parametrize("given", ["", []])
def test_nothing_to_answer(given: Any) -> None:
    with pytest.raises(ServeError) as refused:
        in_messages_shape("be", given)
    assert refused.value.code is ErrorCode.EMPTY_INPUT


# --- the request ---------------------------------------------------------------------------------


async def test_what_agents_send(gateway: Gateway) -> None:
    items = [{"content": "hi", "role": "user"}, CALL, RESULT]
    asked, sampling = await generate(
        gateway, input=items, instructions="be", include=[], tools=[FLAT_TOOL], store=False,
        metadata={"a": "b"}, tool_choice="auto", prompt_cache_key="k", truncation="auto",
    )  # fmt: skip
    assert [message["role"] for message in asked.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert asked.messages[2]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert asked.tools == [TOOL]
    assert sampling == Sampling()


async def test_how_to_answer(gateway: Gateway) -> None:
    text = {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA, "strict": True}}
    asked, sampling = await generate(
        gateway, max_output_tokens=7, temperature=0.5, top_p=0.9, text=text,
        reasoning={"effort": "low", "summary": "auto"}, top_logprobs=2, tools=[FLAT_TOOL],
        tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False, keep_alive=60,
    )  # fmt: skip
    assert (asked.thinking, asked.effort) == (True, "low")
    assert (asked.forced, asked.is_parallel) == (["f"], False)
    assert sampling == Sampling(
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        json_schema=msgspec.json.encode(SCHEMA).decode(),
    )
    assert gateway.pool.ttl_s == 60


async def test_likelihoods_may_be_asked_for_by_include(gateway: Gateway) -> None:
    _, sampling = await generate(gateway, include=["message.output_text.logprobs"])
    assert sampling.top_logprobs == 0


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"text": {"verbosity": "low"}}, "text", "unsupported_parameter"),
        ({"text": {"format": {"type": "grammar"}}}, "text", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "invalid_request"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_request"),
        ({"input": ""}, "input", "empty_input"),
        ({"input": None}, "input", "invalid_request"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input", "invalid_request"),
        ({"input": [CALL | {"arguments": "[]"}]}, "input", "invalid_request"),
        ({"input": [CALL | {"name": None}]}, "input", "invalid_request"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input",
            "unsupported_parameter",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_request"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_request"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning", "invalid_request"),
        ({"model": "simple", "reasoning": {"effort": "low"}}, "reasoning", "unsupported_parameter"),
        ({"model": "simple", "tools": [FLAT_TOOL]}, "tools", "unsupported_parameter"),
    ],
)
async def test_refusals(gateway: Gateway, body: dict[str, Any], param: str, code: str) -> None:
    reply = await create(gateway, **body)
    assert (reply.status, reply.code, reply.param) == (400, code, param)
    assert gateway.pool.parts == []
