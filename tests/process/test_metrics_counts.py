"""Counters agree exactly with what was asked, and nobody can make series of their own."""

import http.client
import random
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlx_serve_common.models import ModelKind
from tests.every_metric import exposition
from tests.process.gateways import LIMIT_S, Gateway
from tests.store import ModelStore

pytestmark = pytest.mark.process

CLIENTS = 8
LONGEST = 20
"""Tokens that the model reads."""

HOSTILE = (
    "/../../etc/passwd", "/v1/embeddings/x", '/"},evil{a="', "/%00", "/" + "a" * 4000, "/metrics/x",
    "/v1/embeddings%0aevil_total%201", "/api/blobs", "//", "/a;b=c?d#e",
)  # fmt: skip
NAMES = ("nobody", 'x"} 1\nevil{', "../a", "한국어", "a" * 300, "\x1b[2J", "org/name@main")


class Scripted(NamedTuple):
    endpoint: str
    method: str
    path: str
    body: bytes = b""
    tokens: tuple[int, ...] = ()
    """Of each input of a request that is right."""


class Told(NamedTuple):
    requests: Counter[tuple[str, str]]
    sent: Counter[str]
    """Bytes of bodies, to each endpoint that reads them."""
    tokens: list[int]


def scripted(count: int) -> Iterator[Scripted]:
    chance = random.Random(7)
    for _ in range(count):
        yield chance.choices([right, unknown, wrong, looking, hostile], [70, 8, 8, 8, 6])[0](chance)


def right(chance: random.Random) -> Scripted:
    words = [chance.randint(1, LONGEST + 4) for _ in range(chance.randint(1, 6))]
    texts = ["word " * count for count in words]
    body = msgspec.json.encode({"model": chance.choice(["a", "b"]), "input": texts})
    tokens = tuple(count + 2 for count in words)
    return Scripted("/v1/embeddings", "POST", "/v1/embeddings", body, tokens)


def unknown(chance: random.Random) -> Scripted:
    body = msgspec.json.encode({"model": chance.choice(NAMES), "input": "a"})
    return Scripted("/v1/embeddings", "POST", "/v1/embeddings", body)


def wrong(chance: random.Random) -> Scripted:
    path = chance.choice(["/v1/embeddings", "/v1/rerank", "/embed"])
    body = chance.choice([b"", b"{", b"[]", b'{"model":"a"}', b"\xff", b'{"model":1,"input":""}'])
    return Scripted(path, "POST", path, body)


def looking(chance: random.Random) -> Scripted:
    endpoint, path = chance.choice(
        [
            ("/v1/models", "/v1/models"),
            ("/v1/models", "/v1/models/"),
            ("/v1/models/{}", "/v1/models/a"),
            ("/v1/models/{}", f"/v1/models/{chance.random()}"),
            ("/api/tags", "/api/tags"),
            ("/v1/embeddings", "/v1/embeddings"),  # not to be GET
        ]
    )
    return Scripted(endpoint, "GET", path)


def hostile(chance: random.Random) -> Scripted:
    endpoint, path = "other", chance.choice([*HOSTILE, f"/{chance.random()}"])
    return Scripted(endpoint, chance.choice(["GET", "POST"]), path)


def ask_all(gateway: Gateway, script: list[Scripted]) -> Told:
    told = Told(Counter(), Counter(), [])
    lock = threading.Lock()
    left = iter(script)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=LIMIT_S)
        with closing(connection):
            while True:
                with lock:
                    request = next(left, None)
                if request is None:
                    return
                ask(connection, request)

    def ask(connection: http.client.HTTPConnection, request: Scripted) -> None:
        connection.putrequest(request.method, request.path)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        response = connection.getresponse()
        response.read()
        with lock:
            told.requests[request.endpoint, str(response.status)] += 1
            told.sent[request.endpoint] += len(request.body)
            told.tokens.extend(request.tokens if response.status == 200 else ())

    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(client) for _ in range(CLIENTS)]:
            done.result()
    return told


