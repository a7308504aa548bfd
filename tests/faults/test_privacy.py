"""What people send stays between them and the model: not in logs, metrics, events or files.

Nor are the secrets of whoever runs the server anywhere, its workers' environment included.
"""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from mlx_serve_common.config import ChatConfig, Config, LimitsConfig, LoggingConfig, ServerConfig
from mlx_serve_common.models import ModelKind
from tests.process.gateways import Answer, Gateway
from tests.process.homes import Home
from tests.waiting import until

pytestmark = pytest.mark.process

CANARY = "zaunkoenig-4711"
KEY = "key-of-the-owner-0815"
TOKEN = "hf_tokenofthisperson"

TROUBLES = [
    "",
    "__raise__",
    "__nan__",
    "__crash__",
    "__raise_base__",
    "__too_long__",
    "word " * 600,
]
"""What besides the canary is in a text: with some of it the request fails."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Home() as home:
        for number in range(len(TROUBLES)):
            # Of their own for each, because those that die too often are given a rest.
            home.store.add(f"m{number}")
            home.store.add(f"ranker{number}", ModelKind.RERANKER)
            home.store.add(f"chat{number}", ModelKind.CHAT)
        config = Config(
            server=ServerConfig(admin_key=KEY),
            limits=LimitsConfig(truncate="none", batch_timeout=2),
            logging=LoggingConfig(level="DEBUG"),
            chat=ChatConfig(spare=False),
        )
        with Gateway(home.path, home.store, config, HF_TOKEN=TOKEN) as gateway:
            yield gateway


def requests(text: str, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """One to every endpoint that takes what a person has to say, and ways to get it wrong."""
    m, ranker, talker = f"m{number}", f"ranker{number}", f"chat{number}"
    messages = [{"role": "user", "content": text}]
    chat: dict[str, Any] = {"model": talker, "messages": messages, "max_tokens": 50}
    for path in ("/v1/embeddings", "/api/embed", "/api/embeddings", "/embed"):
        yield path, {"model": m, "input": text, "inputs": text, "prompt": text}
    yield "/v1/embeddings", {"model": m, "input": [text, {"a": text}]}
    yield "/v1/embeddings", {"model": m, "input": [text] * 3, "dimensions": 10**6}
    yield "/v1/embeddings", {"model": ranker, "input": text}
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        yield path, {"model": ranker, "query": text, "documents": [text, "b"], "texts": [text]}
    yield "/v1/rerank", {"model": ranker, "query": text, "documents": {"a": text}}
    yield "/v1/score", {"model": ranker, "text_1": text, "text_2": [text]}
    for path in ("/v1/tokenize", "/tokenize"):
        yield path, {"model": m, "input": text, "prompt": text, "content": text, "inputs": text}
    for stream in (False, True):
        yield "/v1/chat/completions", chat | {"stream": stream}
        yield "/v1/completions", {"model": talker, "prompt": text, "stream": stream}
        yield "/v1/responses", {"model": talker, "input": text, "stream": stream}
        yield "/v1/messages", chat | {"stream": stream}
        yield "/api/chat", chat | {"stream": stream}
        yield "/api/generate", {"model": talker, "prompt": text, "stream": stream}
    yield "/v1/chat/completions", chat | {"messages": [{"role": "user", "content": {"a": text}}]}
    yield "/v1/chat/completions", chat | {"messages": text}
    yield "/v1/messages/count_tokens", chat
    yield "/v1/chat/completions/input_tokens", chat
    yield "/nowhere", {"text": text}


def ask(gateway: Gateway, path: str, body: dict[str, Any], key: str = KEY) -> Answer:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return gateway.ask("POST", path, msgspec.json.encode(body), headers)


def test_nothing_that_was_sent_is_kept_or_told(gateway: Gateway) -> None:
    events: list[bytes] = []
    listener = threading.Thread(target=_listen, args=(gateway, events), daemon=True)
    listener.start()
    errors: list[bytes] = []
    for number, trouble in enumerate(TROUBLES):
        for path, body in requests(f"{CANARY} {trouble}", number):
            answer = ask(gateway, path, body)
            if answer.status >= 400:
                errors.append(answer.body)
    # What is not even JSON, and what leaves in the middle.
    broken = (f'{{"model":"m","input":"{CANARY}', f"{CANARY}", f'{{"{CANARY}":1}}')
    errors += [gateway.ask("POST", "/v1/embeddings", raw.encode()).body for raw in broken]
    until(lambda: events, what="an event")

    assert len(errors) > 50
    told = {
        "errors": b"".join(errors),
        "events": b"".join(events),
        "log": gateway.log().encode(),
        "metrics": gateway.ask("GET", "/metrics", headers={"Authorization": f"Bearer {KEY}"}).body,
        "health": gateway.ask("GET", "/health/detail").body,
    }
    files = {str(path): path.read_bytes() for path in gateway.home.rglob("*") if path.is_file()}
    for where, content in (told | files).items():
        assert CANARY.encode() not in content, (where, _around(content))
    assert b"internal_error" not in told["errors"]
    assert "the model failed" in told["errors"].decode()


def test_secrets_are_nowhere(gateway: Gateway) -> None:
    gateway.assert_serves("m0")
    ask(gateway, "/api/show", {"model": "m0"}, key="wrong-key-of-a-stranger")
    workers = [process for process in gateway.processes() if process.pid != gateway.pid]
    assert workers
    for process in workers:
        said = " ".join(process.cmdline()) + " ".join(
            f"{k}={v}" for k, v in process.environ().items()
        )
        assert TOKEN not in said
        assert KEY not in said
    log = gateway.log()
    answers = [gateway.ask("GET", path).body.decode() for path in ("/health/detail", "/metrics")]
    for secret in (KEY, TOKEN, "wrong-key-of-a-stranger"):
        assert secret not in log
        assert secret not in "".join(answers)


def _listen(gateway: Gateway, events: list[bytes]) -> None:
    url = f"http://127.0.0.1:{gateway.port}/admin/events"
    try:
        with httpx.stream(
            "GET", url, timeout=60, headers={"Authorization": f"Bearer {KEY}"}
        ) as told:
            events.extend(told.iter_raw())
    except httpx.HTTPError:
        pass  # the server has stopped


def _around(content: bytes) -> bytes:
    at = content.index(CANARY.encode())
    return content[max(0, at - 300) : at + 100]
