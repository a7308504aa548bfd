"""Bodies within their size that are of very many pieces: nobody waits while they are read."""

from collections.abc import Iterator
from typing import Any

import msgspec
import psutil
import pytest

from mlx_serve_common.models import ModelKind
from tests.process.gateways import Gateway
from tests.process.homes import Home

pytestmark = pytest.mark.process

MESSAGE = {"role": "user", "content": "x"}
PART = {"type": "text", "text": "x"}
CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ASSISTANT = {"role": "assistant"}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x" * 1900}]}
MANY = 90_000
ALLOWED = {"mode": "auto", "tools": [TOOL] * MANY}
CHAT = "/v1/chat/completions"

TOO_MANY: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": (CHAT, {"messages": [MESSAGE] * MANY}),
    "parts": (CHAT, {"messages": [{"role": "user", "content": [PART] * MANY}]}),
    "calls": (CHAT, {"messages": [MESSAGE, ASSISTANT | {"tool_calls": [CALL] * MANY}]}),
    "tools": (CHAT, {"messages": [MESSAGE], "tools": [TOOL] * MANY}),
    "allowed tools": (
        CHAT,
        {
            "messages": [MESSAGE],
            "tools": [TOOL],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED},
        },
    ),
    "items": ("/v1/responses", {"input": [MESSAGE] * MANY}),
    "Anthropic's messages": ("/v1/messages", {"messages": [MESSAGE] * MANY, "max_tokens": 1}),
    "Anthropic's blocks": (
        "/v1/messages/count_tokens",
        {"messages": [{"role": "user", "content": [PART] * MANY}]},
    ),
    "Ollama's messages": ("/api/chat", {"messages": [MESSAGE] * MANY}),
    "Ollama's calls": (
        "/api/chat",
        {"messages": [ASSISTANT | {"tool_calls": [{"function": {"name": "f"}}] * MANY}]},
    ),
    "messages to count": ("/v1/tokenize", {"messages": [MESSAGE] * MANY}),
    "ids of a prompt": ("/v1/completions", {"prompt": [1] * 2_000_000}),
}
MANY_BUT_FINE: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": (CHAT, {"messages": [MESSAGE] * 4096, "max_tokens": 1}),
    "thoughts": ("/v1/responses", {"input": [*[THOUGHT] * 4000, MESSAGE], "max_output_tokens": 16}),
}
LONGEST_S = 0.4


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("chat", ModelKind.CHAT)
        with Gateway(home.path, home.store) as gateway:
            ask(gateway, CHAT, {"messages": [MESSAGE], "max_tokens": 1})
            yield gateway


def ask(gateway: Gateway, path: str, body: dict[str, Any]) -> int:
    content = msgspec.json.encode({"model": "chat"} | body)
    assert len(content) < 8 << 20
    return gateway.ask("POST", path, content).status


def computed_s(gateway: Gateway) -> float:
    """Of its own, however busy the machine is otherwise."""
    times = psutil.Process(gateway.pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("name", TOO_MANY)
def test_more_than_anybody_needs_is_refused_soon(gateway: Gateway, name: str) -> None:
    before = computed_s(gateway)
    assert ask(gateway, *TOO_MANY[name]) == 400
    assert computed_s(gateway) - before < LONGEST_S


@pytest.mark.parametrize("name", MANY_BUT_FINE)
def test_much_is_read_soon(gateway: Gateway, name: str) -> None:
    before = computed_s(gateway)
    assert ask(gateway, *MANY_BUT_FINE[name]) == 200
    assert computed_s(gateway) - before < LONGEST_S
