"""Tokenizers of tiny rerankers: each kind with the pair template of the models that have it."""

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, Unigram, WordPiece

from tests.engine.texts import TEXTS

Json = dict[str, Any]

QUERIES = {
    "plain": "how many tokens does a good model count?",
    "other": "서울의 날씨는 어떻습니까, naïve 🍮?",
}

_BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_MOST_MERGES = 200
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def write(kind: str, folder: Path) -> Json:
    """Write ``tokenizer.json``; what ``tokenizer_config.json`` says besides."""
    tokenizer, config = _KINDS[kind]()
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **config}


def _texts() -> list[str]:
    return [*TEXTS.values(), *QUERIES.values()]


def _bert() -> tuple[Tokenizer, Json]:
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in _texts()
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    characters = sorted({character for word in words for character in word} - {"🍮"})
    whole = [word for word in sorted(words) if 1 < len(word) <= 8 and word[0] not in "aeiou"]
    pieces = [*_BERT_SPECIALS, *characters, *(f"##{character}" for character in characters), *whole]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    _post_process(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    tokenizer.add_special_tokens(list(_BERT_SPECIALS))
    return tokenizer, {"tokenizer_class": "BertTokenizer", **_named(_BERT_SPECIALS)}


def _distilbert() -> tuple[Tokenizer, Json]:
    tokenizer, config = _bert()
    return tokenizer, {
        **config,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _roberta() -> tuple[Tokenizer, Json]:
    tokenizer = _byte_level(_ROBERTA_SPECIALS)
    _post_process(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    config = {"model_input_names": ["input_ids", "attention_mask"], "bos_token": "<s>"}
    return tokenizer, {**_named(_ROBERTA_SPECIALS, "<s>", "</s>"), **config}


def _modernbert() -> tuple[Tokenizer, Json]:
    tokenizer = _byte_level(_BERT_SPECIALS)
    # The types of the template are the tokenizer's own; the model has no use for them.
    _post_process(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    names = {"model_input_names": ["input_ids", "attention_mask"]}
    return tokenizer, {**_named(_BERT_SPECIALS), **names}


def _xlm_roberta() -> tuple[Tokenizer, Json]:
    tokenizer = _unigram(_ROBERTA_SPECIALS)
    _post_process(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    names = {"model_input_names": ["input_ids", "attention_mask"]}
    return tokenizer, {**_named(_ROBERTA_SPECIALS, "<s>", "</s>"), **names}


def _deberta() -> tuple[Tokenizer, Json]:
    tokenizer = _unigram(_BERT_SPECIALS)
    _post_process(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return tokenizer, _named(_BERT_SPECIALS)


def _byte_level(specials: tuple[str, ...]) -> Tokenizer:
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = sorted(
        {word for text in _texts() for word, _ in splitter.pre_tokenize_str(text) if len(word) < 9}
    )
    pieces = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces and len(merges) < _MOST_MERGES:
                merges.append((word[: end - 1], word[end - 1]))
                pieces.append(word[:end])
    tokenizer = Tokenizer(BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def _unigram(specials: tuple[str, ...]) -> Tokenizer:
    splitter = pre_tokenizers.Metaspace()
    words = {word for text in _texts() for word, _ in splitter.pre_tokenize_str(text)}
    characters = sorted({character for word in words for character in word} - {"🍮"})
    whole = sorted(word for word in words if 1 < len(word) <= 8)
    scored = [
        *((special, 0.0) for special in specials),
        *((character, -9.0 - index / 1000) for index, character in enumerate(characters)),
        *((word, -7.0 - index / 1000) for index, word in enumerate(whole)),
    ]
    unknown = next(index for index, special in enumerate(specials) if "unk" in special.lower())
    tokenizer = Tokenizer(Unigram(scored, unk_id=unknown, byte_fallback=False))
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def _post_process(tokenizer: Tokenizer, single: str, pair: str) -> None:
    around = {part.partition(":")[0] for part in pair.split() if not part.startswith("$")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in sorted(around)],
    )


def _named(specials: tuple[str, ...], first: str = "[CLS]", last: str = "[SEP]") -> Json:
    by_word = {token.strip("[]<>").lower(): token for token in specials}
    return {
        "cls_token": first,
        "sep_token": last,
        "pad_token": by_word["pad"],
        "unk_token": by_word["unk"],
        "mask_token": by_word["mask"],
    }


_KINDS = {
    "bert": _bert,
    "deberta-v2": _deberta,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "mpnet": _roberta,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
}
