"""Tokens to text while they come, equal to what the tokenizer makes of all of them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from mlx_serve_worker.chat.detokenizing import TokenTexts
from tests.engine import byte_pairs
from tests.engine.chat.conversing import token_id

pytestmark = pytest.mark.engine

TEXT = "서울에서 만나요! 👩‍👩‍👧‍👦 漢字 e\u0301 naïve 🇰🇷\n\tend  "


def by_pieces() -> Tokenizer:
    """As Llama 2's files have it."""
    made = byte_pairs.MADE["sentence"](["<s>"])
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_tokens(["<think>"])
    return made


def by_bytes() -> Tokenizer:
    made = byte_pairs.MADE["words"](["<|im_end|>"])
    made.add_tokens(["<think>", "한글 한"])
    return made


TOKENIZERS = {"bytes": by_bytes(), "pieces": by_pieces()}


def streamed(tokenizer: Tokenizer, ids: list[int], kept: Any = ()) -> list[str]:
    detokenizer = TokenTexts(tokenizer, kept).detokenizer()
    return [*(detokenizer.feed(id) for id in ids), detokenizer.flush()]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
@settings(max_examples=300)
def test_the_pieces_are_the_whole(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    size = tokenizer.get_vocab_size()
    ids = data.draw(st.lists(st.integers(0, size + 3), max_size=20))
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    assert "".join(streamed(tokenizer, ids)) == whole


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(max_size=40))
@settings(max_examples=200)
def test_no_piece_ends_in_half_a_character(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(TEXT + text, add_special_tokens=False).ids
    pieces = streamed(tokenizer, ids)
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    assert "".join(pieces) == whole
    if "\ufffd" not in whole:
        assert not any("\ufffd" in piece for piece in pieces)
    assert sum(map(bool, pieces)) > len(TEXT) // 4


def test_special_tokens_are_left_out_unless_they_are_kept() -> None:
    tokenizer = TOKENIZERS["bytes"]
    end = token_id(tokenizer, "<|im_end|>")
    ids = [*tokenizer.encode("a<think>").ids, end]
    assert "".join(streamed(tokenizer, ids)) == "a<think>"
    assert "".join(streamed(tokenizer, ids, [end])) == "a<think><|im_end|>"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_token_has_its_bytes(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    together = b"".join(texts.bytes_of(id) for id in ids).decode()
    assert together.lstrip() == tokenizer.decode(ids).lstrip()
    assert texts.bytes_of(10**6) == b""
