"""A chat model's answer as the events of /v1/responses.

Invariants: ``response.created`` comes first, one of ``completed``, ``incomplete`` and ``failed``
last, with the whole response; one item is open at a time; events are numbered in their order.
"""

from typing import Any

import msgspec

from mlx_serve_common.chat import Finish, SaidToken, ToolCall
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.openai_answer import likelihoods, new_id
from mlx_serve_gateway.http.responses_answer import (
    Item,
    beginning,
    call_item,
    ending,
    failure,
    message_item,
    reasoning_item,
    status_of,
    summary_part,
    text_part,
)
from mlx_serve_gateway.http.responses_request import ResponsesRequest
from mlx_serve_gateway.http.server_sent_events import KEEP_ALIVE
from mlx_serve_gateway.http.streaming import SSE


class _Message:
    """What is said; in one part."""

    parts, texts, index = "content_part", "output_text", "content_index"

    def __init__(self) -> None:
        self.id = new_id("msg_")
        self.text = ""
        self.logprobs: list[Any] = []

    def begun(self) -> Item:
        return message_item(self.id, "", [], "in_progress") | {"content": []}

    def ended(self, status: str) -> Item:
        return message_item(self.id, self.text, self.logprobs, status)

    def part(self) -> dict[str, Any]:
        return text_part(self.text, self.logprobs)

    def told(self) -> dict[str, Any]:
        return {"text": self.text, "logprobs": self.logprobs}


class _Thought:
    """What is thought; in one part."""

    parts, texts, index = "reasoning_summary_part", "reasoning_summary_text", "summary_index"

    def __init__(self) -> None:
        self.id = new_id("rs_")
        self.text = ""

    def begun(self) -> Item:
        return reasoning_item(self.id, "", "in_progress") | {"summary": []}

    def ended(self, status: str) -> Item:
        return reasoning_item(self.id, self.text, status)

    def part(self) -> dict[str, Any]:
        return summary_part(self.text)

    def told(self) -> dict[str, Any]:
        return {"text": self.text}


class ResponseEvents:
    media_type = SSE

    def __init__(self, body: ResponsesRequest, model: InstalledModel) -> None:
        self._is_likely = body.is_likely
        self._response = beginning(body, model)
        self._number = 0
        self._items: list[Item] = []
        self._open: _Message | _Thought | None = None
        self._finish: Finish | None = None

    def opening(self) -> bytes:
        created = self._event("created", response=self._response)
        return created + self._event("in_progress", response=self._response)

    def said(self, said: list[Said]) -> bytes:
        return b"".join(map(self._piece, said))

    def silence(self) -> bytes:
        return KEEP_ALIVE

    def closing(self) -> bytes:
        finish = self._finish
        assert finish is not None, "a stream closes when its answer is finished"
        status = status_of(finish)
        events = b"" if self._has_answer else self._begin(_Message())
        events += self._close(status)
        response = self._response | ending(finish, self._items)
        return events + self._event(status, response=response)

    def failed(self, error: ServeError) -> bytes:
        response = self._response | failure(error, self._items)
        return self._event("failed", response=response)

    @property
    def _has_answer(self) -> bool:
        """Clients look for a message, or a call."""
        items = any(item["type"] != "reasoning" for item in self._items)
        return items or isinstance(self._open, _Message)

    def _piece(self, said: Said) -> bytes:
        delta = said.delta
        self._finish = delta.finish
        events = b""
        if delta.reasoning:
            events += self._think(delta.reasoning)
        if delta.text or delta.tokens:
            events += self._say(delta.text, delta.tokens)
        return events + b"".join(map(self._call, delta.calls))

    # --- thoughts and words, which come in pieces ------------------------------------------------

    def _think(self, thought: str) -> bytes:
        item = self._open if isinstance(self._open, _Thought) else _Thought()
        before = self._begin(item)
        item.text += thought
        return before + self._piece_of(item, delta=thought)

    def _say(self, text: str, tokens: list[SaidToken]) -> bytes:
        item = self._open if isinstance(self._open, _Message) else _Message()
        before = self._begin(item)
        logprobs = likelihoods(tokens)["content"] if self._is_likely else []
        item.text += text
        item.logprobs += logprobs
        return before + self._piece_of(item, delta=text, logprobs=logprobs)

    def _begin(self, item: _Message | _Thought) -> bytes:
        """Nothing, if it has begun."""
        if item is self._open:
            return b""
        before = self._close("completed")
        self._open = item
        added = self._added(item.begun())
        place = self._place(item)
        return before + added + self._event(f"{item.parts}.added", **place, part=item.part())

    def _piece_of(self, item: _Message | _Thought, **delta: Any) -> bytes:
        return self._event(f"{item.texts}.delta", **self._place(item), **delta)

    def _close(self, status: str) -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        place = self._place(item)
        told = self._event(f"{item.texts}.done", **place, **item.told())
        ended = self._event(f"{item.parts}.done", **place, part=item.part())
        return told + ended + self._done(item.ended(status))

    def _place(self, item: _Message | _Thought) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": len(self._items), item.index: 0}

    # --- calls, which come whole -----------------------------------------------------------------

    def _call(self, call: ToolCall) -> bytes:
        before = self._close("completed")
        item = call_item(new_id("fc_"), call, "completed")
        place = {"item_id": item["id"], "output_index": len(self._items)}
        kind = "function_call_arguments"
        told = {"name": call.name, "arguments": call.arguments}
        return (
            before
            + self._added(item | {"arguments": "", "status": "in_progress"})
            + self._event(f"{kind}.delta", **place, delta=call.arguments)
            + self._event(f"{kind}.done", **place, **told)
            + self._done(item)
        )

    # --- frames ----------------------------------------------------------------------------------

    def _added(self, item: Item) -> bytes:
        return self._event("output_item.added", output_index=len(self._items), item=item)

    def _done(self, item: Item) -> bytes:
        index = len(self._items)
        self._items.append(item)
        return self._event("output_item.done", output_index=index, item=item)

    def _event(self, event: str, **content: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        type = f"response.{event}"
        encoded = msgspec.json.encode({"type": type, "sequence_number": number} | content)
        return b"event: %b\ndata: %b\n\n" % (type.encode(), encoded)
