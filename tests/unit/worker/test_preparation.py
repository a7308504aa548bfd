"""The texts thread's work: what is to be computed is handed on, the rest is answered."""

from mlx_serve_common.chat import Conversation, Plain, Sampling
from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.wire import (
    Batch,
    Detokenize,
    Detokenized,
    Generate,
    Part,
    Rejected,
    Result,
    Tokenize,
    TokenizeConversation,
    Tokenized,
)
from mlx_serve_worker.backend import Backend, Generator
from mlx_serve_worker.preparation import Inputs, Item, Preparation
from mlx_serve_worker.urgent_first import UrgentFirst
from tests.unit.worker.test_compute import Run, ScriptedBackend, embed
from tests.unit.worker.test_generation import ScriptedGenerator, generate

NO_VECTORS = "this is a chat model; it gives no vectors or scores"


def test_a_cancelled_input_is_neither_tokenized_nor_computed() -> None:
    run = Run(embed({1: "good", 2: "gone"}), cancelled=[2])

    assert run.rejected() == {2: ErrorCode.CANCELLED}
    assert run.backend.tokenized == ["good"]
    assert run.backend.passes == [["good"]]


def test_texts_that_cannot_be_tokenized_are_rejected_alone() -> None:
    run = Run(Tokenize([1, 2, 3], ["a", "untokenizable", "ccc"], special=True, pieces=False))

    assert run.ids == [1, 2, 3]
    assert run.rejected() == {2: ErrorCode.INFERENCE_FAILED}
    tokenized = [result for result in run.results if isinstance(result, Tokenized)]
    assert [dict(zip(each.ids, each.tokens, strict=True)) for each in tokenized] == [
        {1: [1], 3: [3]}
    ]


def test_ids_that_are_no_text_are_rejected_alone() -> None:
    run = Run(Detokenize([1, 2], [[666], [5]]))

    assert run.rejected() == {1: ErrorCode.INFERENCE_FAILED}
    assert [result.ids for result in run.results if isinstance(result, Detokenized)] == [[2]]


def run(
    *batches: Batch, model: Backend | Generator | None = None
) -> tuple[list[Inputs], list[Result]]:
    """What is handed on of batches that all wait, and what is answered at once."""
    waiting: UrgentFirst[Batch] = UrgentFirst()
    for batch in batches:
        waiting.put(batch)
    waiting.close()
    ready: UrgentFirst[Inputs] = UrgentFirst()
    answered: list[Result] = []
    preparation = Preparation(
        model or ScriptedBackend(), emit=answered.append, is_cancelled=lambda _: False
    )
    preparation.run(waiting, ready)
    return list(iter(ready.take, None)), answered


def ids(inputs: Inputs) -> list[int]:
    return [item.id for item in inputs.items]


def test_what_is_urgent_is_handed_on_as_such_and_first() -> None:
    handed_on, answered = run(
        Batch([embed({1: "a", 2: "b"})]), Batch([embed({3: "c"}), embed({4: "d"})], urgent=True)
    )

    assert [(ids(each), each.urgent) for each in handed_on] == [([3, 4], True), ([1, 2], False)]
    assert answered == []


def test_of_what_needs_no_model_nothing_is_handed_on() -> None:
    parts: list[Part] = [Tokenize([1], ["a"], special=True, pieces=False), embed({2: "too long"})]
    handed_on, answered = run(Batch(parts))

    assert handed_on == []
    assert [id for result in answered for id in result.ids] == [1, 2]


def test_who_wants_to_chat_is_told_that_this_is_no_chat_model() -> None:
    run = Run(generate(1, "hello"), embed({2: "a"}))

    assert run.rejected() == {1: ErrorCode.MODEL_TYPE_MISMATCH}
    assert run.backend.passes == [["a"]]


def test_a_chat_model_reads_conversations_and_gives_no_vectors() -> None:
    parts: list[Part] = [
        Tokenize([1], ["abc"], special=True, pieces=False),
        TokenizeConversation([2], [Conversation([{}, {}])]),
        embed({3: "a"}),
        Generate([4, 5], [0, 1], Plain("x"), Sampling()),
    ]
    handed_on, answered = run(Batch(parts), model=ScriptedGenerator())

    assert handed_on == [Inputs([Item(4, ["0", "x"]), Item(5, ["1", "x"])], urgent=False)]
    assert answered == [
        Tokenized([1], [[3]], [[]]),
        Tokenized([2], [[2]], [[]]),
        Rejected([3], ErrorCode.MODEL_TYPE_MISMATCH, NO_VECTORS),
    ]
