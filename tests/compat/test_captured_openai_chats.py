"""The very requests that clients of OpenAI's chat APIs send, as they were captured.

LangChain, LlamaIndex, haystack, LiteLLM and openai-agents are too heavy to install for every run of
the tests; their requests are not.
"""

from typing import Any

import msgspec
import pytest

from tests.compat.conftest import CHAT
from tests.process.gateways import Gateway

pytestmark = pytest.mark.compat

HELLO = [{"role": "user", "content": "hello"}]
CALL = '__call:get_weather:{"city":"Paris"}__'
PARAMETERS = {
    "properties": {"city": {"title": "City", "type": "string"}},
    "required": ["city"],
    "type": "object",
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "description": "Weather", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]
STRICT_TOOLS = [{"type": "function", "function": FUNCTION | {"strict": True}}]
ECHO = {
    "description": "An echo.",
    "properties": {"echo": {"title": "Echo", "type": "string"}},
    "required": ["echo"],
    "title": "Echo",
    "type": "object",
    "additionalProperties": False,
}
AS_ECHO = {
    "type": "json_schema",
    "json_schema": {"schema": ECHO, "name": "Echo", "strict": True},
}
ASKED = {"role": "user", "content": CALL}
ARGUMENTS = '{"city": "Paris"}'
CALLED = {"id": "81e8b348b", "type": "function"} | {
    "function": {"name": "get_weather", "arguments": ARGUMENTS}
}
SUNNY = {"role": "tool", "content": "sunny", "tool_call_id": "81e8b348b"}

CHATS: dict[str, tuple[dict[str, Any], str]] = {
    "langchain": ({"messages": HELLO, "stream": False}, "echo: hello"),
    "langchain, with everything": (
        {
            "messages": [{"content": "s", "role": "system"}, *HELLO], "max_completion_tokens": 9,
            "n": 1, "seed": 3, "stop": ["x"], "temperature": 0.1, "stream": True,
            "stream_options": {"include_usage": True},
        },
        "echo: hello",
    ),
    "langchain, structured": ({"messages": HELLO, "response_format": AS_ECHO}, '{"echo": "hello"}'),
    "langchain, a tool's answer": (
        {
            "messages": [
                ASKED, {"content": None, "role": "assistant", "tool_calls": [CALLED]}, SUNNY,
            ],
            "tools": TOOLS, "stream": False,
        },
        "echo: sunny",
    ),
    "llamaindex": ({"messages": HELLO, "stream": True, "temperature": 0.1}, "echo: hello"),
    "haystack": (
        {"messages": HELLO, "max_completion_tokens": 5, "n": 1, "stream": True}, "echo: hello",
    ),
    "haystack, a tool's answer": (
        {
            "messages": [ASKED, {"role": "assistant", "tool_calls": [CALLED]}, SUNNY],
            "n": 1, "stream": False, "tools": TOOLS,
        },
        "echo: sunny",
    ),
    "litellm": ({"messages": HELLO}, "echo: hello"),
    "litellm hosted_vllm": ({"messages": HELLO, "reasoning_effort": "low"}, "echo: hello"),
    "agents": (
        {
            "messages": [
                {"content": "be", "role": "system"}, ASKED,
                {"role": "assistant", "content": None, "tool_calls": [CALLED]}, SUNNY,
            ],
            "stream": True, "tools": STRICT_TOOLS,
        },
        "echo: sunny",
    ),
}  # fmt: skip

