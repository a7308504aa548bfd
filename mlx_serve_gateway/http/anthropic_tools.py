"""Anthropic's tools, and which of them is to be called, in OpenAI's words."""

from typing import Any

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.anthropic_request import CountRequest, Tool, ToolChoice
from mlx_serve_gateway.http.chat_tools import Choice, Tools, choose_tools, read_tools


def conversation_tools(body: CountRequest) -> Tools:
    tools = read_tools([_in_openais_shape(tool) for tool in body.tools or []])
    return choose_tools(tools, _choice(body.tool_choice))


def _choice(choice: ToolChoice | None) -> Choice:
    match choice:
        case None:
            return None
        case ToolChoice(type="any"):
            return "required"
        case ToolChoice(type="tool", name=name):
            return {"type": "function", "name": name or ""}
        case ToolChoice(type=type):
            return type


def _in_openais_shape(tool: Tool) -> dict[str, Any]:
    if tool.input_schema is None:
        raise ServeError(
            ErrorCode.UNSUPPORTED_PARAMETER,
            f"tools: {tool.name[:64]!r} of type {str(tool.type)[:64]!r} has no input_schema; only "
            "tools that the client runs itself can be offered",
            param="tools",
        )
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}
