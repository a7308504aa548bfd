"""What a caller may ask of vectors, and of a tokenizer, beyond the model's defaults."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import (
    Detokenize,
    Embed,
    EmbedTokens,
    Piece,
    Rerank,
    Tokenize,
    Truncate,
    Vocabulary,
)
from mlx_serve_worker.backend import Tokens
from mlx_serve_worker.backends.encoder import EncoderBackend
from tests.engine import tiny
from tests.engine.models import Vectors, accepted, embed, load_layout, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine

CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def normalizing(tmp_path_factory: pytest.TempPathFactory) -> EncoderBackend:
    return load_layout("mean", tmp_path_factory.mktemp("mean"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> EncoderBackend:
    return load_layout("not-normalized", tmp_path_factory.mktemp("raw"))


def vectors(backend: EncoderBackend, **wishes: Any) -> Vectors:
    return embed(backend, prepare(backend, TEXTS.values(), **wishes))


def unit(values: Vectors) -> Vectors:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def assert_close(one: Vectors, other: Vectors) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def test_normalizing_can_be_asked_for_and_declined(
    normalizing: EncoderBackend, raw: EncoderBackend
) -> None:
    plain = vectors(raw)
    assert_close(vectors(normalizing), unit(plain))
    assert_close(vectors(raw, normalize=True), unit(plain))
    assert_close(vectors(normalizing, normalize=False), plain)


def test_fewer_dimensions_are_the_first_ones_scaled_again(
    normalizing: EncoderBackend, raw: EncoderBackend
) -> None:
    plain = vectors(raw)
    for backend in (normalizing, raw):
        assert_close(vectors(backend, dimensions=5), unit(plain[:, :5]))
        assert_close(vectors(backend, dimensions=tiny.WIDTH), unit(plain))
        assert_close(vectors(backend, dimensions=5, normalize=False), plain[:, :5])


@pytest.mark.parametrize("dimensions", [-1, 0, tiny.WIDTH + 1])
def test_dimensions_that_the_model_has_not(normalizing: EncoderBackend, dimensions: int) -> None:
    first, second = normalizing.prepare(
        Embed([1, 2], ["a", "b"], "float", "right", dimensions=dimensions)
    )
    assert first == second
    assert isinstance(first, ServeError)
    assert first.param == "dimensions"


def test_every_row_of_a_batch_has_its_own_wish(normalizing: EncoderBackend) -> None:
    wishes: list[dict[str, Any]] = [
        {}, {"dimensions": 4}, {"normalize": False}, {"dimensions": 4, "prompt": "a b"}, {},
    ]  # fmt: skip
    inputs = [prepare(normalizing, ["c d"], **wish)[0] for wish in wishes]
    together = normalizing.forward(inputs)
    alone = [normalizing.forward([item])[0] for item in inputs]
    assert together == alone
    assert len(set(together)) == 4


def test_prompt_may_be_chosen_or_left_out(tmp_path: Path, normalizing: EncoderBackend) -> None:
    prompted = load_layout("prompt", tmp_path)
    default = "Represent the text: "
    by_default = vectors(prompted)
    assert_close(by_default, vectors(prompted, prompt=default))
    assert_close(by_default, vectors(normalizing, prompt=default))
    assert_close(vectors(prompted, prompt=""), vectors(normalizing))


def test_prompt_that_is_left_out_of_pooling(tmp_path: Path) -> None:
    backend = load_layout("prompt-left-out", tmp_path)
    inputs = [prepare(backend, ["a b c"], prompt=prompt)[0] for prompt in ("", "x y", "x y z")]
    assert [item.prompt_tokens for item in inputs] == [0, 3, 4]
    together = embed(backend, inputs)
    assert_close(together, np.concatenate([embed(backend, [item]) for item in inputs]))


def test_prompt_longer_than_the_model_is_refused(normalizing: EncoderBackend) -> None:
    part = Embed([1], ["a"], "float", "right", prompt="x " * 10_000)
    (refused,) = normalizing.prepare(part)
    assert isinstance(refused, ServeError)
    assert refused.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


# --- token ids -----------------------------------------------------------------------------------


def from_ids(
    backend: EncoderBackend,
    *inputs: list[int],
    truncate: Truncate = "right",
    vocabulary: Vocabulary = "model",
    prompt: str | None = None,
) -> list[Any]:
    ids = [*range(len(inputs))]
    part = EmbedTokens(ids, list(inputs), vocabulary, "base64", truncate, prompt)
    return [*backend.prepare(part)]


def test_ids_of_a_text_give_its_vector(normalizing: EncoderBackend) -> None:
    inputs = prepare(normalizing, TEXTS.values())
    same = accepted(from_ids(normalizing, *(item.token_ids for item in inputs)))
    assert [item.token_ids for item in same] == [item.token_ids for item in inputs]
    assert_close(embed(normalizing, same), embed(normalizing, inputs))


def test_ids_are_cut_like_texts(normalizing: EncoderBackend) -> None:
    content = [7 + index % 9 for index in range(100)]
    sides: list[tuple[Truncate, list[int]]] = [("right", content[:38]), ("left", content[-38:])]
    for truncate, kept in sides:
        (item,) = from_ids(normalizing, [CLS, *content, SEP], truncate=truncate)
        assert item.token_ids == [CLS, *kept, SEP]
        assert item.truncated
    (bare,) = from_ids(normalizing, content)
    assert bare.token_ids == content[:40]
    (refused,) = from_ids(normalizing, content, truncate="none")
    assert refused.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert "100 tokens" in refused.message


def test_prompt_goes_behind_the_first_special_token(normalizing: EncoderBackend) -> None:
    (prompt_ids,) = normalizing.tokenize(Tokenize([1], ["a b"], special=False, pieces=False))
    assert isinstance(prompt_ids, Tokens)
    (item,) = from_ids(normalizing, [CLS, 9, SEP], prompt="a b")
    assert item.token_ids == [CLS, *prompt_ids.ids, 9, SEP]


@pytest.mark.parametrize("bad", [[-1], [10**6], [2**40], [5, 2**63]])
def test_id_outside_of_the_vocabulary_fails_alone(
    normalizing: EncoderBackend, bad: list[int]
) -> None:
    good, refused = from_ids(normalizing, [CLS, 9, SEP], bad)
    assert good.length == 3
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert str(bad[-1]) in refused.message


def test_no_ids_at_all(normalizing: EncoderBackend) -> None:
    (refused,) = from_ids(normalizing, [])
    assert refused.code is ErrorCode.EMPTY_INPUT


def test_reranking_is_refused(normalizing: EncoderBackend) -> None:
    (refused,) = normalizing.prepare(Rerank([1], "q", ["d"], None, "right"))
    assert isinstance(refused, ServeError)
    assert refused.code is ErrorCode.MODEL_TYPE_MISMATCH


# --- tokenizing ----------------------------------------------------------------------------------


def test_tokens_with_their_places(normalizing: EncoderBackend) -> None:
    text = "É👍 Hi"
    (found,) = normalizing.tokenize(Tokenize([1], [text], special=True, pieces=True))
    assert isinstance(found, Tokens)
    assert (found.ids[0], found.ids[-1]) == (CLS, SEP)
    assert found.pieces[0] == Piece("[CLS]", 0, 0, True, "[CLS]")
    assert "".join(piece.text for piece in found.pieces[1:-1]) == "É👍Hi"
    assert all(text[piece.start : piece.stop] == piece.text for piece in found.pieces[1:-1])


def test_tokens_without_anything_else(normalizing: EncoderBackend) -> None:
    bare, empty = normalizing.tokenize(Tokenize([1, 2], ["a", ""], special=False, pieces=False))
    assert isinstance(bare, Tokens)
    assert len(bare.ids) == 1
    assert empty == Tokens([], [])


def test_text_that_cannot_be_tokenized_fails_alone(normalizing: EncoderBackend) -> None:
    texts = ["a", "\udc00", "b" * (2**20 + 1)]
    good, half, huge = normalizing.tokenize(Tokenize([1, 2, 3], texts, special=True, pieces=True))
    assert isinstance(good, Tokens)
    assert isinstance(half, ServeError)
    assert isinstance(huge, ServeError)
    assert huge.code is ErrorCode.REQUEST_TOO_LARGE


def test_ids_back_to_text(normalizing: EncoderBackend) -> None:
    (found,) = normalizing.tokenize(Tokenize([1], ["hello world"], special=True, pieces=False))
    assert isinstance(found, Tokens)
    texts = normalizing.detokenize(Detokenize([1, 2, 3], [found.ids, [], [-1]]))
    assert texts[:2] == ["[CLS] hello world [SEP]", ""]
    assert isinstance(texts[2], ServeError)
