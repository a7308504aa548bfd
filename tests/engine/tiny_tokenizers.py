"""Tiny tokenizers of every family, made without training: the same bytes on every machine.

Their vocabularies hold the characters of the texts that vectors are compared on, whole words of
every second kind, and leave some characters unknown.
"""

import json
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import decoders as decoding
from tokenizers import normalizers as cleaning
from tokenizers import pre_tokenizers as splitting
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from tests.engine.texts import TEXTS

Json = dict[str, Any]

_LONGEST_WORD = 8
_UNKNOWN = {"🍮", "漢", "뜻"}
# What a sentencepiece model does to characters before anything else, in the small.
CHARACTER_MAP = {
    "\u3000": " ",
    "\u00a0": " ",
    "\t": " ",
    "\n": " ",
    "ﬁ": "fi",
    "①": "1",
    "\uff21": "A",
}


def words(texts: Iterable[str]) -> list[str]:
    return sorted({word for text in texts for word in text.split()})


def kept_words(texts: Iterable[str]) -> list[str]:
    return [word for word in words(texts) if zlib.crc32(word.encode()) % 2]


def characters(texts: Iterable[str]) -> list[str]:
    return sorted({character for text in texts for character in text} - _UNKNOWN - {" "})


def _merged(spelled: Iterable[list[str]], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Merges that join each word from its left; what they make is added to the vocabulary."""
    merges: dict[tuple[str, str], None] = {}
    for symbols in spelled:
        for end in range(1, min(len(symbols), _LONGEST_WORD)):
            left, right = "".join(symbols[:end]), symbols[end]
            merges.setdefault((left, right))
            vocabulary.setdefault(left + right, len(vocabulary))
    return list(merges)


def _numbered(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def byte_level(specials: tuple[str, ...], first: str, last: str, prefix_space: bool) -> Tokenizer:
    alphabet = splitting.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = _numbered([*specials, *sorted(splitting.ByteLevel.alphabet())])
    spelled = [list(alphabet.pre_tokenize_str(f" {word}")[0][0]) for word in kept_words(_texts())]
    merges = _merged(spelled, vocabulary)
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = splitting.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoding.ByteLevel()
    tokenizer.post_processor = RobertaProcessing(
        (last, vocabulary[last]), (first, vocabulary[first]), True, prefix_space
    )
    return _with_specials(tokenizer, specials)


def byte_fallback(specials: tuple[str, ...], first: str, last: str) -> Tokenizer:
    """As Gemma's: spaces are letters, and unknown letters are bytes."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = _numbered([*specials, *fallback, "▁", *characters(_texts())])
    spelled = [list(f"▁{word}") for word in kept_words(_texts())]
    known = [symbols for symbols in spelled if vocabulary.keys() >= {*symbols}]
    merges = _merged(known, vocabulary)
    tokenizer = Tokenizer(
        BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = cleaning.Replace(" ", "▁")
    tokenizer.pre_tokenizer = splitting.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoding.Sequence(
        [decoding.Replace("▁", " "), decoding.ByteFallback(), decoding.Fuse()]
    )
    tokenizer.post_processor = _template(tokenizer, first, last)
    return _with_specials(tokenizer, specials)


def unigram(specials: tuple[str, ...], form: str) -> Tokenizer:
    """``form`` is how the file cleans up and splits, which the reference does not always heed."""
    pieces = dict.fromkeys(specials, 0.0)
    for letter in ["▁", *characters(_texts())]:
        pieces[letter] = -9.0 - len(pieces) / 1000
    for word in kept_words(_texts()):
        for piece in (f"▁{word}"[:_LONGEST_WORD], word[:4]):
            pieces.setdefault(piece, -2.0 - 1.5 * len(piece) - len(pieces) / 1000)
    tokenizer = Tokenizer(Unigram(list(pieces.items()), unk_id=specials.index("<unk>")))
    metaspace = splitting.Metaspace(prepend_scheme="always")
    mapping = cleaning.Precompiled(character_map(CHARACTER_MAP))
    match form:
        case "plain":
            tokenizer.pre_tokenizer = metaspace
        case "older":
            tokenizer.normalizer = mapping
            tokenizer.pre_tokenizer = splitting.Sequence([splitting.WhitespaceSplit(), metaspace])
        case "newer":
            strip = cleaning.Strip(left=False, right=True)
            spaces = cleaning.Replace(Regex(" {2,}"), "▁")
            tokenizer.normalizer = cleaning.Sequence([mapping, strip, spaces])
            tokenizer.pre_tokenizer = metaspace
        case _:
            raise ValueError(form)
    tokenizer.decoder = decoding.Metaspace()
    tokenizer.post_processor = _template(tokenizer, "<s>", "</s>")
    return _with_specials(tokenizer, specials)


def word_piece(
    specials: tuple[str, ...], first: str, last: str, lower_case: bool = True
) -> Tokenizer:
    normalizer = cleaning.BertNormalizer(lowercase=lower_case)
    splitter = splitting.BertPreTokenizer()
    cleaned = [normalizer.normalize_str(text) for text in _texts()]
    whole = sorted({word for text in cleaned for word, _ in splitter.pre_tokenize_str(text)})
    letters = characters(cleaned)
    kept = [word for word in whole if 1 < len(word) <= 8 and zlib.crc32(word.encode()) % 2]
    pieces = _numbered([*specials, *letters, *(f"##{letter}" for letter in letters), *kept])
    tokenizer = Tokenizer(WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoding.WordPiece()
    tokenizer.post_processor = _template(tokenizer, first, last)
    return _with_specials(tokenizer, specials)


def write(folder: Path, tokenizer: Tokenizer, config: Json) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {key: value for key, value in config.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(names, ensure_ascii=False, indent=1))


def _texts() -> list[str]:
    return [*TEXTS.values(), "query: passage: search_query: task | title: none | text:"]


def _template(tokenizer: Tokenizer, first: str, last: str) -> TemplateProcessing:
    tokens = [(token, tokenizer.token_to_id(token)) for token in {first: 0, last: 0} if token]
    return TemplateProcessing(
        single=" ".join(part for part in (first, "$A", last) if part),
        pair=" ".join(part for part in (first, "$A", last, "$B", last) if part),
        special_tokens=tokens,
    )


def _with_specials(tokenizer: Tokenizer, specials: tuple[str, ...]) -> Tokenizer:
    tokenizer.add_special_tokens(
        # A mask takes the blank before it along, in the families that write it so.
        [AddedToken(token, lstrip=token == "<mask>", normalized=False) for token in specials]
    )
    return tokenizer


def character_map(mapping: dict[str, str]) -> bytes:
    """``mapping`` as sentencepiece stores it: a double array of UTF-8 bytes, then the values."""
    values, offsets = b"", {}
    for source, target in mapping.items():
        offsets[source.encode() + b"\0"] = len(values)
        values += target.encode() + b"\0"
    units = [0] * 256
    _place(units, 0, offsets)
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + values


def _place(units: list[int], node: int, keys: dict[bytes, int]) -> None:
    """Give the children of ``node`` a block of 256 units of their own."""
    block = len(units)
    units[node] |= (node ^ block) << 10
    units.extend([0] * 256)
    for label in sorted({key[0] for key in keys}):
        rest = {key[1:]: value for key, value in keys.items() if key[0] == label}
        if label == 0:
            units[node] |= 1 << 8
            units[block] = (1 << 31) | rest[b""]
        else:
            units[block ^ label] |= label
            _place(units, block ^ label, rest)
