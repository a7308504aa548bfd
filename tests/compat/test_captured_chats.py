"""The very chat requests that client libraries send, as they were captured, and what these read.

LangChain, LlamaIndex, haystack, LiteLLM and Anthropic's clients are too heavy to install for every
run of the tests; their requests are not.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tests.compat.conftest import CHAT
from tests.process.gateways import Answer, Gateway

pytestmark = pytest.mark.compat

JSON = {"content-type": "application/json"}
HELLO = [{"role": "user", "content": "hello"}]
SAID = "echo: hello"
BLOCKS = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
PARAMETERS = {
    "type": "object",
    "required": ["a", "b"],
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
}
FUNCTION = {"name": "add", "description": "Add.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = '__call:add:{"a": 1, "b": 2}__'
OUT = {
    "properties": {"echo": {"title": "Echo", "type": "string"}},
    "required": ["echo"],
    "title": "Out",
    "type": "object",
}


def post(
    gateway: Gateway, path: str, body: dict[str, Any], headers: Mapping[str, str] = JSON
) -> Answer:
    answer = gateway.ask("POST", path, msgspec.json.encode({"model": CHAT} | body), headers)
    assert answer.status == 200, answer
    return answer


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


# --- Ollama's endpoints --------------------------------------------------------------------------

CHATS: dict[str, dict[str, Any]] = {
    "langchain": {
        "stream": True, "options": {"num_predict": 20, "temperature": 0.0}, "messages": HELLO,
        "tools": [],
    },
    "langchain, reasoning": {
        "stream": True, "options": {}, "messages": HELLO, "tools": [], "think": True,
    },
    "llamaindex": {
        "stream": True, "options": {"temperature": None, "num_ctx": 512}, "messages": HELLO,
        "tools": [],
    },
    "haystack": {"stream": True, "options": {}, "messages": HELLO, "tools": [], "think": False},
    "litellm": {
        "messages": [{"role": "user", "content": "hello", "images": []}], "stream": True,
        "options": {"temperature": 0, "stop": ["zzz"], "num_predict": 50},
    },
}  # fmt: skip


@pytest.mark.parametrize("client", CHATS)
def test_chats(client: str, chat_gateway: Gateway) -> None:
    # LiteLLM sends no Content-Type.
    headers = {} if client == "litellm" else JSON
    for stream in (True, False):
        answer = post(chat_gateway, "/api/chat", CHATS[client] | {"stream": stream}, headers)
        told = lines(answer)
        assert "".join(line["message"]["content"] for line in told) == SAID
        assert told[-1]["done_reason"] == "stop"
        # LiteLLM adds these up.
        assert told[-1]["prompt_eval_count"] > 0
        assert told[-1]["eval_count"] > 0


GENERATIONS: dict[str, dict[str, Any]] = {
    "langchain": {"stream": True, "options": {}, "format": "", "prompt": "hello"},
    "litellm": {
        "prompt": "hello", "options": {"temperature": 0, "num_predict": 50}, "images": [],
    },
}  # fmt: skip


@pytest.mark.parametrize("client", GENERATIONS)
def test_generations(client: str, chat_gateway: Gateway) -> None:
    for stream in (True, False):
        body = GENERATIONS[client] | {"stream": stream}
        told = lines(post(chat_gateway, "/api/generate", body, {}))
        assert "".join(line["response"] for line in told) == SAID
        assert told[-1]["done"] is True


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_is_called_and_answers(stream: bool, chat_gateway: Gateway) -> None:
    body = {"stream": stream, "options": {}, "tools": TOOLS}
    asked = {"messages": [{"role": "user", "content": CALL}]}
    told = lines(post(chat_gateway, "/api/chat", body | asked))
    (call,) = (call for line in told for call in line["message"].get("tool_calls", []))
    assert call["function"]["name"] == "add"
    assert call["function"]["arguments"] == {"a": 1, "b": 2}

    # As LangChain tells of it: no content, no ids.
    called = {"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    history = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "content": "3"},
    ]
    told = lines(post(chat_gateway, "/api/chat", body | {"messages": history}))
    assert "".join(line["message"]["content"] for line in told) == "echo: 3"


def test_thoughts_and_text_are_never_in_one_line(chat_gateway: Gateway) -> None:
    """haystack refuses that."""
    body = {"messages": [{"role": "user", "content": "__think:hm__ x"}], "think": True}
    told = lines(post(chat_gateway, "/api/chat", body | {"stream": True, "options": {}}))
    assert told[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert not any(line["message"].get("thinking") for line in told[1:])


@pytest.mark.parametrize("format", ["json", OUT])
def test_a_format(format: Any, chat_gateway: Gateway) -> None:
    body = {"messages": HELLO, "stream": False, "options": {}, "format": format}
    answer = post(chat_gateway, "/api/chat", body, {})
    assert msgspec.json.decode(answer.json["message"]["content"]) == {"echo": "hello"}


# --- Anthropic's ---------------------------------------------------------------------------------

ANTHROPIC = JSON | {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "x-api-key": "any",
}
CACHED = {"cache_control": {"type": "ephemeral"}}
AGENT: dict[str, Any] = {
    "max_tokens": 32000,
    "temperature": 1,
    "system": [
        {"type": "text", "text": "You are a coding agent.", **CACHED},
        {"type": "text", "text": "Be brief.", **CACHED},
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>be good</system-reminder>"},
                {"type": "text", "text": "read it", **CACHED},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "mlx-serve"},
                {"type": "text", "text": "Reading."},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result", "tool_use_id": "toolu_1", "is_error": False,
                    "content": [{"type": "text", "text": "hello"}], **CACHED,
                },
            ],
        },
    ],
    "tools": [
        {
            "name": name,
            "description": f"{name} something.",
            "input_schema": {"$schema": "http://json-schema.org/draft-07/schema#", **PARAMETERS},
        }
        for name in ("Bash", "Read", "Write", "Edit", "Glob", "Grep", "Task", "TodoWrite")
    ],
    "metadata": {"user_id": "user_1_account__session_2"},
    "thinking": {"type": "enabled", "budget_tokens": 31999},
    "context_management": {"edits": []},
}  # fmt: skip
MESSAGES: dict[str, dict[str, Any]] = {
    "anthropic": {"max_tokens": 50, "messages": HELLO},
    "anthropic, blocks": {
        "max_tokens": 50, "messages": BLOCKS,
        "system": [{"type": "text", "text": "You", **CACHED}],
    },
    "litellm": {
        "max_tokens": 4096, "messages": BLOCKS,
    },
    "an agent": AGENT,
}  # fmt: skip


@pytest.mark.parametrize("client", MESSAGES)
def test_messages(client: str, chat_gateway: Gateway) -> None:
    whole = post(chat_gateway, "/v1/messages?beta=true", MESSAGES[client], ANTHROPIC).json
    assert whole["content"] == [{"type": "text", "text": SAID}]
    assert (whole["role"], whole["stop_reason"]) == ("assistant", "end_turn")
    assert whole["usage"]["input_tokens"] > 0

    body = MESSAGES[client] | {"stream": True}
    answer = post(chat_gateway, "/v1/messages?beta=true", body, ANTHROPIC)
    data = [line for line in answer.body.splitlines() if line.startswith(b"data: ")]
    events = [msgspec.json.decode(line.removeprefix(b"data: ")) for line in data]
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == SAID


def test_counting(chat_gateway: Gateway) -> None:
    asked = {name: AGENT[name] for name in ("system", "messages", "tools", "thinking")}
    answer = post(chat_gateway, "/v1/messages/count_tokens", asked, ANTHROPIC)
    assert answer.json["input_tokens"] > 0


def test_a_structured_answer(chat_gateway: Gateway) -> None:
    config = {"format": {"type": "json_schema", "schema": OUT}}
    body = {"max_tokens": 50, "messages": HELLO, "output_config": config}
    (block,) = post(chat_gateway, "/v1/messages", body, ANTHROPIC).json["content"]
    assert msgspec.json.decode(block["text"]) == {"echo": "hello"}
