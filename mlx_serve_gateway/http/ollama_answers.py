"""A chat model's answer in Ollama's words: lines while it is said, or one object.

Invariants: every line stands for itself, and a client that reads each as JSON can read them all;
only the last one is ``done``; ``error`` is in no line but the one that ends a stream in its place.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.chat import Finish, SaidToken, ToolCall
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.generate_call import GenerateCall, Said
from mlx_serve_gateway.http.answering import Answer, Hearing
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.durations import nanoseconds
from mlx_serve_gateway.http.errors import error_body
from mlx_serve_gateway.http.loading import Loading
from mlx_serve_gateway.http.openai_answer import likelihoods, new_call_id
from mlx_serve_gateway.http.streaming import NDJSON, StreamedAnswer
from mlx_serve_gateway.services import Services

Calls = Sequence[dict[str, Any]]
Wording = Callable[[str, str, Calls], dict[str, Any]]
"""Where text, reasoning and calls stand in an answer."""


def as_message(text: str, reasoning: str, calls: Calls) -> dict[str, Any]:
    """For /api/chat; ``content`` is a text even when nothing is said."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        message["thinking"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def as_response(text: str, reasoning: str, calls: Calls) -> dict[str, Any]:
    """For /api/generate."""
    response: dict[str, Any] = {"response": text}
    if reasoning:
        response["thinking"] = reasoning
    if calls:
        response["tool_calls"] = calls
    return response


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer needs to know of its request."""

    name: str
    """Of the model, as the client calls it."""
    model: InstalledModel
    ttl_s: float | None
    is_streamed: bool
    since: float
    wording: Wording


class OllamaAnswers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._loading = Loading(services.pool)

    async def tell(self, request: Request, asked: Asked, call: GenerateCall) -> Response:
        hearing = Hearing(self._services, asked.model, call, asked.ttl_s)
        telling = OllamaLines(asked, hearing)
        if asked.is_streamed:
            return StreamedAnswer(hearing, telling)
        (answer,) = await hearing.whole(request)
        return json_response(telling.whole(answer))

    async def tell_loaded(self, request: Request, asked: Asked) -> Response:
        """To a request with nothing to answer: it wants the model loaded, or gone."""
        await self._loading.load(request, asked.model, asked.ttl_s)
        reason = "unload" if asked.ttl_s == 0 else "load"
        return json_response(
            _beginning(asked) | asked.wording("", "", ()) | {"done": True, "done_reason": reason}
        )


class OllamaLines:
    media_type = NDJSON

    def __init__(self, asked: Asked, hearing: Hearing) -> None:
        self._asked = asked
        self._hearing = hearing
        self._finish: Finish | None = None
        self._called = 0

    def opening(self) -> bytes:
        return b""

    def said(self, said: list[Said]) -> bytes:
        return b"".join(map(self._piece, said))

    def silence(self) -> bytes:
        # An empty line would be no JSON to most clients.
        return self._spoken()

    def closing(self) -> bytes:
        assert self._finish is not None, "a stream closes when its answer is finished"
        words = self._asked.wording("", "", ())
        return _line(_beginning(self._asked) | words | self._ending(self._finish))

    def failed(self, error: ServeError) -> bytes:
        return _line(error_body(error, "/api/"))

    def whole(self, answer: Answer) -> dict[str, Any]:
        calls = self._numbered(answer.calls)
        words = self._asked.wording(answer.text, answer.reasoning, calls)
        told = _logprobs(answer.tokens)
        return _beginning(self._asked) | words | self._ending(answer.ended) | told

    def _piece(self, said: Said) -> bytes:
        """A line for each kind of thing that was said: clients refuse two kinds in one."""
        delta = said.delta
        self._finish = delta.finish
        lines = b""
        if delta.reasoning:
            lines += self._spoken(reasoning=delta.reasoning)
        if delta.text or delta.tokens:
            lines += self._spoken(delta.text, tokens=delta.tokens)
        if delta.calls:
            lines += self._spoken(calls=self._numbered(delta.calls))
        return lines

    def _spoken(
        self,
        text: str = "",
        *,
        reasoning: str = "",
        calls: Calls = (),
        tokens: Sequence[SaidToken] = (),
    ) -> bytes:
        words = self._asked.wording(text, reasoning, calls)
        return _line(_beginning(self._asked) | words | {"done": False} | _logprobs(tokens))

    def _numbered(self, calls: list[ToolCall]) -> list[dict[str, Any]]:
        first = self._called
        self._called += len(calls)
        return [_call(first + at, call) for at, call in enumerate(calls)]

    def _ending(self, finish: Finish) -> dict[str, Any]:
        return {
            "done": True,
            "done_reason": "length" if finish.reason == "length" else "stop",
            "total_duration": nanoseconds(monotonic() - self._asked.since),
            "load_duration": nanoseconds(self._hearing.load_s),
            "prompt_eval_count": finish.prompt_tokens,
            "prompt_eval_duration": nanoseconds(finish.prefill_s),
            "eval_count": finish.completion_tokens,
            "eval_duration": nanoseconds(finish.decode_s),
        }


def _beginning(asked: Asked) -> dict[str, Any]:
    return {"model": asked.name, "created_at": datetime.now(UTC).isoformat()}


def _line(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content) + b"\n"


def _call(index: int, call: ToolCall) -> dict[str, Any]:
    # Read and written anew: a line break in it would end the line.
    arguments = msgspec.json.decode(call.arguments)
    function = {"index": index, "name": call.name, "arguments": arguments}
    return {"id": new_call_id(), "function": function}


def _logprobs(tokens: Sequence[SaidToken]) -> dict[str, Any]:
    return {"logprobs": likelihoods(tokens)["content"]} if tokens else {}
