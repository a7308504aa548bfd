"""Qwen3-Reranker: what documents of a query have in common is computed once, and still right."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_common.wire import Batch, Scored
from mlx_serve_worker.backends.reranker import RerankerBackend
from mlx_serve_worker.compute import Compute
from mlx_serve_worker.judge import Judge, PrefixMemory
from mlx_serve_worker.models.judge import JudgeModel
from mlx_serve_worker.preparation import Preparation
from mlx_serve_worker.tokenization import Read
from tests.engine.rerankers import all_pairs, judge, part, prepare, raw, unshared
from tests.engine.texts import TEXTS
from tests.engine.tiny_judges import ASKED
from tests.engine.tiny_rerankers import QUERIES

pytestmark = pytest.mark.engine

QUERY = QUERIES["plain"]
DOCUMENTS = [f"{text} {number}" for number in range(10) for text in TEXTS.values()]


@pytest.fixture
def backend(tmp_path: Path) -> RerankerBackend:
    return judge("untied", tmp_path)


class Counted:
    """Counts the tokens that a model is fed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = 0
        run = JudgeModel._run

        def counting(model: JudgeModel, token_ids: Any, caches: Sequence[Any]) -> Any:
            self.tokens += token_ids.size
            return run(model, token_ids, caches)

        monkeypatch.setattr(JudgeModel, "_run", counting)


def computed(backend: RerankerBackend, query: str, documents: list[str]) -> list[float]:
    """Raw scores as a worker gives them: in micro-batches."""
    found: dict[int, float] = {}

    def emit(result: Any) -> None:
        assert isinstance(result, Scored)
        found.update(zip(result.ids, result.raw_scores, strict=True))

    compute = Compute(
        backend, max_items=8, max_tokens=1024, emit=emit, is_cancelled=lambda _: False
    )
    preparation = Preparation(backend, emit=emit, is_cancelled=lambda _: False)
    compute.answer(preparation.inputs(Batch([part(query, documents)])))
    return [found[at] for at in range(len(documents))]


def test_shared_part_is_computed_once_for_all_micro_batches(
    backend: RerankerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [f"document number {number}" for number in range(100)]
    inputs = prepare(backend, QUERY, documents)
    shared = len(inputs[0].context.ids)
    lengths = [item.length for item in inputs]

    counted = Counted(monkeypatch)
    started = time.perf_counter()
    alone = [raw(backend, [item])[0] for item in unshared(inputs)]
    middle = time.perf_counter()
    assert counted.tokens == sum(lengths)

    counted.tokens = 0
    together = computed(backend, QUERY, documents)
    ended = time.perf_counter()
    padding = 100 * (max(lengths) - min(lengths))
    assert counted.tokens <= shared + sum(lengths) - 100 * shared + padding
    assert sum(lengths) / counted.tokens > 2.5
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    print(  # noqa: T201 - a time to look at, not to rely on
        f"\n100 documents one by one: {middle - started:.3f} s, {sum(lengths)} tokens;"
        f" sharing {shared} tokens: {ended - middle:.3f} s, {counted.tokens} tokens"
    )


def test_shared_part_is_remembered_between_calls(
    backend: RerankerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = computed(backend, QUERY, ["a", "b"])
    counted = Counted(monkeypatch)
    inputs = prepare(backend, QUERY, ["a", "b"])
    shared = len(inputs[0].context.ids)
    np.testing.assert_allclose(computed(backend, QUERY, ["a", "b"]), first, rtol=0, atol=1e-6)
    assert counted.tokens <= sum(item.length for item in inputs) - 2 * shared + 2


def test_single_documents_of_many_queries_share_a_forward_pass(
    backend: RerankerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [prepare(backend, query, ["yes"])[0] for query in ("one?", "two of them?", "three?")]
    expected = [raw(backend, [item])[0] for item in unshared(inputs)]
    counted = Counted(monkeypatch)
    np.testing.assert_allclose(raw(backend, inputs), expected, rtol=0, atol=1e-5)
    assert counted.tokens == 3 * max(item.length for item in inputs)


def test_queries_may_be_mixed_in_a_batch(backend: RerankerBackend) -> None:
    inputs = [*all_pairs(backend, ASKED), *(prepare(backend, "lonely", ["document"]))]
    order = np.random.RandomState(2).permutation(len(inputs))
    expected = raw(backend, unshared(inputs))
    np.testing.assert_allclose(
        raw(backend, [inputs[at] for at in order]), expected[order], rtol=0, atol=1e-5
    )


def test_score_does_not_depend_on_the_other_documents(backend: RerankerBackend) -> None:
    inputs = prepare(backend, QUERY, DOCUMENTS[:64])
    together = raw(backend, inputs)
    alone = np.concatenate([raw(backend, [item]) for item in unshared(inputs)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_memory_is_bounded(backend: RerankerBackend) -> None:
    scorer = backend._scorer
    assert isinstance(scorer, Judge)
    read: list[tuple[int, ...]] = []

    def reading(ids: Sequence[int]) -> Any:
        read.append(tuple(ids))
        return scorer.model.read(ids)

    one = scorer.model.read([5] * 10).bytes
    memory = PrefixMemory(reading, 2 * one)
    first, second, third = ((token,) * 10 for token in (5, 6, 7))
    for ids in (first, second, first, third):
        assert memory[ids].tokens == 10
    # The one that was not used for longest is gone.
    assert [ids in memory for ids in (first, second, third)] == [True, False, True]
    assert read == [first, second, third]
    # What is too large by itself is used, and not kept.
    assert memory[(5,) * 30].tokens == 30
    assert (5,) * 30 not in memory


def test_tokenizer_that_joins_the_question_and_the_document_shares_nothing(
    backend: RerankerBackend,
) -> None:
    scorer = backend._scorer
    assert isinstance(scorer, Judge)
    read = scorer.texts.read

    def joining(texts: Sequence[str], **options: Any) -> Any:
        found: list[Any] = read(texts, **options)
        if options.get("before"):
            return [Read([9, *each.ids[1:]], each.whole) for each in found]
        return found

    scorer.texts.read = joining  # type: ignore[method-assign]
    (item, _) = prepare(backend, QUERY, ["a", "b"])
    assert item.context is None
