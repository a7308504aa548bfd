"""Whether an answer is one that the contract promises: its status, its media type, every field."""

from collections.abc import Iterator
from typing import Any

import msgspec

from mlx_serve_gateway.http.contract.endpoint import Endpoint
from mlx_serve_gateway.http.contract.refusals import ENVELOPES, codes_of
from mlx_serve_gateway.http.errors import TABLE, error_family
from tests.process.gateways import Answer


def assert_promised(answer: Answer, endpoint: Endpoint, path: str) -> None:
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    promised = [each for each in endpoint.answers if each.status == answer.status]
    if promised:
        types = [each.type for each in promised if each.media_type == media_type]
        failure = ENVELOPES[error_family(path)]
        match media_type:
            case "application/json":
                assert_fits(answer.body, types)
            case "application/x-ndjson":
                assert_each_fits(answer.body.splitlines(), [*types, failure])
            case "text/event-stream":
                assert_each_fits(events(answer.body), [*types, failure])
            case "":
                assert answer.body == b""
                assert None in [each.type for each in promised]
            case _:
                assert str in types, answer
        return
    assert answer.status in {TABLE[code][0] for code in codes_of(endpoint)}, answer
    assert_fits(answer.body, [ENVELOPES[error_family(path)]])
    if answer.status >= 500:
        assert answer.status in (503, 504), answer


def assert_each_fits(items: Any, types: list[Any]) -> None:
    items = list(items)
    assert items
    for item in items:
        assert_fits(item, types)


def assert_fits(content: bytes, types: list[Any]) -> None:
    """Read as one of the types and written again, nothing is lost: no field is untold."""
    assert types, content
    assert any(_fits(content, each) for each in types), (content, types)


def _fits(content: bytes, type: Any) -> bool:
    try:
        read = msgspec.json.decode(content, type=type)
    except msgspec.ValidationError:
        return False
    written = msgspec.json.decode(msgspec.json.encode(read))
    return bool(written == msgspec.json.decode(content))


def events(body: bytes) -> Iterator[bytes]:
    """What is after ``data:``, without OpenAI's word for the end."""
    for line in body.splitlines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield line.removeprefix(b"data: ")
