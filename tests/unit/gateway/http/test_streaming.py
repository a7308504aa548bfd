"""Streams from their first word to their end: silence, failures, listeners that leave."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mlx_serve_common.chat import Delta
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.answering import Heard
from mlx_serve_gateway.http.streaming import StreamedAnswer
from tests.unit.gateway.http.asgi import Client, http_scope, response_of


class Plain:
    """The simplest dialect there is."""

    media_type = "text/plain"

    def opening(self) -> bytes:
        return b"<"

    def said(self, said: list[Said]) -> bytes:
        return "".join(each.delta.text for each in said).encode()

    def silence(self) -> bytes:
        return b"."

    def closing(self) -> bytes:
        return b">"

    def failed(self, error: ServeError) -> bytes:
        return f"!{error.code}".encode()


class Speaker(Heard):
    """Says these words; "" is a silence, None one without an end."""

    size = 1

    def __init__(self, *words: str | Exception | None) -> None:
        self._words = words
        self.has_ended = False

    async def pieces(self) -> AsyncGenerator[list[Said]]:
        try:
            for word in self._words:
                if isinstance(word, Exception):
                    raise word
                if word is None:
                    await asyncio.Event().wait()
                yield [Said(0, Delta(word))] if word else []
        finally:
            self.has_ended = True


async def streamed(*words: str | Exception) -> str:
    speaker = Speaker(*words)
    answer = StreamedAnswer(speaker, Plain())
    response = await response_of(answer, http_scope(), Client().receive)
    assert response["status"] == 200
    assert "content-length" not in response["headers"]
    assert speaker.has_ended
    return bytes(response["body"]).decode()


async def test_words_between_a_beginning_and_an_end() -> None:
    assert await streamed("a", "b") == "<ab>"


async def test_silence_is_broken_from_the_beginning() -> None:
    assert await streamed("", "", "a", "", "b") == "<..a.b>"


async def test_a_failure_takes_the_place_of_the_rest() -> None:
    died = ServeError(ErrorCode.WORKER_CRASHED, "it died")
    assert await streamed("a", died) == "<a!worker_crashed"
    assert await streamed("", died) == "<.!worker_crashed"


async def test_a_fault_of_ours_is_told_without_its_text() -> None:
    assert await streamed("a", ValueError("secret")) == "<a!internal_error"


async def test_a_failure_before_the_first_word_is_no_stream() -> None:
    refused = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long")
    with pytest.raises(ServeError) as raised:
        await streamed(refused)
    assert raised.value is refused


@pytest.mark.parametrize("words", [("a", None), (None,)], ids=["within", "before"])
async def test_who_leaves_ends_it(words: tuple[str | None, ...]) -> None:
    speaker, client, scope = Speaker(*words), Client(), http_scope()
    answer = StreamedAnswer(speaker, Plain())

    async def listen() -> None:
        try:
            await response_of(answer, scope, client.receive)
        except ServeError as error:
            assert error.code is ErrorCode.CANCELLED

    listening = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    client.leave(scope)
    await listening
    assert speaker.has_ended
