"""What there is to say of an endpoint: how it is asked, what it answers, why it may refuse.

Invariants: plain data; a list of fields is a Struct, the very one that a handler reads or sends
wherever there is one.
"""

from typing import Any, Literal

import msgspec

from mlx_serve_common.errors import ErrorCode

Method = Literal["GET", "POST", "DELETE", "HEAD"]
Tier = Literal["open", "owner"]
"""Who may: everybody, or this machine and who has the admin key."""
Tag = Literal["embeddings", "reranking", "tokens", "chat", "models", "Ollama", "health", "admin"]

JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TEXT = "text/plain"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    type: Any
    """A Struct, or whatever else msgspec writes; None for an answer without a body."""
    status: int = 200
    media_type: str = JSON
    """Of a stream, the type is one line's or one event's."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    type: Any
    summary: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    method: Method
    paths: tuple[str, ...]
    """All of them do the same; the first one is the best known."""
    tag: Tag
    summary: str
    tier: Tier = "open"
    body: type[msgspec.Struct] | None = None
    queries: tuple[Query, ...] = ()
    answers: tuple[Answer, ...]
    refusals: frozenset[ErrorCode] = frozenset()
    """Besides those that any endpoint of its kind may answer."""


def json_answer(type: Any) -> Answer:
    return Answer(type=type)


def event_stream(type: Any) -> Answer:
    return Answer(type=type, media_type=SSE)


def lines(type: Any) -> Answer:
    return Answer(type=type, media_type=NDJSON)
