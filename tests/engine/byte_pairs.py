"""Tokenizers by merges, like Qwen's and Llama's, learned here from the texts that tests compare."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Prepend, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from tests.engine.texts import TEXTS

_MERGES = 160
# How Qwen's tokenizer splits a text into words.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _words(special_tokens: Sequence[str]) -> Tokenizer:
    pieces, merges = _learned_bytes()
    made = Tokenizer(BPE(pieces, merges))
    made.normalizer = NFC()
    made.pre_tokenizer = _word_splitter()
    made.decoder = ByteLevelDecoder()
    made.add_special_tokens(list(special_tokens))
    return made


def _bytes(special_tokens: Sequence[str]) -> Tokenizer:
    made = _words(special_tokens)
    made.normalizer = None
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return made


def _sentence(special_tokens: Sequence[str]) -> Tokenizer:
    """As Llama 2's was made of a sentencepiece model: visible blanks, bytes as a last resort."""
    pieces, merges = _learned_characters()
    made = Tokenizer(BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = Normalizers([Prepend("▁"), Replace(" ", "▁")])
    made.add_special_tokens(["<unk>", *special_tokens])
    return made


MADE: dict[str, Callable[[Sequence[str]], Tokenizer]] = {
    "words": _words,
    "bytes": _bytes,
    "sentence": _sentence,
}


def _word_splitter() -> PreTokenizers:
    return PreTokenizers(
        [
            Split(Regex(_WORDS), "isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


Learned = tuple[dict[str, int], list[tuple[str, str]]]


@functools.cache
def _learned_bytes() -> Learned:
    splitter, normalizer = _word_splitter(), NFC()
    texts = [normalizer.normalize_str(text) for text in TEXTS.values()]
    words = [piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)]
    return _learn(words, sorted(ByteLevel.alphabet()))


@functools.cache
def _learned_characters() -> Learned:
    words = [f"▁{word}" for text in TEXTS.values() for word in text.split()]
    # Some characters stay unknown, so that their bytes are used.
    known = sorted({character for word in words for character in word if ord(character) < 0xD000})
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *known]
    return _learn([word for word in words if set(word) <= set(known)], pieces)


def _learn(texts: Sequence[str], known: list[str]) -> Learned:
    """The most frequent pairs in turn: of equal ones the first by spelling."""
    words = Counter(tuple(text) for text in texts)
    pieces = list(known)
    merges: list[tuple[str, str]] = []
    while len(merges) < _MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        if "".join(best) not in pieces:
            pieces.append("".join(best))
        words = Counter({_merged(word, best): count for word, count in words.items()})
    return {piece: index for index, piece in enumerate(pieces)}, merges


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    at = 0
    while at < len(word):
        found = word[at : at + 2] == pair
        merged.append("".join(pair) if found else word[at])
        at += 2 if found else 1
    return tuple(merged)
