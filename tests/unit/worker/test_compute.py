"""The compute thread's work: every id comes back once, and only the guilty input fails."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import (
    Batch,
    Detokenize,
    Embed,
    Embedded,
    EmbedTokens,
    Part,
    Rejected,
    Rerank,
    Result,
    Scored,
    Tokenize,
)
from mlx_serve_worker.backend import Output, Prepared, Score, Tokens
from mlx_serve_worker.compute import Compute
from mlx_serve_worker.preparation import Inputs, Item, Preparation
from mlx_serve_worker.urgent_first import UrgentFirst


class ScriptedBackend:
    """Obeys words in its texts and keeps a record of its forward passes."""

    device = "scripted"
    matmul_gflops = None
    matmul_library = None
    computing_workers = None
    batch_tokens = 64
    padding_cost = 1.0
    batch_choices: Sequence[int] = ()
    device_identity = "scripted"

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.tokenized: list[str] = []
        self.given_back = 0

    def load(self) -> None:
        pass

    def memory_bytes(self) -> int:
        return 0

    def give_back_memory(self) -> None:
        self.given_back += 1

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        assert isinstance(part, Embed | Rerank)
        texts = part.texts if isinstance(part, Embed) else part.documents
        self.tokenized += texts
        return [self._prepared(text, isinstance(part, Rerank)) for text in texts]

    def _prepared(self, text: str, is_rerank: bool) -> Prepared | ServeError:
        if "untokenizable" in text:
            raise ValueError(text)
        if "too long" in text:
            return ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long")
        return Prepared(text, len(text), "cut" in text, context=is_rerank)

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        texts = [prepared.token_ids for prepared in inputs]
        self.passes.append(texts)
        if any("raise" in text for text in texts):
            raise RuntimeError("asked to raise")
        return [self._output(prepared) for prepared in inputs]

    def _output(self, prepared: Prepared) -> Output | None:
        text = prepared.token_ids
        if "nan" in text or ("crowd" in text and len(self.passes[-1]) > 1):
            return None
        return Score(0.5, float(len(text))) if prepared.context else vector(text)

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        if any("untokenizable" in text for text in part.texts):
            raise ValueError
        return [Tokens([len(text)], []) for text in part.texts]

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        if any(ids == [666] for ids in part.tokens):
            raise ValueError
        return [str(ids) for ids in part.tokens]


def vector(text: str) -> bytes:
    return f"[{text}]".encode()


class Run:
    """One batch prepared and computed; what came of each id."""

    def __init__(self, *parts: Part, cancelled: Sequence[int] = (), max_items: int = 8) -> None:
        self.backend = ScriptedBackend()
        self.results: list[Result] = []
        emit, is_cancelled = self.results.append, set(cancelled).__contains__
        preparation = Preparation(self.backend, emit=emit, is_cancelled=is_cancelled)
        compute = Compute(
            self.backend, max_items=max_items, max_tokens=None, emit=emit, is_cancelled=is_cancelled
        )
        compute.answer(preparation.inputs(Batch(list(parts))))

    @property
    def ids(self) -> list[int]:
        return sorted(id for result in self.results for id in result.ids)

    def vectors(self) -> dict[int, bytes]:
        return {
            id: vector
            for result in self.results
            if isinstance(result, Embedded)
            for id, vector in zip(result.ids, result.vectors, strict=True)
        }

    def rejected(self) -> dict[int, ErrorCode]:
        return {
            id: result.code
            for result in self.results
            if isinstance(result, Rejected)
            for id in result.ids
        }


def embed(texts: dict[int, str]) -> Embed:
    return Embed(list(texts), list(texts.values()), "float", "right")


def inputs(texts: dict[int, str], *, urgent: bool = False) -> Inputs:
    prepared = {id: Prepared(text, len(text), False) for id, text in texts.items()}
    return Inputs([Item(*pair) for pair in prepared.items()], urgent)


WORDS = ["", "raise", "nan", "crowd", "too long", "cut", "untokenizable"]
TEXT = st.builds(lambda word, more: word + more * "x", st.sampled_from(WORDS), st.integers(1, 40))


@given(
    texts=st.lists(TEXT, max_size=25),
    cancelled=st.sets(st.integers(1, 25)),
    split=st.integers(0, 25),
    max_items=st.integers(1, 8),
)
def test_every_id_exactly_once_and_only_the_guilty_rejected(
    texts: list[str], cancelled: set[int], split: int, max_items: int
) -> None:
    by_id = dict(enumerate(texts, start=1))
    parts = [
        embed({id: text for id, text in by_id.items() if id <= split}),
        embed({id: text for id, text in by_id.items() if id > split}),
    ]

    run = Run(*parts, cancelled=list(cancelled), max_items=max_items)

    assert run.ids == sorted(by_id)
    expected = {
        "raise": ErrorCode.INFERENCE_FAILED,
        "nan": ErrorCode.INVALID_MODEL_OUTPUT,
        "too long": ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        "untokenizable": ErrorCode.INFERENCE_FAILED,
    }
    for id, text in by_id.items():
        code = next((code for word, code in expected.items() if word in text), None)
        if id in cancelled:
            assert run.rejected()[id] is ErrorCode.CANCELLED
        elif code is not None:
            assert run.rejected()[id] is code
        else:
            assert run.vectors()[id] == vector(text)


def test_a_failing_input_is_rejected_alone() -> None:
    run = Run(embed({1: "good", 2: "raise", 3: "fine"}))

    assert run.vectors() == {1: b"[good]", 3: b"[fine]"}
    assert run.rejected() == {2: ErrorCode.INFERENCE_FAILED}


def test_an_input_that_is_not_finite_is_tried_alone_before_it_is_rejected() -> None:
    run = Run(embed({1: "good", 2: "nan", 3: "crowd"}))

    assert run.vectors() == {1: b"[good]", 3: b"[crowd]"}
    assert run.rejected() == {2: ErrorCode.INVALID_MODEL_OUTPUT}
    assert ["nan"] in run.backend.passes


def test_what_can_be_computed_together_is_computed_once() -> None:
    run = Run(embed({1: "good", 2: "nan", 3: "fine"}))

    assert sum("good" in texts for texts in run.backend.passes) == 1


def test_an_input_cancelled_while_others_are_computed_is_dropped() -> None:
    backend = ScriptedBackend()
    results: list[Result] = []
    compute = Compute(
        backend,
        max_items=1,
        max_tokens=None,
        emit=results.append,
        is_cancelled=lambda id: id == 2 and len(backend.passes) > 0,
    )

    compute.answer(inputs({1: "a", 2: "bb", 3: "ccc"}))

    assert backend.passes == [["a"], ["ccc"]]
    assert sorted(id for result in results for id in result.ids) == [1, 2, 3]


def test_parts_of_different_calls_share_a_forward_pass() -> None:
    run = Run(embed({1: "a"}), embed({2: "b"}))

    assert run.backend.passes == [["a", "b"]]


def test_what_was_cut_and_counted_is_told_per_id() -> None:
    (result,) = Run(embed({7: "cut off", 8: "whole"})).results

    assert isinstance(result, Embedded)
    assert dict(zip(result.ids, result.token_counts, strict=True)) == {7: 7, 8: 5}
    assert result.truncated == [7]


def test_scores_come_back_for_documents() -> None:
    part = Rerank([4, 5], "query", ["one", "three"], None, "right")
    (result,) = Run(part).results

    assert isinstance(result, Scored)
    assert dict(zip(result.ids, result.raw_scores, strict=True)) == {4: 3.0, 5: 5.0}


def test_an_empty_part_gives_no_answer() -> None:
    assert Run(embed({})).results == []
    assert Run(embed({1: "gone"}), cancelled=[1]).backend.passes == []


# --- those in a hurry ----------------------------------------------------------------------------


def test_who_is_in_a_hurry_waits_for_one_micro_batch_and_bulk_gets_on() -> None:
    ready: UrgentFirst[Inputs] = UrgentFirst()
    backend = ScriptedBackend()

    def emit(result: Result) -> None:
        # The first micro-batch of the bulk load is done: two more callers come.
        if result.ids == [0, 1]:
            for id in (100, 101):
                ready.put(inputs({id: f"query {id}"}, urgent=True))
            ready.close()

    compute = Compute(
        backend, max_items=2, max_tokens=None, emit=emit, is_cancelled=lambda _: False
    )
    ready.put(inputs(dict.fromkeys(range(6), "text")))
    compute.run(ready)

    bulk = ["text", "text"]
    assert backend.passes == [bulk, ["query 100"], bulk, ["query 101"], bulk]


def test_a_bulk_load_gets_on_while_somebody_is_always_in_a_hurry() -> None:
    ready: UrgentFirst[Inputs] = UrgentFirst()
    backend = ScriptedBackend()

    def emit(result: Result) -> None:
        (id, *_) = result.ids
        if 100 <= id < 105:
            ready.put(inputs({id + 1: "query"}, urgent=True))
        elif id == 105:
            ready.close()

    compute = Compute(
        backend, max_items=2, max_tokens=None, emit=emit, is_cancelled=lambda _: False
    )
    ready.put(inputs({100: "query"}, urgent=True))
    ready.put(inputs(dict.fromkeys(range(4), "text")))
    compute.run(ready)

    query, bulk = ["query"], ["text", "text"]
    assert backend.passes == [query, query, bulk, query, bulk, query, query, query]
