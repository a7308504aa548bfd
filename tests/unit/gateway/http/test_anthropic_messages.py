"""Anthropic's messages, made what templates read: which block becomes which message."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.http.anthropic_messages import conversation_messages
from mlx_serve_gateway.http.anthropic_request import CountRequest


def shaped(*messages: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    body = {"model": "m", "messages": messages} | more
    return conversation_messages(msgspec.convert(body, CountRequest))


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "cache_control": {"type": "ephemeral"}}


def result(id: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, "is_error": False}


def test_texts() -> None:
    assert shaped(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [text("b"), text("c")]},
        {"role": "system", "content": "d"},
        system=[text("one"), text("two")],
    ) == [
        {"role": "system", "content": "one\n\ntwo"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b\nc"},
        {"role": "system", "content": "d"},
    ]


@pytest.mark.parametrize("system", [None, "", []])
def test_no_system(system: Any) -> None:
    message = {"role": "user", "content": "a"}
    assert shaped(message, system=system) == [message]


def test_a_call_and_what_came_of_it() -> None:
    called, first, second, third, asked = shaped(
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                text("wait"),
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                result("1", "plain"),
                result("2", [text("in"), text("parts")]),
                result("3", None),
                text("and?"),
            ],
        },
    )
    assert called["content"] == "wait"
    assert called["reasoning_content"] == "hm"
    assert called["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    ]
    assert first == {"role": "tool", "tool_call_id": "1", "content": "plain"}
    assert second["content"] == "in\nparts"
    assert third == {"role": "tool", "tool_call_id": "3", "content": ""}
    assert asked == {"role": "user", "content": "and?"}


def test_results_stay_in_their_place() -> None:
    content = [text("before"), result("1", "a"), text("between"), result("2", "b")]
    put = shaped({"role": "user", "content": content})
    assert [(each["role"], each["content"]) for each in put] == [
        ("user", "before"), ("tool", "a"), ("user", "between"), ("tool", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["image", "document"])
def test_what_is_no_text_is_refused(kind: str) -> None:
    for content in ([{"type": kind}], [result("1", [{"type": kind}])]):
        with pytest.raises(ServeError, match=f"not an? {kind}"):
            shaped({"role": "user", "content": content})
