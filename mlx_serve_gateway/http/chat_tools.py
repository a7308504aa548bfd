"""Which tools a model is told of, and which of them it has to call.

Invariants: only functions, which the client runs itself; whoever has to call a tool is told of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.codec import invalid_request
from mlx_serve_gateway.http.conversation_bounds import MOST_TOOLS

Choice = str | dict[str, Any] | None
"""``tool_choice`` as it stands in a request."""


class Tools(NamedTuple):
    offered: list[dict[str, Any]]
    forced: list[str]


class ToolFunction(msgspec.Struct, kw_only=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatTool(msgspec.Struct, kw_only=True):
    type: str = "function"
    function: ToolFunction | None = None


class _Given(msgspec.Struct):
    tools: list[ChatTool]


def read_tools(given: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The ``tools`` of a ``Conversation``: as they were sent, for the template to show as such."""
    given = given or []
    try:
        tools = msgspec.convert({"tools": given}, _Given).tools
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    for at, tool in enumerate(tools):
        if tool.type != "function" or tool.function is None:
            kind = f"{tool.type[:64]!r} without a function" if tool.function is None else tool.type
            raise _unsupported(
                f"tools[{at}]", f"only functions that the client runs can be offered, not {kind}"
            )
        if not tool.function.name:
            raise _invalid(f"tools[{at}].function.name", "must not be empty", "tools")
    return [{"type": "function"} | tool for tool in given]


def choose_tools(tools: list[dict[str, Any]], choice: Choice) -> Tools:
    match choice:
        case None | "auto":
            return Tools(tools, [])
        case "none":
            return Tools([], [])
        case "required":
            return Tools(tools, _names(_some(tools)))
        case {"type": "function", "function": {"name": str(name)}} | {
            "type": "function",
            "name": str(name),
        }:
            return Tools(tools, [_known(name, tools)])
        case {"type": "allowed_tools", "allowed_tools": dict() as allowed}:
            return _allowed(tools, allowed)
        case {"type": "allowed_tools", "mode": mode, "tools": entries}:
            # As /v1/responses has it.
            return _allowed(tools, {"mode": mode, "tools": entries})
        case _:
            raise _invalid(
                "tool_choice", 'is "auto", "none", "required", or the function to be called'
            )


def _allowed(tools: list[dict[str, Any]], allowed: dict[str, Any]) -> Tools:
    match allowed:
        case {"mode": "auto" | "required" as mode, "tools": [_, *_] as entries} if (
            len(entries) <= MOST_TOOLS
        ):
            chosen = [choose_tools(tools, entry).forced for entry in entries]
            names = [name for forced in chosen for name in forced]
            offered = [tool for tool in tools if tool["function"]["name"] in names]
            return Tools(offered, names if mode == "required" else [])
        case _:
            raise _invalid(
                "tool_choice", f"allowed tools have a mode and a list of 1 to {MOST_TOOLS} tools"
            )


def _some(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not tools:
        raise _invalid("tool_choice", "there are no tools to choose from")
    return tools


def _known(name: str, tools: list[dict[str, Any]]) -> str:
    if name not in _names(tools):
        raise _invalid("tool_choice", f"there is no tool {name[:64]!r}")
    return name


def _names(tools: list[dict[str, Any]]) -> list[str]:
    return [tool["function"]["name"] for tool in tools]


def _invalid(at: str, why: str, param: str = "tool_choice") -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{at}: {why}", param=param)


def _unsupported(at: str, why: str) -> ServeError:
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, f"{at}: {why}", param="tools")
