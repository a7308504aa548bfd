"""A chat model's answer as a ``response``: its items, and what is around them."""

from typing import Any

from mlx_serve_common.chat import Finish, ToolCall
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.http.answering import Answer
from mlx_serve_gateway.http.errors import error_body
from mlx_serve_gateway.http.openai_answer import likelihoods, new_call_id, new_id, now
from mlx_serve_gateway.http.responses_request import ResponsesRequest

Item = dict[str, Any]


def whole(body: ResponsesRequest, model: InstalledModel, answer: Answer) -> dict[str, Any]:
    status = status_of(answer.ended)
    items: list[Item] = []
    if answer.reasoning:
        items.append(reasoning_item(new_id("rs_"), answer.reasoning, "completed"))
    if answer.text or not answer.calls:
        told = likelihoods(answer.tokens)["content"] if body.is_likely else []
        items.append(message_item(new_id("msg_"), answer.text, told, status))
    items += [call_item(new_id("fc_"), call, "completed") for call in answer.calls]
    return beginning(body, model) | ending(answer.ended, items)


def beginning(body: ResponsesRequest, model: InstalledModel) -> dict[str, Any]:
    """The response before anything is said: what was asked, as clients expect it to be told."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": model.name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "store": False,
        "temperature": body.temperature,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def ending(finish: Finish, items: list[Item]) -> dict[str, Any]:
    status = status_of(finish)
    cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "status": status,
        "incomplete_details": cut,
        "output": items,
        "usage": {
            "input_tokens": finish.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": finish.cached_tokens,
                "cache_write_tokens": 0,
            },
            "output_tokens": finish.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": finish.reasoning_tokens},
            "total_tokens": finish.prompt_tokens + finish.completion_tokens,
        },
    }


def failure(error: ServeError, items: list[Item]) -> dict[str, Any]:
    told = error_body(error, "/v1/")["error"]
    return {
        "status": "failed",
        "error": {"code": told["code"], "message": told["message"]},
        "output": items,
    }


def status_of(finish: Finish) -> str:
    return "incomplete" if finish.reason == "length" else "completed"


def message_item(id: str, text: str, logprobs: list[Any], status: str) -> Item:
    part = text_part(text, logprobs)
    return {
        "type": "message",
        "id": id,
        "status": status,
        "role": "assistant",
        "content": [part],
    }


def text_part(text: str, logprobs: list[Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def reasoning_item(id: str, thought: str, status: str) -> Item:
    return {"type": "reasoning", "id": id, "status": status, "summary": [summary_part(thought)]}


def summary_part(thought: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": thought}


def call_item(id: str, call: ToolCall, status: str) -> Item:
    return {
        "type": "function_call",
        "id": id,
        "call_id": new_call_id(),
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }
