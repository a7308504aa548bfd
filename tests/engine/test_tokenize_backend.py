"""Tokens as a worker tells them: ids, pieces, and the way back."""

from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Detokenize, Tokenize
from mlx_serve_worker.backend import Tokens
from mlx_serve_worker.backends.encoder import EncoderBackend
from tests.engine.models import load_layout, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> EncoderBackend:
    return load_layout("cased", tmp_path_factory.mktemp("cased"))


def tokenized(
    backend: EncoderBackend, *texts: str, special: bool = True, pieces: bool = False
) -> list[Tokens]:
    part = Tokenize([*range(len(texts))], list(texts), special, pieces)
    found = [each for each in backend.tokenize(part) if isinstance(each, Tokens)]
    assert len(found) == len(texts)
    return found


def detokenized(
    backend: EncoderBackend, ids: list[int], *, skip_special: bool = False
) -> str | ServeError:
    (text,) = backend.detokenize(Detokenize([1], [ids], skip_special))
    return text


def test_ids_are_those_that_embedding_reads(backend: EncoderBackend) -> None:
    read = prepare(backend, TEXTS.values())
    compared = 0
    for found, item in zip(tokenized(backend, *TEXTS.values()), read, strict=True):
        if not item.truncated:
            assert found.ids == item.token_ids
            compared += 1
    assert compared > 4


def test_a_long_text_is_counted_whole(backend: EncoderBackend) -> None:
    (found,) = tokenized(backend, TEXTS["long"])
    (read,) = prepare(backend, [TEXTS["long"]])
    assert len(found.ids) > read.length
    assert found.ids[: read.length - 1] == read.token_ids[:-1]


@pytest.mark.parametrize("name", TEXTS)
def test_pieces_say_where_they_stand(name: str, backend: EncoderBackend) -> None:
    text = TEXTS[name]
    for special in (True, False):
        (found,) = tokenized(backend, text, special=special, pieces=True)
        assert any(piece.special for piece in found.pieces) == special
        assert len(found.pieces) == len(found.ids)
        end = 0
        for piece in found.pieces:
            if piece.special:
                assert piece.text == piece.token
                continue
            assert end <= piece.start <= piece.stop <= len(text)
            assert piece.text == text[piece.start : piece.stop]
            end = piece.stop


def test_a_piece_of_a_word_is_spelled_as_in_the_vocabulary(backend: EncoderBackend) -> None:
    (found,) = tokenized(backend, "wordless", special=False, pieces=True)
    assert len(found.pieces) > 1
    assert all(piece.token.startswith("##") for piece in found.pieces[1:])
    assert all("#" not in piece.text for piece in found.pieces)


def test_special_tokens_are_kept_unless_told_otherwise(backend: EncoderBackend) -> None:
    (found,) = tokenized(backend, "a b")
    assert detokenized(backend, found.ids) == "[CLS] a b [SEP]"
    assert detokenized(backend, found.ids, skip_special=True) == "a b"


def test_there_and_back(backend: EncoderBackend) -> None:
    for text in ("Hello world", "a, b!", ""):
        (found,) = tokenized(backend, text, special=False)
        back = detokenized(backend, found.ids)
        assert isinstance(back, str)
        assert back.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("bad", [-1, 10**6, 2**32, 2**63])
def test_an_id_without_a_token_fails_alone(bad: int, backend: EncoderBackend) -> None:
    good, refused = backend.detokenize(Detokenize([1, 2], [[5], [5, bad]]))
    assert isinstance(good, str)
    assert isinstance(refused, ServeError)
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert str(bad) in refused.message


def test_prompts_are_not_tokenized_along(tmp_path: Path, backend: EncoderBackend) -> None:
    prompted = load_layout("prompt", tmp_path)
    (read,) = prepare(prompted, ["a"])
    (found,) = tokenized(prompted, "a")
    assert len(found.ids) < read.length