CALLING: dict[str, dict[str, Any]] = {
    "langchain": {"tools": TOOLS, "stream": False},
    "langchain, forced": {
        "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    },
    "langchain, any": {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False},
    "llamaindex": {
        "parallel_tool_calls": False, "stream": True, "temperature": 0.1, "tool_choice": "auto",
        "tools": [{"type": "function", "function": FUNCTION | {"strict": False}}],
    },
    "litellm": {"tool_choice": "auto", "tools": TOOLS},
    "haystack": {"n": 1, "stream": False, "tools": TOOLS},
}  # fmt: skip

COMPLETIONS: dict[str, dict[str, Any]] = {
    "langchain": {
        "prompt": ["hello"], "frequency_penalty": 0, "logprobs": None, "max_tokens": 256, "n": 1,
        "presence_penalty": 0, "seed": None, "temperature": 0.7, "top_p": 1,
    },
    "llamaindex": {"prompt": "hello", "stream": False, "temperature": 0.1},
    "litellm": {"prompt": "hello"},
}  # fmt: skip

FLAT_TOOL = FUNCTION | {"strict": True, "type": "function"}
FLAT_CALL = {
    "type": "function_call", "id": "fc_97435f99", "call_id": "66b670886", "name": "get_weather",
    "arguments": ARGUMENTS, "status": "completed",
}  # fmt: skip
FLAT_SUNNY = {"type": "function_call_output", "call_id": "66b670886", "output": "sunny"}
THOUGHT = {
    "type": "reasoning", "id": "rs_625dd1ed", "status": "completed",
    "summary": [{"text": "hm well", "type": "summary_text"}],
}  # fmt: skip
RESPONSES: dict[str, tuple[dict[str, Any], str]] = {
    "agents": (
        {"include": [], "input": HELLO, "instructions": "be", "tools": []}, "echo: hello",
    ),
    "agents, structured": (
        {
            "include": [], "input": HELLO, "tools": [],
            "text": {
                "format": {
                    "type": "json_schema", "name": "final_output", "schema": ECHO, "strict": True,
                }
            },
        },
        '{"echo": "hello"}',
    ),
    "agents, a tool's answer": (
        {
            "include": [], "instructions": "be", "stream": True, "tools": [FLAT_TOOL],
            "input": [ASKED, THOUGHT, FLAT_CALL, FLAT_SUNNY],
        },
        "echo: sunny",
    ),
    "langchain": (
        {"input": [HELLO[0] | {"type": "message"}], "stream": False}, "echo: hello",
    ),
    "litellm": ({"input": "hello", "max_output_tokens": 16}, "echo: hello"),
}  # fmt: skip


def told(gateway: Gateway, path: str, body: dict[str, Any]) -> list[Any]:
    """Every object of a stream, or the one of a whole answer."""
    content = msgspec.json.encode({"model": CHAT} | body)
    answer = gateway.ask("POST", path, content, {"content-type": "application/json"})
    assert answer.status == 200, answer
    if not body.get("stream"):
        return [answer.json]
    lines = [line for line in answer.body.splitlines() if line.startswith(b"data: {")]
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines]


def said(answers: list[Any]) -> list[Any]:
    """The messages, or what was said of them at once."""
    choices = [choice for answer in answers for choice in answer["choices"]]
    return [choice.get("message") or choice["delta"] for choice in choices]


@pytest.mark.parametrize("client", CHATS)
def test_chats(client: str, chat_gateway: Gateway) -> None:
    body, expected = CHATS[client]
    messages = said(told(chat_gateway, "/v1/chat/completions", body))
    assert "".join(message.get("content") or "" for message in messages) == expected


@pytest.mark.parametrize("client", CALLING)
def test_calls(client: str, chat_gateway: Gateway) -> None:
    body = CALLING[client]
    messages = said(told(chat_gateway, "/v1/chat/completions", {"messages": [ASKED]} | body))
    (call,) = [call for message in messages for call in message.get("tool_calls", [])]
    is_free = body.get("tool_choice", "auto") == "auto"
    arguments = {"city": "Paris"} if is_free else {}
    assert call["function"]["name"] == "get_weather"
    assert msgspec.json.decode(call["function"]["arguments"]) == arguments


@pytest.mark.parametrize("client", COMPLETIONS)
def test_completions(client: str, chat_gateway: Gateway) -> None:
    (answer,) = told(chat_gateway, "/v1/completions", COMPLETIONS[client])
    assert [choice["text"] for choice in answer["choices"]] == ["echo: hello"]


@pytest.mark.parametrize("client", RESPONSES)
def test_responses(client: str, chat_gateway: Gateway) -> None:
    body, expected = RESPONSES[client]
    last = told(chat_gateway, "/v1/responses", body)[-1]
    response = last.get("response", last)
    assert response["output"][-1]["content"][0]["text"] == expected
