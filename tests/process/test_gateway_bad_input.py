"""Bad input: the right 4xx in milliseconds, named for what it is, and the worker never sees it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import msgspec
import pytest

from mlx_serve_common.config import Config, LimitsConfig
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.http.embeddings import EmbeddingRequest
from tests.process.clients import POST, RawClient
from tests.process.gateways import Answer, Gateway
from tests.process.homes import Home

pytestmark = pytest.mark.process

MAX_INPUTS = 50
MAX_BODY = 100_000
AT_ONCE_S = 0.5

CONFIG = Config(limits=LimitsConfig(max_inputs=MAX_INPUTS, max_body_bytes=MAX_BODY))


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("m", max_tokens=8)
        home.store.add("ranker", ModelKind.RERANKER)
        with Gateway(home.path, home.store, CONFIG) as gateway:
            gateway.assert_serves("m")
            yield gateway


@pytest.fixture
def gateway(shared: Gateway) -> Iterator[Gateway]:
    """Whatever was sent: the same worker goes on serving, and nothing waits anywhere."""
    before = shared.worker_pid("m")
    yield shared
    shared.assert_serves("m")
    worker = shared.worker("m")
    assert worker is not None
    assert (worker["pid"], worker["restarts"]) == (before, 0)
    assert (worker["queued"], worker["in_flight"]) == (0, 0)
    assert shared.ask("GET", "/health").json["status"] == "ok"


def assert_told(answer: Answer, status: int, code: str, param: str | None = None) -> None:
    assert (answer.status, answer.code, answer.param) == (status, code, param), answer
    assert answer.headers["content-type"] == "application/json"
    assert "x-request-id" in answer.headers
    assert answer.took_s < AT_ONCE_S
    for leak in ("Traceback", "/home", "/tmp", "msgspec", ".py", "0x"):
        assert leak not in answer.body.decode()


NOT_JSON = {
    "nothing": b"",
    "blank": b"  \n",
    "words": b"hello",
    "cut off": b'{"model":"m","input":"a',
    "left open": b'{"model":"m","input":["a"',
    "trailing comma": b'{"model":"m","input":"a",}',
    "single quotes": b"{'model':'m','input':'a'}",
    "two values": b'{"model":"m","input":"a"}{"model":"m","input":"a"}',
    "form": b"model=m&input=a",
    "NaN": b'{"model":"m","input":"a","dimensions":NaN}',
    "Infinity": b'{"model":"m","input":"a","dimensions":-Infinity}',
    "bad UTF-8": b'{"model":"m","input":"\xc3\x28"}',
    "UTF-16": '{"model":"m","input":"a"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"model":"m","input":"a"}',
    "a raw control character": b'{"model":"m","input":"a\x01"}',
    "half a surrogate pair": b'{"model":"m","input":"\\ud83d"}',
    "the other half": b'{"model":"m","input":["ok","\\ude00"]}',
    "halves swapped": b'{"model":"m","input":"\\ude00\\ud83d"}',
    "lists 10,000 deep": b'{"model":"m","input":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "objects 10,000 deep": b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
    "deep in what is ignored": b'{"model":"m","input":"a","x":' + b"[" * 40_000,
    "zero bytes": b"\0" * 100,
    "gzip": gzip.compress(b'{"model":"m","input":"a"}'),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json(gateway: Gateway, body: bytes) -> None:
    assert_told(gateway.post(body), 400, "invalid_json")


WRONG_TYPES = {
    "no model": (b'{"input":"a"}', "model"),
    "no input": (b'{"model":"m"}', "input"),
    "nothing at all": (b"{}", "model"),
    "model null": (b'{"model":null,"input":"a"}', "model"),
    "model a number": (b'{"model":7,"input":"a"}', "model"),
    "model a list": (b'{"model":["m"],"input":"a"}', "model"),
    "input null": (b'{"model":"m","input":null}', "input"),
    "input a number": (b'{"model":"m","input":7}', "input"),
    "input true": (b'{"model":"m","input":true}', "input"),
    "input an object": (b'{"model":"m","input":{}}', "input"),
    "null among texts": (b'{"model":"m","input":["a",null]}', "input"),
    "a number among texts": (b'{"model":"m","input":["a",1]}', "input"),
    "true among texts": (b'{"model":"m","input":["a",true]}', "input"),
    "a list among texts": (b'{"model":"m","input":["a",["b"]]}', "input"),
    "a fraction as token": (b'{"model":"m","input":[1.5]}', "input"),
    "true as token": (b'{"model":"m","input":[true]}', "input"),
    "a text among tokens": (b'{"model":"m","input":[[1,"a"]]}', "input"),
    "a token below zero": (b'{"model":"m","input":[-1]}', "input"),
    "a huge token": (b'{"model":"m","input":[99999999999999999999999]}', "input"),
    "dimensions a text": (b'{"model":"m","input":"a","dimensions":"8"}', "dimensions"),
    "dimensions zero": (b'{"model":"m","input":"a","dimensions":0}', "dimensions"),
    "dimensions below zero": (b'{"model":"m","input":"a","dimensions":-1}', "dimensions"),
    "dimensions over the model's": (b'{"model":"m","input":"a","dimensions":9}', "dimensions"),
    "dimensions huge": (b'{"model":"m","input":"a","dimensions":1e300}', "dimensions"),
    "a list": (b'["m","a"]', None),
    "a text": (b'"m"', None),
    "null": (b"null", None),
    "a number": (b"7", None),
    "true": (b"true", None),
}


@pytest.mark.parametrize(("body", "param"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_what_has_the_wrong_type(gateway: Gateway, body: bytes, param: str | None) -> None:
    assert_told(gateway.post(body), 400, "invalid_request", param)


@pytest.mark.parametrize("empty", [[], [[]], [[1], []]])
def test_what_is_empty(gateway: Gateway, empty: list[object]) -> None:
    answer = gateway.post({"model": "m", "input": empty})
    assert_told(answer, 400, "empty_input", "input")


@pytest.mark.parametrize("format", ["hex", "FLOAT", ""])
def test_an_unknown_encoding(gateway: Gateway, format: str) -> None:
    answer = gateway.embed("m", "a", encoding_format=format)
    assert_told(answer, 400, "unsupported_parameter", "encoding_format")


def test_as_many_inputs_as_allowed_and_one_more(gateway: Gateway) -> None:
    assert len(gateway.embed("m", ["a"] * MAX_INPUTS).vectors()) == MAX_INPUTS
    answer = gateway.embed("m", ["a"] * (MAX_INPUTS + 1))
    assert_told(answer, 400, "too_many_inputs", "input")


def test_an_input_that_is_too_long_where_nothing_is_cut(gateway: Gateway) -> None:
    answer = gateway.embed("m", ["a", "b " * 7], truncate=False)
    assert_told(answer, 400, "context_length_exceeded", "input")


@pytest.mark.parametrize(
    "name",
    ["x", "", " ", "../m", "/etc/passwd", "m/../m", "C:\\m", "m\0", "M" * 10_000, "m:8b", "-rf"],
)
def test_an_unknown_model(gateway: Gateway, name: str) -> None:
    assert_told(gateway.embed(name, "a"), 404, "model_not_found", "model")


def test_a_model_of_another_kind(gateway: Gateway) -> None:
    assert_told(gateway.embed("ranker", "a"), 400, "model_type_mismatch", "model")


# --- bodies --------------------------------------------------------------------------------------


def body_of(size: int) -> bytes:
    frame = b'{"model":"m","input":"a"}'
    return frame + b" " * (size - len(frame))


def test_a_body_at_the_limit(gateway: Gateway) -> None:
    assert gateway.post(body_of(MAX_BODY)).status == 200


def test_a_body_over_the_limit(gateway: Gateway) -> None:
    assert_told(gateway.post(body_of(MAX_BODY + 1)), 413, "request_too_large")


def test_a_body_announced_over_the_limit_is_not_waited_for(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(POST + b"Content-Length: 1000000000000\r\n\r\n{")
    heard = client.hear_some()
    client.leave()

    assert heard.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_before_it_sends_is_refused(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(
        POST + b"Content-Length: 1000000000000\r\n",
        b"Expect: 100-continue\r\n\r\n",
    )
    heard = client.hear()
    client.leave()

    assert heard.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_over_the_limit(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    with suppress(OSError):  # it is not read to its end
        for _ in range(1000):
            client.send(b"4000\r\n", b"x" * 0x4000, b"\r\n")
    heard = _heard_in_time(client)

    assert heard.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_within_the_limit(gateway: Gateway) -> None:
    client = RawClient(gateway)
    client.send(
        POST + b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n\r\n",
        b'a\r\n{"model":"\r\nf\r\nm","input":"a"}\r\n0\r\n\r\n',
    )
    assert client.hear().startswith(b"HTTP/1.1 200 ")
    client.leave()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-unknown"])
def test_a_compressed_body(gateway: Gateway, coding: str) -> None:
    body = gzip.compress(body_of(MAX_BODY * 100))
    answer = gateway.post(body, {"Content-Encoding": coding})
    assert_told(answer, 415, "unsupported_media_type")


BROKEN_HTTP = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00hello\r\n\r\n",
    "a bad length": POST + b"Content-Length: -5\r\n\r\n{}",
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a bad chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello"),
    "no host": b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "a huge header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("sent", BROKEN_HTTP.values(), ids=BROKEN_HTTP)
def test_what_is_not_http(gateway: Gateway, sent: bytes) -> None:
    client = RawClient(gateway)
    with suppress(OSError):  # refused before it was read to its end
        client.send(sent)
    heard = _heard_in_time(client)

    assert heard[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431"), heard[:100]
    assert heard.count(b"HTTP/1.1 ") == 1


def _heard_in_time(client: RawClient) -> bytes:
    started = monotonic()
    try:
        return client.hear()
    except ConnectionResetError:
        return b""
    finally:
        client.leave()
        assert monotonic() - started < 5


def test_a_flood_of_nonsense_does_not_delay_others(gateway: Gateway) -> None:
    stop = threading.Event()
    nonsense = list(NOT_JSON.values())

    def flood() -> None:
        while not stop.is_set():
            for body in nonsense:
                gateway.post(body)

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        slowest = max(gateway.embed("m", "a").took_s for _ in range(50))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert slowest < 1


def test_no_request_is_an_internal_error(gateway: Gateway) -> None:
    """A last sieve: odd values in every field."""
    odd: list[object] = [
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        "",
        "x" * 1000,
        [],
        {},
        [[]],
        [{}],
        {"text": 1},
    ]
    fields = [field.name for field in msgspec.structs.fields(EmbeddingRequest)]
    fields.remove("keep_alive")  # unloads the model, as it should
    for field in (*fields, "unknown"):
        for value in odd:
            answer = gateway.post({"model": "m", "input": "a"} | {field: value})
            assert answer.status < 500, (field, value, answer)
