"""What a client reads out of a stream of OpenAI's."""

from typing import Any

import msgspec

from tests.unit.gateway.http.computing import Reply

DONE = "data: [DONE]"


def frames(body: bytes) -> list[str]:
    assert body.endswith(b"\n\n")
    return body.decode().removesuffix("\n\n").split("\n\n")


def chunks(reply: Reply) -> list[Any]:
    """Each of them; the last frame says that there are no more."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    *told, last = frames(reply.body)
    assert last == DONE
    return [_content(frame) for frame in told]


def failed_chunks(reply: Reply) -> list[Any]:
    """Of a stream that ends with an error, and not with the usual word."""
    assert DONE not in frames(reply.body)
    return [_content(frame) for frame in frames(reply.body)]


def events(reply: Reply) -> list[Any]:
    """Each of them, checked to be named as it is typed and numbered as it stands."""
    found = []
    for number, frame in enumerate(frames(reply.body)):
        name, data = frame.split("\n")
        content = _content(data)
        assert name == f"event: {content['type']}"
        assert content["sequence_number"] == number
        found.append(content)
    return found


def _content(frame: str) -> Any:
    assert frame.startswith("data: ")
    return msgspec.json.decode(frame.removeprefix("data: "))
