"""Real rerankers behind every dialect: scores of the reference, best first, whatever the shape."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlx_serve_common.config import CacheConfig, Config
from tests.engine import tiny_judges, tiny_rerankers
from tests.engine.rerankers import golden
from tests.engine.texts import TEXTS
from tests.engine.tiny_judges import OWN_INSTRUCTION
from tests.engine.tiny_rerankers import MAX_TOKENS, QUERIES
from tests.process.gateways import Answer, Gateway, environment
from tests.store import ModelStore

pytestmark = pytest.mark.compat

QUERY = QUERIES["plain"]
DOCUMENTS = [*TEXTS.values()]
OBJECTS: list[Any] = [{"text": text, "title": "ignored"} for text in DOCUMENTS]
MODEL, JUDGE = "tiny-cross-encoder", "tiny-Qwen3-Reranker"
ALL = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = tmp_path_factory.mktemp("rerankers")
    store = ModelStore(made / "models")
    sources = {
        MODEL: tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert"], made / "bert"),
        JUDGE: tiny_judges.build(tiny_judges.LAYOUTS["tied"], made / "qwen"),
    }
    for name, source in sources.items():
        subprocess.run(
            [
                sys.executable, "-P", "-m", "mlx_serve_worker.job", "import",
                "--source", str(source), "--models-dir", str(store.models_dir), "--name", name,
            ],
            env=environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    home = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    config = Config(cache=CacheConfig(max_reranker_models=2))
    with Gateway(home, store, config) as running:
        yield running
    shutil.rmtree(home)


def ask(gateway: Gateway, path: str, body: dict[str, Any]) -> Answer:
    return gateway.ask("POST", path, msgspec.json.encode(body))


def ok(gateway: Gateway, path: str, body: dict[str, Any]) -> Any:
    answer = ask(gateway, path, body)
    assert answer.status == 200, answer
    return answer.json


def expected(model: str = MODEL) -> np.ndarray[Any, Any]:
    """Logits of QUERY and each of DOCUMENTS."""
    if model == JUDGE:
        return golden("tiny_judges.json", "tied").logits[: len(DOCUMENTS)]
    return golden("tiny_rerankers.json", "bert").logits[: len(DOCUMENTS)]


def sigmoid(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(1 / (1 + np.exp(-logits)))


def assert_ranked(results: list[dict[str, Any]], key: str, values: np.ndarray[Any, Any]) -> None:
    """All documents, best first, each with its own value."""
    order = [int(place) for place in np.argsort(-values, kind="stable")]
    assert [result["index"] for result in results] == order[: len(results)]
    found = [result[key] for result in results]
    np.testing.assert_allclose(found, values[order][: len(results)], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "keeps_documents"),
    [
        ("/v1/rerank", True),
        ("/rerank", True),
        ("/v1/reranking", True),
        ("/reranking", True),
        ("/v2/rerank", False),
    ],
)
@pytest.mark.parametrize("model", [MODEL, JUDGE])
def test_scores_are_the_references_on_every_path(
    path: str, keeps_documents: bool, model: str, gateway: Gateway
) -> None:
    answer = ok(gateway, path, ALL | {"model": model})
    assert_ranked(answer["results"], "relevance_score", sigmoid(expected(model)))
    for result in answer["results"]:
        assert 0 <= result["relevance_score"] <= 1
        shown = result.get("document")
        assert shown == ({"text": DOCUMENTS[result["index"]]} if keeps_documents else None)
    assert answer["model"] == model
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]
    assert answer["meta"]["tokens"]["input_tokens"] == answer["usage"]["total_tokens"]


def test_usage_counts_what_was_read(gateway: Gateway) -> None:
    counts = golden("tiny_rerankers.json", "bert").token_counts[: len(DOCUMENTS)]
    assert ok(gateway, "/v1/rerank", ALL)["usage"]["total_tokens"] == sum(counts)


CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "jina through langchain or haystack": ("/v1/rerank", {"documents": DOCUMENTS, "top_n": None}),
    "litellm jina_ai": ("/v1/rerank", {"documents": DOCUMENTS, "return_documents": True}),
    "litellm hosted_vllm": ("/rerank", {"documents": OBJECTS, "return_documents": True}),
    "litellm cohere": ("/v2/rerank", {"documents": OBJECTS, "return_documents": True}),
    "cohere v1": ("/v1/rerank", {"documents": OBJECTS, "max_chunks_per_doc": 10, "top_n": 3}),
    "cohere v2": ("/v2/rerank", {"documents": DOCUMENTS, "top_n": 3, "max_tokens_per_doc": 4096}),
    "more than there are": ("/v1/rerank", {"documents": DOCUMENTS, "top_n": 1000}),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_bodies_that_clients_send(client: str, gateway: Gateway) -> None:
    path, body = CLIENTS[client]
    answer = ok(gateway, path, {"model": MODEL, "query": QUERY} | body)
    assert len(answer["results"]) == min(body.get("top_n") or 1000, len(DOCUMENTS))
    assert_ranked(answer["results"], "relevance_score", sigmoid(expected()))


def test_voyage(gateway: Gateway) -> None:
    body = ALL | {"top_k": 4, "return_documents": False, "truncation": True}
    answer = ok(gateway, "/v1/rerank", body)
    assert answer["data"] == answer["results"]
    assert_ranked(answer["data"], "relevance_score", sigmoid(expected()))
    assert len(answer["data"]) == 4


def test_tei(gateway: Gateway) -> None:
    body = {"model": MODEL, "query": QUERY, "texts": DOCUMENTS, "return_text": True}
    answer = ok(gateway, "/rerank", body)
    assert_ranked(answer, "score", sigmoid(expected()))
    assert [result["text"] for result in answer] == [DOCUMENTS[r["index"]] for r in answer]
    raw = ok(gateway, "/rerank", body | {"raw_scores": True, "return_text": False})
    assert_ranked(raw, "score", expected())
    assert "text" not in raw[0]


def test_raw_scores_are_logits(gateway: Gateway) -> None:
    for model in (MODEL, JUDGE):
        answer = ok(gateway, "/v1/rerank", ALL | {"model": model, "raw_scores": True})
        assert_ranked(answer["results"], "relevance_score", expected(model))


def test_yes_and_no(gateway: Gateway) -> None:
    values = sigmoid(expected())
    middle = float(np.median(values))
    for threshold in (None, middle, 0.0, 1.0):
        body = ALL | {"return_text": True, "decision_threshold": threshold}
        for result in ok(gateway, "/v1/rerank", body)["results"]:
            fits = result["relevance_score"] >= (0.5 if threshold is None else threshold)
            assert result["text_output"] == ("yes" if fits else "no")


def test_score_of_one_against_many(gateway: Gateway) -> None:
    for path in ("/v1/score", "/score"):
        body = {"model": MODEL, "text_1": QUERY, "text_2": DOCUMENTS}
        data = ok(gateway, path, body)["data"]
        assert [each["index"] for each in data] == list(range(len(DOCUMENTS)))
        found = [each["score"] for each in data]
        np.testing.assert_allclose(found, sigmoid(expected()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model", "file"), [(MODEL, "tiny_rerankers.json"), (JUDGE, None)])
def test_score_of_pairs(model: str, file: str | None, gateway: Gateway) -> None:
    count = len(DOCUMENTS)
    body = {"model": model, "queries": [QUERY] * count, "documents": DOCUMENTS}
    found = [each["score"] for each in ok(gateway, "/v1/score", body)["data"]]
    np.testing.assert_allclose(found, sigmoid(expected(model)), rtol=0, atol=1e-5)


def test_instruction(gateway: Gateway) -> None:
    asked = {"query": QUERIES["other"], "instruction": OWN_INSTRUCTION, "model": JUDGE}
    answer = ok(gateway, "/v1/rerank", ALL | asked)
    own = golden("tiny_judges.json", "tied").logits[len(DOCUMENTS) :]
    assert_ranked(answer["results"], "relevance_score", sigmoid(own))
    refused = ask(gateway, "/v1/rerank", ALL | asked | {"model": MODEL})
    assert (refused.status, refused.json["error"]["code"]) == (400, "unsupported_parameter")


def test_documents_that_were_cut_are_counted(gateway: Gateway) -> None:
    answer = ask(gateway, "/v1/rerank", ALL)
    lengths = golden("tiny_rerankers.json", "bert").token_counts[: len(DOCUMENTS)]
    assert 0 < answer.json["truncated_documents"] <= lengths.count(MAX_TOKENS)
    whole = ok(gateway, "/v1/rerank", ALL | {"documents": ["short"]})
    assert "truncated_documents" not in whole


@pytest.mark.parametrize("model", [MODEL, JUDGE])
def test_query_that_does_not_fit(model: str, gateway: Gateway) -> None:
    answer = ask(gateway, "/v1/rerank", ALL | {"model": model, "query": "count " * 500})
    assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
    assert "tokens" in answer.json["error"]["message"]


@pytest.mark.parametrize("model", [MODEL, JUDGE])
def test_odd_documents_neither_fail_nor_change_their_neighbours(
    model: str, gateway: Gateway
) -> None:
    odd = ["", " ", "\u0000", "a" * 100_000, "[SEP] [PAD] <|im_end|>", "\ufeff\u200d", "x\ty\n"]
    body = ALL | {"model": model, "documents": [*DOCUMENTS, *odd], "raw_scores": True}
    results = ok(gateway, "/v1/rerank", body)["results"]
    assert len(results) == len(DOCUMENTS) + len(odd)
    assert all(np.isfinite(result["relevance_score"]) for result in results)
    by_index = {result["index"]: result["relevance_score"] for result in results}
    found = [by_index[index] for index in range(len(DOCUMENTS))]
    np.testing.assert_allclose(found, expected(model), rtol=0, atol=1e-5)


def test_half_a_surrogate_pair(gateway: Gateway) -> None:
    body = json.dumps(ALL | {"documents": ["good", "bad \ud800"]}).encode()
    answer = gateway.ask("POST", "/v1/rerank", body)
    assert answer.status == 400, answer


def test_a_thousand_documents(gateway: Gateway) -> None:
    documents = [f"{DOCUMENTS[place % 10]}" for place in range(1000)]
    body = ALL | {"documents": documents, "raw_scores": True, "return_documents": False}
    results = ok(gateway, "/v1/rerank", body)["results"]
    assert sorted(result["index"] for result in results) == list(range(1000))
    values = expected()
    for result in results:
        assert result["relevance_score"] == pytest.approx(values[result["index"] % 10], abs=1e-5)


def test_embeddings_are_refused(gateway: Gateway) -> None:
    answer = ask(gateway, "/v1/embeddings", {"model": MODEL, "input": "a"})
    assert (answer.status, answer.json["error"]["code"]) == (400, "model_type_mismatch")


def test_tokens_of_a_reranker(gateway: Gateway) -> None:
    answer = ok(gateway, "/v1/tokenize", {"model": JUDGE, "input": "yes"})
    assert answer["data"][0]["token_ids"] == [tiny_judges.YES]
