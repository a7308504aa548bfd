"""What a live server answers is what the contract promises, to good requests and to odd ones."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_serve_gateway.http.contract.document import openapi
from mlx_serve_gateway.http.contract.table import ENDPOINTS
from tests.process.contract.bodies import Bodies, Drawing
from tests.process.contract.fitting import assert_promised
from tests.process.gateways import Answer, Gateway
from tests.unit.gateway.http.contract.promised import PROMISED

pytestmark = pytest.mark.process


def ask(gateway: Gateway, method: str, path: str, body: Any = None) -> Answer:
    # Unlike msgspec, json writes half of a surrogate pair, as some clients do.
    content = None if body is None else json.dumps(body).encode()
    answer = gateway.ask(method, path, content)
    assert_promised(answer, PROMISED[method, path.partition("?")[0]], path)
    return answer


# --- good requests -------------------------------------------------------------------------------

TOOL = {"name": "look", "description": "d", "parameters": {"type": "object"}}
TALK = [{"role": "user", "content": "__think:so__ a b"}]
CALL = [{"role": "user", "content": '__think:so__ __call:look:{"a": 1}__'}]
CHAT = {"model": "c", "messages": TALK}
OPENAI_CALL = {
    "model": "c",
    "messages": CALL,
    "tools": [{"type": "function", "function": TOOL}],
}
RESPONSES_CALL = {"model": "c", "input": CALL, "tools": [{"type": "function"} | TOOL]}
ANTHROPIC = {"model": "c", "max_tokens": 9}
ANTHROPIC_CALL = ANTHROPIC | {
    "messages": CALL,
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
}
STREAMED = {"stream": True}
WHOLE = {"stream": False}

GOOD: list[tuple[str, Any]] = [
    ("/v1/embeddings", {"model": "e", "input": ["a", "b"]}),
    ("/v1/embeddings", {"model": "e", "input": "a", "encoding_format": "base64"}),
    ("/v1/embeddings", {"model": "e", "input": "a " * 600}),
    ("/embed", {"model": "e", "inputs": ["a", "b"]}),
    ("/v1/rerank", {"model": "r", "query": "q", "documents": ["a", {"text": "b"}], "top_k": 1}),
    ("/v1/rerank", {"query": "q", "documents": ["a"], "return_text": True}),
    ("/v2/rerank", {"model": "r", "query": "q", "documents": ["a " * 600]}),
    ("/rerank", {"query": "q", "texts": ["a", "b"], "return_text": True}),
    ("/v1/score", {"model": "r", "text_1": "a", "text_2": ["a", "b"]}),
    ("/v1/tokenize", {"model": "e", "input": ["a", "b"]}),
    ("/tokenize", {"model": "e", "prompt": "a"}),
    ("/tokenize", {"model": "e", "prompt": "a", "return_token_strs": True}),
    ("/tokenize", CHAT),
    ("/tokenize", {"model": "e", "content": "a"}),
    ("/tokenize", {"model": "e", "content": "a", "with_pieces": True}),
    ("/tokenize", {"model": "e", "inputs": "ab"}),
    ("/v1/detokenize", {"model": "e", "tokens": [[65], [66]]}),
    ("/detokenize", {"model": "e", "tokens": [65]}),
    ("/decode", {"model": "e", "ids": [65]}),
    ("/v1/chat/completions", CHAT | {"n": 2, "logprobs": True, "top_logprobs": 1}),
    ("/v1/chat/completions", OPENAI_CALL),
    ("/v1/chat/completions", CHAT | STREAMED | {"stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", OPENAI_CALL | STREAMED | {"logprobs": True}),
    ("/v1/chat/completions/input_tokens", CHAT),
    ("/v1/completions", {"model": "c", "prompt": ["a", "b"], "logprobs": 1}),
    ("/v1/completions", {"model": "c", "prompt": "a", "logprobs": 1} | STREAMED),
    ("/v1/responses", {"model": "c", "input": TALK, "top_logprobs": 1}),
    ("/v1/responses", {"model": "c", "input": TALK, "max_output_tokens": 1}),
    ("/v1/responses", RESPONSES_CALL),
    ("/v1/responses", {"model": "c", "input": TALK, "top_logprobs": 1} | STREAMED),
    ("/v1/responses", RESPONSES_CALL | STREAMED),
    ("/v1/responses/input_tokens", {"model": "c", "input": "a"}),
    ("/v1/messages", ANTHROPIC | {"messages": TALK}),
    ("/v1/messages", ANTHROPIC_CALL),
    ("/v1/messages", ANTHROPIC | {"messages": TALK} | STREAMED),
    ("/v1/messages", ANTHROPIC_CALL | STREAMED),
    ("/v1/messages/count_tokens", {"model": "c", "messages": TALK}),
    ("/api/chat", CHAT),
    ("/api/chat", OPENAI_CALL),
    ("/api/chat", CHAT | WHOLE | {"logprobs": True, "top_logprobs": 1}),
    ("/api/chat", OPENAI_CALL | WHOLE),
    ("/api/chat", {"model": "c"}),
    ("/api/generate", {"model": "c", "prompt": "__think:so__ a", "logprobs": True}),
    ("/api/generate", {"model": "c", "prompt": "a"} | WHOLE),
    ("/api/generate", {"model": "c", "keep_alive": 0}),
    ("/api/embed", {"model": "e", "input": ["a"]}),
    ("/api/embeddings", {"model": "e", "prompt": "a"}),
    ("/api/show", {"model": "c"}),
    ("/api/copy", {"source": "e", "destination": "e2"}),
    ("/admin/load", {"model": "e"}),
    ("/admin/pin", {"model": "e"}),
    ("/admin/unpin", {"model": "e"}),
    ("/admin/unload", {"model": "r"}),
    ("/admin/reload", {}),
]


@pytest.mark.parametrize(("path", "body"), GOOD, ids=[path for path, _ in GOOD])
def test_a_good_request(path: str, body: Any, gateway: Gateway) -> None:
    assert ask(gateway, "POST", path, body).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_a_stream_that_breaks(path: str, gateway: Gateway) -> None:
    talk = [{"role": "user", "content": f"__words:40__ __crash_after:20__ {path}"}]
    answer = ask(gateway, "POST", path, {"model": "c", "messages": talk, "stream": True})
    assert answer.status == 200
    assert b"error" in answer.body


ENDLESS = "/admin/events"
SHOWN = [path for method, path in PROMISED if method == "GET" and path != ENDLESS]


@pytest.mark.parametrize("path", SHOWN)
def test_what_is_asked_without_a_body(path: str, gateway: Gateway) -> None:
    gateway.embed("e", "loaded")
    assert ask(gateway, "GET", path).status == (404 if "{" in path else 200)


# --- odd ones ------------------------------------------------------------------------------------

ENDS_OR_FETCHES = {"/admin/drain", "/api/pull", "/api/quantize", "/api/delete", "/api/copy"}
ASKED = {
    endpoint.paths[0]: endpoint
    for endpoint in ENDPOINTS
    if endpoint.body is not None and endpoint.paths[0] not in ENDS_OR_FETCHES
}
DOCUMENT = openapi()
DRAWING = Drawing(DOCUMENT["components"]["schemas"], ["c", "e", "r"])


def bodies(path: str) -> Bodies:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    good = [body for asked, body in GOOD if asked in ASKED[path].paths]
    return DRAWING.bodies(content["application/json"]["schema"], good)


@pytest.mark.parametrize("path", ASKED)
@settings(max_examples=30, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_asked(path: str, gateway: Gateway, data: st.DataObject) -> None:
    ask(gateway, "POST", path, data.draw(bodies(path)))
