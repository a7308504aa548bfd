"""Which tools a model is told of, and which of them it has to call."""

from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.chat_tools import Choice, choose_tools, read_tools


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


F, G = tool("f"), tool("g")


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"mode": mode, "tools": list(entries)}


def test_tools_are_shown_as_they_were_sent() -> None:
    odd = {"function": {"parameters": None, "name": "f", "strict": True}, "x": 1}
    assert read_tools([odd]) == [{"type": "function"} | odd]
    assert read_tools(None) == read_tools([]) == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"type": "web_search"}, ErrorCode.UNSUPPORTED_PARAMETER),
        ({"type": "custom", "custom": {"name": "f"}}, ErrorCode.UNSUPPORTED_PARAMETER),
        ({"type": "function"}, ErrorCode.UNSUPPORTED_PARAMETER),
        ({"type": "function", "function": {}}, ErrorCode.INVALID_REQUEST),
        ({"type": "function", "function": {"name": ""}}, ErrorCode.INVALID_REQUEST),
        ({"type": "function", "function": {"name": 5}}, ErrorCode.INVALID_REQUEST),
        (
            {"type": "function", "function": {"name": "f", "parameters": "x"}},
            ErrorCode.INVALID_REQUEST,
        ),
        ("f", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_no_tool(given: Any, code: ErrorCode) -> None:
    with pytest.raises(ServeError) as refused:
        read_tools([F, given])
    assert (refused.value.code, refused.value.param) == (code, "tools")
    assert refused.value.message.startswith("tools[1]")


@pytest.mark.parametrize(
    ("choice", "offered", "forced"),
    [
        (None, [F, G], []),
        ("auto", [F, G], []),
        ("none", [], []),
        ("required", [F, G], ["f", "g"]),
        (named("g"), [F, G], ["g"]),
        ({"type": "function", "name": "g"}, [F, G], ["g"]),
        ({"type": "allowed_tools", "allowed_tools": allowed("auto", named("f"))}, [F], []),
        (
            {"type": "allowed_tools", **allowed("required", {"type": "function", "name": "g"})},
            [G],
            ["g"],
        ),
    ],
)
def test_choices(choice: Choice, offered: list[Any], forced: list[str]) -> None:
    assert choose_tools([F, G], choice) == (offered, forced)


@pytest.mark.parametrize(
    "choice",
    [
        "maybe",
        named("h"),
        {"type": "function"},
        {"type": "web_search"},
        {"type": "allowed_tools", **allowed("auto")},
        {"type": "allowed_tools", **allowed("auto", named("h"))},
        {"type": "allowed_tools", **allowed("sometimes", named("f"))},
    ],
)
def test_bad_choices(choice: Choice) -> None:
    with pytest.raises(ServeError) as refused:
        choose_tools([F, G], choice)
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize("choice", ["required", named("f")])
def test_there_is_nothing_to_choose_from(choice: Choice) -> None:
    with pytest.raises(ServeError):
        choose_tools([], choice)
    assert choose_tools([], "auto") == choose_tools([], "none") == ([], [])
