"""Qwen3-Reranker: the model card's prompt and its scores."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Detokenize, Tokenize, Truncate
from mlx_serve_worker import device, judge_prompt
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backends.reranker import RerankerBackend
from tests.engine.rerankers import all_pairs, golden, judge, part, prepare, raw, scores, unshared
from tests.engine.texts import TEXTS
from tests.engine.tiny_judges import ASKED, LAYOUTS, MAX_TOKENS, OWN_INSTRUCTION
from tests.engine.tiny_rerankers import QUERIES

pytestmark = pytest.mark.engine

FILE = "tiny_judges.json"
QUERY = QUERIES["plain"]
DOCUMENTS = [f"{text} {number}" for number in range(10) for text in TEXTS.values()]


@pytest.fixture
def backend(tmp_path: Path) -> RerankerBackend:
    return judge("untied", tmp_path)


def pairs(backend: RerankerBackend) -> list[Prepared]:
    return all_pairs(backend, ASKED)


@pytest.mark.parametrize("name", LAYOUTS)
def test_scores_equal_the_model_card(name: str, tmp_path: Path) -> None:
    backend = judge(name, tmp_path)
    expected = golden(FILE, name)
    inputs = pairs(backend)

    assert [item.length for item in inputs] == expected.token_counts
    for found in (raw(backend, inputs), raw(backend, unshared(inputs))):
        np.testing.assert_allclose(found, expected.logits, rtol=0, atol=1e-5)
    alone = np.concatenate([raw(backend, [item]) for item in unshared(inputs)])
    np.testing.assert_allclose(alone, expected.logits, rtol=0, atol=1e-5)
    assert [*np.argsort(-alone)] == [*np.argsort(-expected.logits)]
    for score in scores(backend, inputs):
        assert score.score == pytest.approx(1 / (1 + np.exp(-score.raw)), abs=1e-12)


def test_layouts_differ_from_each_other() -> None:
    expected = {name: golden(FILE, name).logits for name in LAYOUTS if name != "saved"}
    for one, other in itertools.combinations(expected.values(), 2):
        assert np.abs(one - other).max() > 1e-4
    np.testing.assert_array_equal(golden(FILE, "saved").logits, expected["tied"])


@pytest.mark.parametrize("name", ["bf16", "fp16-untied"])
def test_half_precision_computed_as_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = msgspec.structs.replace(device.current(), computes_half=True)
    monkeypatch.setattr(device, "current", lambda: half)
    backend = judge(name, tmp_path)
    expected = golden(FILE, name).logits
    inputs = pairs(backend)
    for found in (raw(backend, inputs), raw(backend, unshared(inputs))):
        assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


# --- the prompt ----------------------------------------------------------------------------------


def spelled(backend: RerankerBackend, item: Prepared) -> str:
    (text,) = backend.detokenize(Detokenize([0], [item.token_ids]))
    assert isinstance(text, str)
    return text


def test_prompt_is_that_of_the_model_card(backend: RerankerBackend) -> None:
    (default, own) = (
        prepare(backend, "who?", ["me", "you"], instruction)[0]
        for instruction in (None, OWN_INSTRUCTION)
    )
    assert spelled(backend, default) == (
        "<|im_start|>system\n"
        "Judge whether the Document meets the requirements based on the Query and the Instruct"
        ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        "<Query>: who?\n"
        "<Document>: me<|im_end|>\n"
        "<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n"
    )
    assert f"<Instruct>: {OWN_INSTRUCTION}\n<Query>: who?\n" in spelled(backend, own)


def test_document_is_cut_and_nothing_else(backend: RerankerBackend) -> None:
    cuts: list[Truncate] = ["right", "left"]
    for cut in cuts:
        inputs = prepare(backend, QUERY, ["a", TEXTS["long"]], truncate=cut)
        assert [item.truncated for item in inputs] == [False, True]
        text = spelled(backend, inputs[1])
        assert inputs[1].length == MAX_TOKENS
        assert text.startswith(judge_prompt.BEFORE)
        assert f"<Query>: {QUERY}\n<Document>:" in text
        assert text.endswith(judge_prompt.AFTER)
        kept = text.removesuffix(judge_prompt.AFTER).rpartition("<Document>:")[2]
        assert (TEXTS["long"].startswith if cut == "right" else TEXTS["long"].endswith)(kept[1:])


def test_what_does_not_fit_is_refused(backend: RerankerBackend) -> None:
    (found,) = backend.prepare(part(QUERY, [TEXTS["long"]], truncate="none"))
    assert isinstance(found, ServeError)
    assert found.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    for asked in (part("count " * 199, ["a"]), part(QUERY, ["a"], "count " * 199)):
        (found,) = backend.prepare(asked)
        assert isinstance(found, ServeError)
        assert found.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
        assert str(MAX_TOKENS) in found.message


def test_half_a_surrogate_pair_fails_alone(backend: RerankerBackend) -> None:
    found = backend.prepare(part(QUERY, ["good", "bad \ud800"]))
    assert [isinstance(item, ServeError) for item in found] == [False, True]
    for asked in (part("\ud800", ["a", "b"]), part(QUERY, ["a", "b"], "\ud800")):
        errors = [item for item in backend.prepare(asked) if isinstance(item, ServeError)]
        assert [error.code for error in errors] == [ErrorCode.INVALID_REQUEST] * 2


def test_tokenize_works_as_for_other_models(backend: RerankerBackend) -> None:
    (found,) = backend.tokenize(Tokenize([0], ["yes"], special=True, pieces=False))
    assert not isinstance(found, ServeError)
    assert found.ids == [3]
