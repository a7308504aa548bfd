"""A chat model's answer as Anthropic's clients read it, whole."""

from typing import Any

import msgspec

from mlx_serve_common.chat import Finish, ToolCall
from mlx_serve_gateway.http.answering import Answer
from mlx_serve_gateway.http.openai_answer import new_call_id, new_id

SIGNATURE = "mlx-serve"
"""Of thoughts: clients send them back only with one, and nobody here checks it."""


def message(model: str, answer: Answer) -> dict[str, Any]:
    finish = answer.ended
    return beginning(model) | {
        "content": list(_blocks(answer)),
        **ending(finish),
        "usage": usage(finish),
    }


def beginning(model: str) -> dict[str, Any]:
    """The message before anything is said."""
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def ending(finish: Finish) -> dict[str, Any]:
    if finish.stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": finish.stop}
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    return {"stop_reason": reasons[finish.reason], "stop_sequence": None}


def usage(finish: Finish) -> dict[str, int]:
    """What came from the cache is not counted among ``input_tokens``."""
    return {
        "input_tokens": finish.prompt_tokens - finish.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": finish.cached_tokens,
        "output_tokens": finish.completion_tokens,
    }


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def thinking_block(thinking: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def tool_block(call: ToolCall, input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": new_call_id(), "name": call.name, "input": input}


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks = [tool_block(call, msgspec.json.decode(call.arguments)) for call in answer.calls]
    if answer.text:
        blocks.insert(0, text_block(answer.text))
    if answer.reasoning:
        blocks.insert(0, thinking_block(answer.reasoning, SIGNATURE))
    return blocks
