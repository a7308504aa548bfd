"""OpenAI's messages, as clients send them, and what chat templates get to read."""

from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.chat_messages import begins_answer, read_messages

USER = {"role": "user", "content": "hi"}


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function} | more
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def refusal(*messages: Any) -> ServeError:
    with pytest.raises(ServeError) as refused:
        read_messages(messages)
    assert refused.value.param == "messages"
    return refused.value


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_every_role(role: str) -> None:
    message = {"role": role, "content": "hi"}
    assert read_messages([message]) == [message]


@pytest.mark.parametrize("kind", ["text", "input_text", "output_text"])
def test_parts_are_paragraphs_of_one_text(kind: str) -> None:
    parts = [{"type": kind, "text": "one"}, "two", {"type": "refusal", "refusal": "no"}]
    assert read_messages([{"role": "user", "content": parts}])[0]["content"] == "one\ntwo\nno"


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (None, {}),
    ],
)
def test_arguments_are_an_object(arguments: Any, read: dict[str, Any]) -> None:
    (message,) = read_messages([called(arguments)])
    assert message == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": read}}
        ],
    }


@pytest.mark.parametrize("arguments", ["{", "[1]", "5", "null", "no json", "[" * 100_000])
def test_arguments_that_are_no_object(arguments: str) -> None:
    error = refusal(USER, called(arguments))
    assert error.code is ErrorCode.INVALID_REQUEST
    assert error.message.startswith("messages[1].tool_calls[0].function.arguments: ")


def test_what_belongs_to_a_message_is_kept() -> None:
    told = {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "f"}
    thought = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    assert read_messages([told, thought]) == [told, thought]
    by_its_other_name = {"role": "assistant", "content": "4", "reasoning": "2 + 2"}
    assert read_messages([by_its_other_name]) == [thought]


def test_null_and_unknown_fields_are_left_out() -> None:
    names = ("name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call", "odd")
    assert read_messages([USER | dict.fromkeys(names)]) == [USER]


def test_an_assistant_may_have_said_nothing() -> None:
    silent = {"role": "assistant", "content": None}
    assert read_messages([USER, silent])[1] == {"role": "assistant", "content": ""}
    assert read_messages([silent | {"refusal": "no"}])[0]["content"] == "no"


@pytest.mark.parametrize("kind", ["image_url", "input_image", "input_audio", "file"])
def test_what_is_no_text(kind: str) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": kind, kind: {"url": "data:"}}]
    error = refusal(USER, {"role": "user", "content": parts})
    assert error.code is ErrorCode.UNSUPPORTED_PARAMETER
    assert error.message == f"messages[1].content[1]: the model reads text only, not {kind!r}"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "wizard", "content": "x"}, "messages[1].role: 'wizard' is none of system, "),
        ({"role": "function", "content": "x"}, "messages[1].role: 'function' is none of "),
        ({"role": "user"}, "messages[1].content: is required"),
        ({"role": "system", "content": None}, "messages[1].content: is required"),
        ({"role": "user", "content": 5}, "messages[1].content: Expected "),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0]: "),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text: is "),
        ({"content": "x"}, "messages[1]: Object missing required field `role`"),
        ("hi", "messages[1]: Expected `object`"),
        (called("{}") | {"role": "user", "content": "x"}, "messages[1].tool_calls: only an "),
        (called(5), "messages[1].tool_calls[0].function.arguments: Expected "),
        (called("{}", function={"name": 5}), "messages[1].tool_calls[0].function.name: "),
        (called("{}", function=None, type="custom"), "messages[1].tool_calls[0]: only functions"),
        (USER | {"audio": {"id": "a"}}, "messages[1].audio: "),
        (USER | {"function_call": {"name": "f"}}, "messages[1].function_call: "),
    ],
)
def test_bad_messages_are_named_by_their_place(message: Any, told: str) -> None:
    assert refusal(USER, message).message.startswith(told)


def test_no_messages() -> None:
    assert refusal().code is ErrorCode.EMPTY_INPUT


def test_a_long_conversation() -> None:
    assert len(read_messages([USER] * 10_000)) == 10_000


def test_what_may_begin_the_answer() -> None:
    begun = {"role": "assistant", "content": "It is"}
    assert begins_answer(read_messages([USER, begun]))
    assert not begins_answer(read_messages([begun, USER]))
    assert not begins_answer(read_messages([USER, called("{}")]))
