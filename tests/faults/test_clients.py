"""Clients that leave, reset, trickle and flood."""

import msgspec
import pytest

from mlx_serve_common.models import ModelKind
from tests.faults.rig import CHAT, Rig
from tests.process.clients import RawClient
from tests.waiting import until

pytestmark = pytest.mark.process


def _request(path: str, **body: object) -> bytes:
    content = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def test_who_resets_while_waiting_is_not_computed(rig: Rig) -> None:
    rig.assert_serves("a")
    rig.worker("a").suspend()
    with rig.in_flight("a", ["first"]) as (first,):
        clients = [RawClient(rig.gateway) for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(_request("/v1/embeddings", model="a", input=[str(number)] * 4))
        until(lambda: rig.gateway.waiting() > 300)
        for client in clients:
            rig.abandon(client)
        until(lambda: rig.gateway.waiting() <= 1 + 2 * 128 + 1, what="an empty queue")
        rig.worker("a").resume()
    assert first.result().status == 200


def test_who_resets_a_stream_stops_it(rig: Rig) -> None:
    assert rig.chat("hello").status == 200
    messages = [{"role": "user", "content": "__words:100000__"}]
    clients = [RawClient(rig.gateway) for _ in range(20)]
    for client in clients:
        client.send(_request("/v1/chat/completions", model=CHAT, messages=messages, stream=True))
    for client in clients:
        client.hear_some()
        rig.abandon(client)
    until(lambda: rig.gateway.waiting() <= 1, what="the end of every answer")
    assert rig.chat("hello").status == 200


def test_a_storm_of_resets(rig: Rig) -> None:
    rig.assert_serves("a")
    content = _request("/v1/embeddings", model="a", input="x")
    for number in range(300):
        client = RawClient(rig.gateway)
        client.send(content[: (number * 7) % len(content)] if number % 3 else content)
        rig.abandon(client)
    rig.assert_serves("a")


def test_who_reads_nothing_holds_up_nobody(rig: Rig) -> None:
    """A stream whose client does not read costs the text it has not read, and no more."""
    messages = [{"role": "user", "content": "__words:100000__"}]
    client = RawClient(rig.gateway)
    client.send(_request("/v1/chat/completions", model=CHAT, messages=messages, stream=True))
    client.hear_some()
    rig.assert_serves("a")
    assert rig.chat("hello").status == 200
    rig.abandon(client)


def test_a_model_for_which_there_is_no_room_evicts_nobody(rig: Rig) -> None:
    rig.store.add("huge", ModelKind.EMBEDDING, weights_bytes=2**60)
    rig.assert_serves("a")
    pid = rig.worker("a").pid
    refused = rig.embed("huge", "x")
    assert (refused.status, refused.code) == (503, "insufficient_memory")
    assert rig.worker("a").pid == pid


def test_bad_input_of_every_kind_costs_no_worker(rig: Rig) -> None:
    rig.assert_serves("a")
    pid = rig.worker("a").pid
    bad = [
        b"", b"{", b"[]", b"null", b"\xff", b'{"model":"a"}', b'{"model":"a","input":{}}',
        b'{"model":"a","input":[]}', b'{"model":"a","input":[[]]}', b'{"model":"a","input":1e400}',
        b'{"model":"a","input":[-1]}',
        b'{"model":"nobody","input":"x"}', b'{"model":"' + b"m" * 10_000 + b'","input":"x"}',
        b'{"model":"a","input":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model":["a"],"input":"x"}', b'{"model":"a","input":{"a":[1,{}]}}',
    ]  # fmt: skip
    for path in ("/v1/embeddings", "/v1/rerank", "/v1/chat/completions", "/v1/tokenize"):
        for body in bad:
            answer = rig.gateway.ask("POST", path, body)
            rig.answered += 1
            assert 400 <= answer.status < 500, (path, body, answer)
            assert answer.code != "internal_error"
    assert rig.worker("a").pid == pid
