"""Texts to ids: cutting, long texts, and texts that cannot be tokenized."""

import time
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import read_manifest
from mlx_serve_common.wire import Truncate
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer
from tests.engine import tiny
from tests.engine.models import manifested

pytestmark = pytest.mark.engine

MAX = 40
ROOM = MAX - 2
CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mean")
    manifested(tiny.build(tiny.LAYOUTS["mean"], folder))
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> TextTokenizer:
    return TextTokenizer(loaded(folder), vocab_size=10**6, max_tokens=MAX)


def loaded(folder: Path) -> Tokenizer:
    return load_tokenizer(folder, read_manifest(folder))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Tokenizer:
    """The same tokenizer, that neither cuts nor bounds."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def one(tokenizer: TextTokenizer, text: str, truncate: Truncate = "right") -> Prepared:
    (prepared,) = tokenizer.prepare([text], truncate)
    assert isinstance(prepared, Prepared), prepared
    return prepared


def error(tokenizer: TextTokenizer, text: str, truncate: Truncate = "right") -> ServeError:
    (prepared,) = tokenizer.prepare([text], truncate)
    assert isinstance(prepared, ServeError), prepared
    return prepared


def words(count: int) -> str:
    """A text of as many tokens, most of them different."""
    return " ".join("abcdefghiklmnopqrstuvwxyz"[index * index % 25] for index in range(count))


def test_empty_text_is_its_special_tokens(tokenizer: TextTokenizer) -> None:
    assert one(tokenizer, "") == Prepared([CLS, SEP], 2, False)


@pytest.mark.parametrize("truncate", ["right", "left", "none"])
def test_text_that_just_fits_is_whole(
    tokenizer: TextTokenizer, plain: Tokenizer, truncate: Truncate
) -> None:
    text = words(ROOM)
    assert one(tokenizer, text, truncate) == Prepared(plain.encode(text).ids, MAX, False)


@pytest.mark.parametrize("count", [ROOM + 1, 5 * MAX, 50 * MAX])
def test_long_text_is_cut_at_the_chosen_end(
    tokenizer: TextTokenizer, plain: Tokenizer, count: int
) -> None:
    ids = plain.encode(words(count), add_special_tokens=False).ids
    assert len(ids) == count
    right, left = (one(tokenizer, words(count), side) for side in ("right", "left"))
    assert right == Prepared([CLS, *ids[:ROOM], SEP], MAX, True)
    assert left == Prepared([CLS, *ids[-ROOM:], SEP], MAX, True)


def test_long_text_is_refused_with_both_numbers(tokenizer: TextTokenizer) -> None:
    refused = error(tokenizer, words(ROOM + 1), "none")
    assert refused.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert refused.param == "input"
    assert f"{MAX} tokens" in refused.message
    assert refused.message.endswith(f"has {MAX + 1} tokens")
    assert "has more than" in error(tokenizer, words(100_000), "none").message


@pytest.mark.parametrize("truncate", ["right", "left", "none"])
@pytest.mark.parametrize(
    "text", ["." * 2**20, "a " * 2**19, "가" * 2**20, "x" * 2**20, " " * 2**20]
)
def test_a_megabyte_is_quick(tokenizer: TextTokenizer, text: str, truncate: Truncate) -> None:
    started = time.perf_counter()
    (prepared,) = tokenizer.prepare([text], truncate)
    assert time.perf_counter() - started < 1
    assert isinstance(prepared, ServeError if truncate == "none" else Prepared)


@pytest.mark.parametrize("truncate", ["right", "left"])
@pytest.mark.parametrize(
    "text",
    [
        # More blanks, or a longer word, than is read of a long text at first.
        f"{words(5)}{' ' * 4_000}{words(20)}{' ' * 4_000}{words(5)}",
        f"{words(5)} {'x' * 9_000} {words(5)}",
        f"{words(60)}{' ' * 5_000}{words(60)}",
        "\u0301" * 9_000 + "e",
    ],
)
def test_sparse_text_is_read_as_far_as_needed(
    tokenizer: TextTokenizer, plain: Tokenizer, text: str, truncate: Truncate
) -> None:
    ids = plain.encode(text, add_special_tokens=False).ids
    prepared = one(tokenizer, text, truncate)
    kept = ids[:ROOM] if truncate == "right" else ids[-ROOM:]
    assert prepared.token_ids == [CLS, *kept, SEP]
    assert prepared.truncated == (len(ids) > ROOM)


def test_text_that_is_cut_unread_is_reported_as_cut(tokenizer: TextTokenizer) -> None:
    text = f"a{' ' * 100_000}b"
    assert one(tokenizer, text, "right") == Prepared(
        [CLS, *one(tokenizer, "a").token_ids[1:]], 3, True
    )
    assert one(tokenizer, text, "left") == Prepared(one(tokenizer, "b").token_ids, 3, True)
    assert error(tokenizer, text, "none").code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


def test_prompt_is_before_every_text_and_survives_a_cut(folder: Path, plain: Tokenizer) -> None:
    prompt = "represent the text: "
    tokenizer = TextTokenizer(
        loaded(folder), vocab_size=10**6, max_tokens=MAX, default_prompt=prompt
    )
    prompt_ids = plain.encode(prompt, add_special_tokens=False).ids
    start = [CLS, *prompt_ids]
    for text in ("", "a b", words(60), words(5000)):
        for truncate in ("right", "left"):
            prepared = one(tokenizer, text, truncate)
            assert prepared.prompt_tokens == len(start)
            assert prepared.token_ids[: len(start)] == start
            assert prepared.token_ids[-1] == SEP
    tail = plain.encode(words(5000), add_special_tokens=False).ids
    left = one(tokenizer, words(5000), "left").token_ids
    assert left[len(start) : -1] == tail[len(prompt_ids) - ROOM :]


def test_half_of_a_surrogate_pair_fails_alone(tokenizer: TextTokenizer) -> None:
    first, bad, last = tokenizer.prepare(["a", "b \ud83d c", "d"], "right")
    assert isinstance(first, Prepared)
    assert isinstance(last, Prepared)
    assert isinstance(bad, ServeError)
    assert bad.code is ErrorCode.INVALID_REQUEST
    assert "surrogate" in bad.message


def test_panic_of_the_library_fails_alone(capfd: pytest.CaptureFixture[str]) -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2}
    panicking = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    # Catastrophic backtracking: the library gives up and panics.
    panicking.pre_tokenizer = Split(Regex("(a+)+$"), "isolated")
    tokenizer = TextTokenizer(panicking, vocab_size=3, max_tokens=8)
    good, bad, again = tokenizer.prepare(["b", "a" * 60 + "!", "b"], "right")
    assert good == again == Prepared([2], 1, False)
    assert isinstance(bad, ServeError)
    assert bad.code is ErrorCode.INVALID_REQUEST
    assert "panicked" in capfd.readouterr().err


def test_id_that_the_model_has_no_row_for_fails_alone(folder: Path) -> None:
    tokenizer = TextTokenizer(loaded(folder), vocab_size=len(tiny._SPECIALS), max_tokens=MAX)
    empty, other = tokenizer.prepare(["", "a"], "right")
    assert isinstance(empty, Prepared)
    assert isinstance(other, ServeError)
    assert other.code is ErrorCode.INVALID_MODEL


def word_level(template: str | None) -> Tokenizer:
    vocabulary = {"[UNK]": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if template is not None:
        tokenizer.post_processor = TemplateProcessing(
            single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return tokenizer


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, [3, 4]),
        ("<s> $A", [1, 3, 4]),
        ("$A </s>", [3, 4, 2]),
        ("<s> <s> $A </s> </s>", [1, 1, 3, 4, 2, 2]),
    ],
)
def test_special_tokens_as_the_tokenizer_adds_them(
    template: str | None, expected: list[int]
) -> None:
    tokenizer = TextTokenizer(word_level(template), vocab_size=5, max_tokens=len(expected))
    assert one(tokenizer, "a b").token_ids == expected
    assert one(tokenizer, "a b a b").token_ids == expected
    assert one(tokenizer, "a b a b").truncated


def test_text_without_any_token_is_refused() -> None:
    tokenizer = TextTokenizer(word_level(None), vocab_size=5, max_tokens=8)
    assert error(tokenizer, "").code is ErrorCode.EMPTY_INPUT


def test_no_room_for_text_is_refused() -> None:
    with pytest.raises(ServeError, match="no room"):
        TextTokenizer(word_level("<s> $A </s>"), vocab_size=5, max_tokens=2)


def test_unusual_special_tokens_are_refused() -> None:
    with pytest.raises(ServeError, match="do not support"):
        TextTokenizer(word_level("<s> $A:1 </s>"), vocab_size=5, max_tokens=8)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"model": {"type": "Nothing"}}', b"\xff\xfe"])
def test_damaged_tokenizer_is_refused(content: bytes, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ServeError, match=r"tokenizer\.json is damaged"):
        load_tokenizer(tmp_path, read_manifest(folder))
