"""Request bytes to structs: every way of being wrong is a ServeError that names the field."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.codec import decode, read_body
from tests.unit.gateway.http.asgi import Client, http_scope

LIMIT = 100


class Options(msgspec.Struct):
    level: int


class Body(msgspec.Struct):
    model: str
    input: str | list[str]
    format: Literal["a", "b"] | None = None
    options: Options | None = None


decoder = msgspec.json.Decoder(Body)


async def read(client: Client, *headers: tuple[bytes, bytes]) -> bytes:
    return await read_body(Request(http_scope(headers=headers), client.receive), LIMIT)


async def refused(client: Client, *headers: tuple[bytes, bytes]) -> ErrorCode:
    with pytest.raises(ServeError) as raised:
        await read(client, *headers)
    return raised.value.code


# --- reading -------------------------------------------------------------------------------------


async def test_a_body_is_put_together() -> None:
    assert await read(Client(b"one", b"", b"two")) == b"onetwo"


async def test_a_body_may_be_as_large_as_the_limit() -> None:
    length = (b"content-length", str(LIMIT).encode())
    assert await read(Client(b"x" * LIMIT), length) == b"x" * LIMIT


async def test_an_announced_body_over_the_limit_is_not_even_read() -> None:
    client = Client(b"x")
    length = (b"content-length", str(LIMIT + 1).encode())

    assert await refused(client, length) is ErrorCode.REQUEST_TOO_LARGE
    assert client.received == 0


@pytest.mark.parametrize("length", [b"10", b"abc", b"-5", b"1e9", "²".encode("latin-1"), b""])
async def test_a_larger_body_than_announced_is_cut_off(length: bytes) -> None:
    client = Client(*[b"x" * 30] * 100)

    assert await refused(client, (b"content-length", length)) is ErrorCode.REQUEST_TOO_LARGE
    assert client.received == 4


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"gzip, identity", b"x"])
async def test_a_compressed_body_is_refused_unread(coding: bytes) -> None:
    client = Client(b"x")

    code = await refused(client, (b"content-encoding", coding))
    assert code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    assert client.received == 0


@pytest.mark.parametrize("coding", [b"identity", b"Identity"])
async def test_a_body_may_say_that_it_is_not_compressed(coding: bytes) -> None:
    assert await read(Client(b"x"), (b"content-encoding", coding)) == b"x"


async def test_a_client_that_leaves_while_sending_is_noticed() -> None:
    assert await refused(Client(b"half", leaves=True)) is ErrorCode.CANCELLED


# --- decoding ------------------------------------------------------------------------------------


def error(body: bytes) -> ServeError:
    with pytest.raises(ServeError) as raised:
        decode(decoder, body)
    assert "Traceback" not in raised.value.message
    assert "`$" not in raised.value.message, "a notation of the library's reaches the client"
    return raised.value


def test_a_good_body() -> None:
    body = b'{"model":"m","input":["a","b"],"unknown":{"deep":[1]},"format":null}'
    assert decode(decoder, body) == Body("m", ["a", "b"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"}",
        b"nonsense",
        b'{"model":"m","input":"a"',
        b'{"model":"m","input":"a"}}',
        b'{"model":"m","input":"a"} {}',
        b"{'model':'m','input':'a'}",
        b'{"model":"m","input":"a",}',
        b'{"model":"m" "input":"a"}',
        b'{"model":"m","input":NaN}',
        b'{"model":"m","input":Infinity}',
        b'{"model":"m","input":"\xff\xfe"}',
        b'\xef\xbb\xbf{"model":"m","input":"a"}',
        '{"model":"m","input":"a"}'.encode("utf-16"),
        b'{"model":"m","input":"tab\there"}',
        b'{"model":"m","input":"\\x41"}',
        b'{"model":"m","input":"\\ud83d"}',
        b'{"model":"m","input":"\\udc00"}',
        b'{"model":"m","input":"\\ud83d and more"}',
        b'{"model":"m","x":' + b"[" * 10_000 + b"]" * 10_000 + b',"input":"a"}',
        b'{"x":' + b"[" * 10_000,
        b'{"a":' * 10_000,
        b"\0",
    ],
)
def test_what_is_not_json_is_told_so(body: bytes) -> None:
    told = error(body)

    assert told.code is ErrorCode.INVALID_JSON
    assert len(told.message) < 300


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"x":' + b"[" * 10_000, "nested"),
        (b'{"model":"\xff"}', "not UTF-8"),
        (b'{"model":"m","input":"\\ud83d"}', "surrogate"),
    ],
)
def test_why_it_is_not_json_is_told_in_words(body: bytes, words: str) -> None:
    assert words in error(body).message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"input":"a"}', "model"),
        (b'{"model":"m"}', "input"),
        (b'{"model":1,"input":"a"}', "model"),
        (b'{"model":null,"input":"a"}', "model"),
        (b'{"model":"m","input":null}', "input"),
        (b'{"model":"m","input":{}}', "input"),
        (b'{"model":"m","input":["a",1]}', "input"),
        (b'{"model":"m","input":["a",null]}', "input"),
        (b'{"model":"m","input":["a",["b"]]}', "input"),
        (b'{"model":"m","input":"a","format":"c"}', "format"),
        (b'{"model":"m","input":"a","options":{}}', "options"),
        (b'{"model":"m","input":"a","options":[1]}', "options"),
        (b'{"model":"m","input":"a","options":{"level":"x"}}', "options"),
        (b"{}", "model"),
        (b"[]", None),
        (b"7", None),
        (b"null", None),
        (b'"text"', None),
    ],
)
def test_what_has_the_wrong_type_is_named(body: bytes, param: str | None) -> None:
    told = error(body)

    assert told.code is ErrorCode.INVALID_REQUEST
    assert told.param == param
    assert param is None or param in told.message or "missing" in told.message


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_lead_to_any_other_error(body: bytes) -> None:
    try:
        decode(decoder, body)
    except ServeError as error:
        assert error.code in (ErrorCode.INVALID_JSON, ErrorCode.INVALID_REQUEST)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {}, optional={"model": JSON, "input": JSON, "format": JSON, "options": JSON}
    )
)
def test_no_json_leads_to_any_other_error(body: dict[str, Any]) -> None:
    try:
        decoded = decode(decoder, msgspec.json.encode(body))
    except ServeError as error:
        assert error.code is ErrorCode.INVALID_REQUEST
        assert error.param in {None, *body, "model", "input"}
    else:
        assert isinstance(decoded.model, str)
