"""The very requests that client libraries send, as they were captured, and what these read back.

LangChain, LlamaIndex, haystack, LiteLLM, Cohere, Jina and Voyage clients are too heavy to install
for every run of the tests; their requests are not.
"""

import base64
import math
from typing import Any

import msgspec
import pytest

from tests.compat.conftest import MODEL, RERANKER
from tests.process.gateways import Answer, Gateway

pytestmark = pytest.mark.compat

DOCUMENTS = ["Paris is the capital of France.", "", "MLX computes on Apple Silicon."]
OBJECTS: list[Any] = [{"text": text} for text in DOCUMENTS]

EMBEDDINGS: dict[str, dict[str, Any]] = {
    "openai": {"input": ["a"], "encoding_format": "base64"},
    "langchain, default mode": {"input": [[15339, 1917]], "encoding_format": "base64"},
    "langchain, an empty document": {"input": "", "encoding_format": "base64"},
    "llamaindex": {"input": ["x"], "dimensions": 32, "encoding_format": "base64"},
    "llamaindex jina": {"input": ["x"], "encoding_type": "float", "task": "retrieval.query"},
    "haystack": {"input": "hi", "encoding_format": "float"},
    "litellm": {"input": ["a"]},
    "voyage": {
        "input": ["a", "b"], "input_type": None, "truncation": True, "output_dtype": None,
        "output_dimension": None, "encoding_format": "base64",
    },
    "nulls": {"input": ["a"], "dimensions": None, "encoding_format": None, "user": None},
}  # fmt: skip


def post(gateway: Gateway, path: str, body: dict[str, Any], **headers: str) -> Answer:
    answer = gateway.ask("POST", path, msgspec.json.encode(body), headers)
    assert answer.status == 200, answer
    return answer


@pytest.mark.parametrize("client", EMBEDDINGS)
def test_embeddings(client: str, gateway: Gateway) -> None:
    body = {"model": MODEL} | EMBEDDINGS[client]
    answer = post(gateway, "/v1/embeddings", body).json
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    assert [item["index"] for item in answer["data"]] == list(range(len(inputs)))
    for item in answer["data"]:
        vector = item["embedding"]
        if body.get("encoding_format") == "base64":
            vector = base64.b64decode(vector)
            assert len(vector) == 4 * (body.get("dimensions") or 384)
        else:
            assert len(vector) == 384
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_cl100k_ids_are_the_text_they_stand_for(gateway: Gateway) -> None:
    ids = post(gateway, "/v1/embeddings", {"model": MODEL, "input": [[15339, 1917]]}).json
    text = post(gateway, "/v1/embeddings", {"model": MODEL, "input": "hello world"}).json
    assert ids["data"][0]["embedding"] == pytest.approx(text["data"][0]["embedding"], abs=1e-5)


# langchain-ollama names all of Ollama's options, whether they are set or not.
_OPTIONS = dict.fromkeys(
    (
        "mirostat", "mirostat_eta", "mirostat_tau", "num_ctx", "num_gpu", "num_thread",
        "repeat_last_n", "repeat_penalty", "temperature", "stop", "tfs_z", "top_k", "top_p",
    )
)  # fmt: skip

OLLAMA: dict[str, dict[str, Any]] = {
    "embed_documents": {"input": ["one", "", "three"], "options": _OPTIONS},
    "embed_query": {"input": ["one"], "options": _OPTIONS},
    "with options": {
        "input": ["one"],
        "options": _OPTIONS | {"num_ctx": 128, "temperature": 0.2},
        "keep_alive": 300.0,
    },
    "with dimensions": {"input": ["one"], "options": _OPTIONS, "dimensions": 64},
}


@pytest.mark.parametrize("call", OLLAMA)
def test_langchain_ollama(call: str, gateway: Gateway) -> None:
    body = {"model": MODEL} | OLLAMA[call]
    vectors = post(gateway, "/api/embed", body).json["embeddings"]
    assert [len(vector) for vector in vectors] == [body.get("dimensions", 384)] * len(body["input"])
    for vector in vectors:
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


def test_langchain_ollama_looks_for_its_model(gateway: Gateway) -> None:
    """With ``validate_model_on_init``: it reads the names out of the list."""
    models = gateway.ask("GET", "/api/tags").json["models"]
    assert MODEL in [model["model"] for model in models]


RERANKING: dict[str, tuple[str, dict[str, Any]]] = {
    "langchain and haystack jina": ("/v1/rerank", {"documents": DOCUMENTS, "top_n": None}),
    "litellm jina_ai": ("/v1/rerank", {"documents": DOCUMENTS, "return_documents": True}),
    "litellm hosted_vllm": ("/rerank", {"documents": DOCUMENTS, "return_documents": True}),
    "cohere v1": ("/v1/rerank", {"documents": OBJECTS, "max_chunks_per_doc": 10}),
    "cohere v2": ("/v2/rerank", {"documents": DOCUMENTS, "top_n": 2}),
    "litellm cohere": ("/v2/rerank", {"documents": OBJECTS, "return_documents": True}),
    "llama.cpp": ("/v1/reranking", {"documents": DOCUMENTS}),
}


@pytest.mark.parametrize("client", RERANKING)
def test_rerank(client: str, gateway: Gateway) -> None:
    path, body = RERANKING[client]
    headers = {"accept-encoding": "identity", "authorization": "Bearer any"}
    answer = post(gateway, path, {"model": RERANKER, "query": "q"} | body, **headers).json
    results = answer["results"]
    assert answer["model"] == RERANKER
    assert len(results) == (body.get("top_n") or len(DOCUMENTS))
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len({result["index"] for result in results}) == len(results)
    keeps = body.get("return_documents", path != "/v2/rerank")
    for result in results:
        document = result.get("document")
        assert document == ({"text": DOCUMENTS[result["index"]]} if keeps else None)
    assert answer["usage"]["total_tokens"] == answer["meta"]["tokens"]["input_tokens"]


def test_voyage_rerank(gateway: Gateway) -> None:
    body = {"model": RERANKER, "query": "q", "documents": DOCUMENTS, "top_k": 2}
    answer = post(gateway, "/v1/rerank", body).json
    assert answer["data"] == answer["results"]
    assert len(answer["data"]) == 2


def test_tei_rerank(gateway: Gateway) -> None:
    body = {"query": "q", "texts": DOCUMENTS, "return_text": True, "raw_scores": False}
    answer = post(gateway, "/rerank", body).json
    assert {frozenset(result) for result in answer} == {frozenset({"index", "score", "text"})}
    assert sorted(result["index"] for result in answer) == [0, 1, 2]


def test_vllm_score(gateway: Gateway) -> None:
    body = {"model": RERANKER, "text_1": "q", "text_2": DOCUMENTS}
    data = post(gateway, "/v1/score", body).json["data"]
    assert [score["index"] for score in data] == [0, 1, 2]


def test_a_body_without_content_type_is_json(gateway: Gateway) -> None:
    body = b'{"model": "all-MiniLM-L6-v2", "input": "x"}'
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        assert gateway.ask("POST", "/v1/embeddings", body, headers).status == 200
