"""How many tokens a chat request has: in vLLM's shape, and in OpenAI's."""

from typing import Any

import pytest

from mlx_serve_common.chat import Conversation
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import TokenizeConversation
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, SIMPLE, TOOL
from tests.unit.gateway.http.computing import Gateway

HI = [{"role": "user", "content": "hi"}]
COUNT = {"object": "response.input_tokens", "input_tokens": 3}


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, chat=ABLE)
    store.add("simple", ModelKind.CHAT, chat=SIMPLE)
    store.add("e")
    return Gateway(store)


def counted(gateway: Gateway) -> Conversation:
    part = gateway.pool.part
    assert isinstance(part, TokenizeConversation)
    (conversation,) = part.conversations
    return conversation


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
async def test_vllm(gateway: Gateway, path: str) -> None:
    reply = await gateway.post(path, {"model": "m", "messages": HI, "tools": [TOOL]})
    assert reply.json == {
        "count": 3,
        "max_model_len": 512,
        "tokens": [5, 6, 7],
        "token_strs": None,
    }
    assert counted(gateway) == Conversation(HI, tools=[TOOL])


async def test_an_answer_that_is_begun(gateway: Gateway) -> None:
    begun = [*HI, {"role": "assistant", "content": "It is"}]
    body = {"model": "m", "messages": begun, "continue_final_message": True}
    assert (await gateway.post("/tokenize", body)).status == 200
    assert counted(gateway).continues


async def test_a_chat(gateway: Gateway) -> None:
    body = {"model": "m", "messages": HI, "reasoning_effort": "low", "max_tokens": 5}
    assert (await gateway.post("/v1/chat/completions/input_tokens", body)).json == COUNT
    assert counted(gateway) == Conversation(HI, thinking=True, effort="low")


async def test_a_response(gateway: Gateway) -> None:
    body = {"model": "m", "input": "hi", "instructions": "be"}
    assert (await gateway.post("/v1/responses/input_tokens", body)).json == COUNT
    assert counted(gateway).messages == [{"role": "system", "content": "be"}, *HI]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_input"),
        ({"messages": HI, "model": "e"}, "model", "model_type_mismatch"),
        ({"messages": HI, "model": None}, "model", "invalid_request"),
        ({"messages": HI, "model": "simple", "tools": [TOOL]}, "tools", "unsupported_parameter"),
        (
            {"messages": HI, "return_token_strs": True},
            "return_token_strs",
            "unsupported_parameter",
        ),
        (
            {"messages": HI, "add_special_tokens": True},
            "add_special_tokens",
            "unsupported_parameter",
        ),
    ],
)
async def test_refusals(gateway: Gateway, body: dict[str, Any], param: str, code: str) -> None:
    reply = await gateway.post("/tokenize", {"model": "m"} | body)
    assert (reply.status, reply.code, reply.param) == (400, code, param)
    assert gateway.pool.parts == []
