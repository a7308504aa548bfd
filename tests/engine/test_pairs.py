"""A query and a document become one input: what is cut, what is refused, and what is never cut."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Embed, Tokenize, Truncate
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backends.reranker import RerankerBackend
from mlx_serve_worker.pairs import PairTokenizer, pair_template
from mlx_serve_worker.tokenization import TextTokenizer
from tests.engine import reranker_tokenizers
from tests.engine.rerankers import cross_encoder, part, prepare
from tests.engine.texts import TEXTS
from tests.engine.tiny_rerankers import MAX_TOKENS, QUERIES

pytestmark = pytest.mark.engine

QUERY = QUERIES["plain"]
KINDS = ("bert", "deberta-v2", "modernbert", "mpnet", "roberta", "xlm-roberta")


@pytest.fixture
def backend(tmp_path: Path) -> RerankerBackend:
    return cross_encoder("bert", tmp_path)


def tokens(backend: RerankerBackend, text: str) -> list[int]:
    (found,) = backend.tokenize(Tokenize([0], [text], special=False, pieces=False))
    assert not isinstance(found, ServeError)
    return found.ids


def refusal(backend: RerankerBackend, query: str, document: str, cut: Truncate) -> ServeError:
    (found,) = backend.prepare(part(query, [document], truncate=cut))
    assert isinstance(found, ServeError)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_whole_pair_is_the_tokenizers_own(kind: str) -> None:
    tokenizer: Any = reranker_tokenizers.make(kind).tokenizer
    template = pair_template(tokenizer)
    texts = TextTokenizer(tokenizer, vocab_size=tokenizer.get_vocab_size(), max_tokens=1000)
    pairs = PairTokenizer(texts, template, token_types=2)
    for document in TEXTS.values():
        (item,) = pairs.prepare(part(QUERY, [document]))
        assert isinstance(item, Prepared)
        own = tokenizer.encode(QUERY, document)
        assert (item.token_ids, item.context) == (own.ids, own.type_ids)
        assert (item.length, item.truncated) == (len(own.ids), False)


def test_too_long_document_loses_its_end(backend: RerankerBackend) -> None:
    whole, cut = prepare(backend, QUERY, ["short one", TEXTS["long"]])
    assert (whole.truncated, cut.truncated) == (False, True)
    assert cut.length == len(cut.token_ids) == MAX_TOKENS
    query, document = tokens(backend, QUERY), tokens(backend, TEXTS["long"])
    room = MAX_TOKENS - len(query) - 3
    assert cut.token_ids[1 : 1 + len(query)] == query
    assert cut.token_ids[2 + len(query) : -1] == document[:room]
    assert cut.context == [0] * (len(query) + 2) + [1] * (room + 1)


def test_too_long_document_loses_its_start_if_asked(backend: RerankerBackend) -> None:
    (cut,) = prepare(backend, QUERY, [TEXTS["long"]], truncate="left")
    query, document = tokens(backend, QUERY), tokens(backend, TEXTS["long"])
    room = MAX_TOKENS - len(query) - 3
    assert cut.token_ids[1 : 1 + len(query)] == query
    assert cut.token_ids[2 + len(query) : -1] == document[-room:]


def test_too_long_document_is_refused_if_nothing_may_be_cut(backend: RerankerBackend) -> None:
    error = refusal(backend, QUERY, TEXTS["long"], "none")
    assert error.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    taken, count = len(tokens(backend, QUERY)) + 3, len(tokens(backend, TEXTS["long"]))
    assert f"take {taken}" in error.message
    assert f"has {count}" in error.message
    assert str(MAX_TOKENS) in error.message


def test_only_the_document_that_is_too_long_is_refused(backend: RerankerBackend) -> None:
    documents = ["a", TEXTS["long"], ""]
    found = backend.prepare(part(QUERY, documents, truncate="none"))
    assert [isinstance(item, ServeError) for item in found] == [False, True, False]


@pytest.mark.parametrize("cut", ["right", "left", "none"])
def test_query_is_never_cut(backend: RerankerBackend, cut: Truncate) -> None:
    query = "count " * 40
    error = refusal(backend, query, "a", cut)
    assert error.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert error.param == "query"
    assert f"up to {MAX_TOKENS} tokens" in error.message
    assert f"has {len(tokens(backend, query))} " in error.message


def test_endless_query_is_refused_without_reading_all_of_it(backend: RerankerBackend) -> None:
    error = refusal(backend, "a " * 500_000, "a", "right")
    assert error.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert "more than" in error.message


def fitting_query(backend: RerankerBackend, count: int) -> str:
    query = "a " * count
    assert len(tokens(backend, query)) == count
    return query


def test_query_that_leaves_one_token(backend: RerankerBackend) -> None:
    query = fitting_query(backend, MAX_TOKENS - 4)
    (item,) = prepare(backend, query, [TEXTS["long"]])
    assert (item.length, item.truncated) == (MAX_TOKENS, True)
    assert item.context.count(1) == 2
    # One more, and no document would be read at all.
    error = refusal(backend, fitting_query(backend, MAX_TOKENS - 3), "a", "right")
    assert error.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


def test_empty_document_is_scored_even_where_no_other_fits(backend: RerankerBackend) -> None:
    query = fitting_query(backend, MAX_TOKENS - 3)
    (item,) = prepare(backend, query, [""])
    assert (item.length, item.truncated) == (MAX_TOKENS, False)
    assert isinstance(backend.prepare(part(query + "a", [""]))[0], ServeError)


def test_empty_query_and_document(backend: RerankerBackend) -> None:
    (item,) = prepare(backend, "", [""])
    assert item.length == 3
    assert item.context == [0, 0, 1]


@pytest.mark.parametrize("cut", ["right", "left"])
def test_long_document_is_read_only_as_far_as_needed(
    backend: RerankerBackend, cut: Truncate
) -> None:
    start, end = "first words of it ", " last words of it"
    huge = start + "y " * 500_000 + end
    (item,) = prepare(backend, QUERY, [huge], truncate=cut)
    (small,) = prepare(backend, QUERY, [start + "y " * 200 + end], truncate=cut)
    assert item.token_ids == small.token_ids


def test_half_a_surrogate_pair_fails_alone(backend: RerankerBackend) -> None:
    found = backend.prepare(part(QUERY, ["good", "bad \ud800", "good"]))
    assert [isinstance(item, ServeError) for item in found] == [False, True, False]
    assert isinstance(found[1], ServeError)
    assert found[1].code is ErrorCode.INVALID_REQUEST
    both = backend.prepare(part("\udc00", ["good", "too"]))
    assert all(isinstance(item, ServeError) for item in both)


def test_instruction_is_refused_where_there_is_no_place_for_it(backend: RerankerBackend) -> None:
    (found,) = backend.prepare(part(QUERY, ["a"], "find numbers"))
    assert isinstance(found, ServeError)
    assert found.code is ErrorCode.UNSUPPORTED_PARAMETER
    # As some clients send it when there is none.
    prepare(backend, QUERY, ["a"], "")


def test_embedding_is_refused(backend: RerankerBackend) -> None:
    found = backend.prepare(Embed([0, 1], ["a", "b"], "float", "right"))
    assert [error.code for error in found if isinstance(error, ServeError)] == [
        ErrorCode.MODEL_TYPE_MISMATCH
    ] * 2


def test_id_that_the_model_does_not_have_is_refused() -> None:
    tokenizer: Any = reranker_tokenizers.make("roberta").tokenizer
    texts = TextTokenizer(tokenizer, vocab_size=9, max_tokens=60)
    pairs = PairTokenizer(texts, pair_template(tokenizer), token_types=0)
    (found,) = pairs.prepare(part("a", ["b"]))
    assert isinstance(found, ServeError)
    assert found.code is ErrorCode.INVALID_MODEL


def test_more_types_than_the_model_tells_apart_are_refused() -> None:
    tokenizer: Any = reranker_tokenizers.make("bert").tokenizer
    texts = TextTokenizer(tokenizer, vocab_size=10_000, max_tokens=60)
    with pytest.raises(ServeError, match="more types"):
        PairTokenizer(texts, pair_template(tokenizer), token_types=1)


def test_template_that_drops_a_text_is_refused() -> None:
    tokenizer: Any = reranker_tokenizers.make("bert").tokenizer
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $B [SEP] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    with pytest.raises(ServeError, match="unknown way"):
        pair_template(tokenizer)
