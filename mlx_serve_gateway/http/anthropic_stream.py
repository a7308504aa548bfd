"""A chat model's answer as a stream of Anthropic's events.

Invariants: ``message_start`` comes first and ``message_stop`` last; one block is open at a time,
each is closed before the next begins, and its number tells which it is.
"""

from typing import Any, Literal

from mlx_serve_common.chat import Finish, ToolCall
from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.anthropic_answer import (
    SIGNATURE,
    beginning,
    ending,
    text_block,
    thinking_block,
    tool_block,
    usage,
)
from mlx_serve_gateway.http.errors import error_body
from mlx_serve_gateway.http.server_sent_events import data
from mlx_serve_gateway.http.streaming import SSE

_Kind = Literal["text", "thinking"]


class AnthropicEvents:
    media_type = SSE

    def __init__(self, model: str, path: str) -> None:
        self._model = model
        self._path = path
        self._open: _Kind | None = None
        self._index = 0
        self._finish: Finish | None = None

    def opening(self) -> bytes:
        return _event("message_start", message=beginning(self._model))

    def said(self, said: list[Said]) -> bytes:
        return b"".join(map(self._piece, said))

    def silence(self) -> bytes:
        return _event("ping")

    def closing(self) -> bytes:
        assert self._finish is not None, "a stream closes when its answer is finished"
        last = _event("message_delta", delta=ending(self._finish), usage=usage(self._finish))
        return self._close() + last + _event("message_stop")

    def failed(self, error: ServeError) -> bytes:
        return _framed("error", error_body(error, self._path))

    def _piece(self, said: Said) -> bytes:
        delta = said.delta
        self._finish = delta.finish
        events = b""
        if delta.reasoning:
            events += self._opened("thinking")
            events += self._delta(type="thinking_delta", thinking=delta.reasoning)
        if delta.text:
            events += self._opened("text")
            events += self._delta(type="text_delta", text=delta.text)
        return events + b"".join(map(self._call, delta.calls))

    def _call(self, call: ToolCall) -> bytes:
        before = self._close()
        start = self._start(tool_block(call, {}))
        input = self._delta(type="input_json_delta", partial_json=call.arguments)
        return before + start + input + self._stop()

    def _opened(self, kind: _Kind) -> bytes:
        """Open a block of this kind, unless the open one is."""
        if self._open == kind:
            return b""
        before = self._close()
        self._open = kind
        block = text_block("") if kind == "text" else thinking_block("", "")
        return before + self._start(block)

    def _close(self) -> bytes:
        was, self._open = self._open, None
        if was is None:
            return b""
        signed = b""
        if was == "thinking":
            signed = self._delta(type="signature_delta", signature=SIGNATURE)
        return signed + self._stop()

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, **delta: str) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _stop(self) -> bytes:
        stopped = _event("content_block_stop", index=self._index)
        self._index += 1
        return stopped


def _event(type: str, **content: Any) -> bytes:
    return _framed(type, {"type": type} | content)


def _framed(name: str, content: dict[str, Any]) -> bytes:
    return b"event: %b\n%b" % (name.encode(), data(content))
