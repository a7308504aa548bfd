"""Ollama's messages in OpenAI's shape: whose answer a tool's is, and what stands where."""

from time import monotonic
from typing import Any

import msgspec
import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.http.ollama_messages import OllamaMessage, in_openais_shape


def shaped(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return in_openais_shape(msgspec.convert(list(messages), list[OllamaMessage]))


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": {"a": 1}}} | more


def test_texts() -> None:
    assert shaped(
        {"role": "System", "content": "be kind"},
        {"role": "user", "content": "hi", "images": []},
        {"role": "assistant", "content": "hello", "thinking": "a greeting"},
    ) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "reasoning_content": "a greeting"},
    ]


def test_calls_get_ids_and_answers_find_theirs() -> None:
    _, asked, *answers = shaped(
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [call("f"), call("g"), call("f")]},
        {"role": "tool", "content": "of g", "tool_name": "g"},
        {"role": "tool", "content": "of f"},
        {"role": "tool", "content": "of f, too", "tool_name": "f"},
    )
    assert asked["content"] == ""
    calls = asked["tool_calls"]
    ids = [each["id"] for each in calls]
    assert ids == ["call00000", "call00001", "call00002"]
    assert calls[0]["type"] == "function"
    assert calls[0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert [answer["tool_call_id"] for answer in answers] == [ids[1], ids[0], ids[2]]
    assert [answer["name"] for answer in answers] == ["g", "f", "f"]


def test_the_clients_own_ids_are_kept() -> None:
    asked, answer = shaped(
        {"role": "assistant", "tool_calls": [call("f", id="one"), call("f", id="two")]},
        {"role": "tool", "content": "x", "tool_call_id": "two"},
    )
    assert [each["id"] for each in asked["tool_calls"]] == ["one", "two"]
    assert (answer["tool_call_id"], answer["name"]) == ("two", "f")


def test_an_answer_to_nothing_stays_as_it_is() -> None:
    assert shaped({"role": "tool", "content": "x", "tool_name": "f"}) == [
        {"role": "tool", "content": "x", "name": "f"}
    ]


def test_pictures_are_refused() -> None:
    with pytest.raises(ServeError, match="text only"):
        shaped({"role": "user", "content": "what is this", "images": ["aGk="]})


def test_very_many_calls_and_answers_take_no_time() -> None:
    """Everybody else waits meanwhile."""
    many = 8_000
    started = monotonic()
    put = shaped(
        {"role": "assistant", "tool_calls": [call("f")] * many},
        *({"role": "tool", "content": "x", "tool_name": "g"} for _ in range(many)),
    )
    assert len(put) == many + 1
    assert monotonic() - started < 5