def series(gateway: Gateway) -> dict[str, dict[tuple[str, ...], float]]:
    """Each name with its samples by the values of their labels, sorted by the labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    text = gateway.ask("GET", "/metrics").body.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@pytest.fixture
def gateway(short_dir: Path, store: ModelStore) -> Iterator[Gateway]:
    store.add("a", max_tokens=LONGEST)
    store.add("b", max_tokens=LONGEST)
    store.add("r", ModelKind.RERANKER)
    with Gateway(short_dir, store) as gateway:
        yield gateway


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_counters_agree_with_what_was_asked(gateway: Gateway, count: int) -> None:
    told = ask_all(gateway, list(scripted(count)))
    assert told.requests.total() == count
    assert {status for _, status in told.requests} == {"200", "400", "404", "405"}
    seen = series(gateway)
    assert seen["mlx_serve_requests_total"] == told.requests
    by_endpoint: Counter[tuple[str, ...]] = Counter()
    for (endpoint, _), number in told.requests.items():
        by_endpoint[endpoint,] += number
    assert seen["mlx_serve_request_duration_seconds_count"] == by_endpoint
    assert seen["mlx_serve_request_size_bytes_count"] == by_endpoint
    sizes = seen["mlx_serve_request_size_bytes_sum"]
    assert sizes["/v1/embeddings",] == told.sent["/v1/embeddings"]

    answered = told.requests["/v1/embeddings", "200"]
    read = [min(tokens, LONGEST) for tokens in told.tokens]
    tokens = seen["mlx_serve_tokens_total"]
    assert sum(tokens[key] for key in tokens if key[0] == "input") == sum(read)
    assert sum(seen["mlx_serve_truncated_inputs_total"].values()) == sum(
        tokens > LONGEST for tokens in told.tokens
    )
    assert sum(seen["mlx_serve_inputs_total"].values()) == len(read)
    assert seen["mlx_serve_batch_size_sum"] == {("/v1/embeddings",): len(read)}
    assert sum(seen["mlx_serve_queue_wait_seconds_count"].values()) == answered
    assert sum(seen["mlx_serve_model_request_duration_seconds_count"].values()) == answered
    kinds = [seen[f"mlx_serve_cache_{which}_total"]["embedding",] for which in ("hits", "misses")]
    assert sum(kinds) == answered


def test_nobody_can_make_series(gateway: Gateway) -> None:
    for model in ("a", "b"):
        gateway.assert_serves(model)
    ask_all(gateway, [Scripted("other", "GET", "/nothing")])
    ask_all(gateway, [Scripted("", "GET", "/v1/models/a"), Scripted("", "GET", "/v1/models/x")])
    gateway.embed("nobody", "x")
    gateway.ask("POST", "/nothing")
    before = {name: set(found) for name, found in series(gateway).items()}
    paths = [*HOSTILE, *(f"/{number}" for number in range(100))]
    ask_all(gateway, [Scripted("", method, path) for path in paths for method in ("GET", "POST")])
    ask_all(gateway, [Scripted("", "GET", f"/v1/models/{number}") for number in range(100)])
    for name in (*NAMES, *(f"n{number}" for number in range(100))):
        assert gateway.embed(name, "x").status == 404
    assert {name: set(found) for name, found in series(gateway).items()} == before


def test_a_server_has_every_metric_that_is_documented(gateway: Gateway) -> None:
    text = gateway.ask("GET", "/metrics").body.decode()
    families = re.compile("^# (?:HELP|TYPE) .*$", re.MULTILINE)
    assert set(families.findall(text)) == set(families.findall(exposition()))


def test_promtool_accepts_what_a_server_says(gateway: Gateway) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    ask_all(gateway, list(scripted(100)))
    text = gateway.ask("GET", "/metrics").body
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
