"""A chat model's answer as a ``chat.completion``: whole, or as ``chat.completion.chunk``s.

Invariants: the pieces of a stream make the whole answer; a role, and the id, type and name of a
call, come once, because clients join whatever texts they get; each choice is finished once, by a
piece that says nothing else.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mlx_serve_common.chat import Delta, Finish, ToolCall
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.answering import Answer
from mlx_serve_gateway.http.openai_answer import heading, likelihoods, new_call_id, usage
from mlx_serve_gateway.http.server_sent_events import DONE, KEEP_ALIVE, data, failure, frame
from mlx_serve_gateway.http.streaming import SSE


def whole(model: InstalledModel, answers: Sequence[Answer], *, is_likely: bool) -> dict[str, Any]:
    told = heading("chatcmpl-", "chat.completion", model)
    choices = [_choice(index, answer, is_likely) for index, answer in enumerate(answers)]
    return told | {"choices": choices, "usage": usage([answer.ended for answer in answers])}


def _choice(index: int, answer: Answer, is_likely: bool) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if answer.calls and not answer.text else answer.text,
        "refusal": None,
    }
    if answer.reasoning:
        message |= _thoughts(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = list(map(_call, answer.calls))
    return {
        "index": index,
        "message": message,
        "logprobs": likelihoods(answer.tokens) if is_likely else None,
        "finish_reason": answer.ended.reason,
    }


class ChatChunks:
    media_type = SSE

    def __init__(
        self, model: InstalledModel, choices: int, *, is_likely: bool, wants_usage: bool
    ) -> None:
        self._heading = heading("chatcmpl-", "chat.completion.chunk", model)
        # The same for each word that is said.
        self._beginning = msgspec.json.encode(self._heading)[:-1] + b',"choices":['
        self._is_likely = is_likely
        self._wants_usage = wants_usage
        self._called = [0] * choices
        self._finishes: dict[int, Finish] = {}

    def opening(self) -> bytes:
        first = {"role": "assistant", "content": ""}
        return b"".join(self._chunk(index, first) for index in range(len(self._called)))

    def said(self, said: list[Said]) -> bytes:
        return b"".join(map(self._piece, said))

    def silence(self) -> bytes:
        return KEEP_ALIVE

    def closing(self) -> bytes:
        if not self._wants_usage:
            return DONE
        counted = usage([self._finishes[index] for index in sorted(self._finishes)])
        return data(self._heading | {"choices": [], "usage": counted}) + DONE

    def failed(self, error: ServeError) -> bytes:
        return failure(error)

    def _piece(self, said: Said) -> bytes:
        delta = said.delta
        chunk = b""
        if delta.text or delta.reasoning or delta.calls or delta.tokens:
            told = likelihoods(delta.tokens) if self._is_likely else None
            chunk = self._chunk(said.choice, self._spoken(said.choice, delta), logprobs=told)
        if delta.finish is not None:
            self._finishes[said.choice] = delta.finish
            chunk += self._chunk(said.choice, {}, finish_reason=delta.finish.reason)
        return chunk

    def _spoken(self, choice: int, delta: Delta) -> dict[str, Any]:
        spoken: dict[str, Any] = {"content": delta.text} if delta.text else {}
        if delta.reasoning:
            spoken |= _thoughts(delta.reasoning)
        if delta.calls:
            first = self._called[choice]
            self._called[choice] += len(delta.calls)
            spoken["tool_calls"] = [
                {"index": first + at} | _call(call) for at, call in enumerate(delta.calls)
            ]
        return spoken

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        told = {
            "index": choice,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return frame(b"%b%b]}" % (self._beginning, msgspec.json.encode(told)))


def _thoughts(reasoning: str) -> dict[str, str]:
    """By both names that clients look for."""
    return {"reasoning_content": reasoning, "reasoning": reasoning}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": new_call_id(), "type": "function", "function": function}
