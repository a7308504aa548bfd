"""Tokenizers of tiny rerankers: those of tiny encoders, with the pairs that real files have."""

from typing import Any, NamedTuple

from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing

from tests.engine import tiny_tokenizers
from tests.engine.texts import TEXTS
from tests.engine.tiny_encoders import FAMILIES

Json = dict[str, Any]

_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BERT_NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


class Made(NamedTuple):
    tokenizer: Tokenizer
    config: Json
    """What ``tokenizer_config.json`` says."""


def make(model_type: str) -> Made:
    if model_type == "bert":
        tokenizer = tiny_tokenizers.word_piece(_BERT, "[CLS]", "[SEP]")
        return _made(_typed_pairs(tokenizer), "BertTokenizer", _BERT_NAMES, _BERT)
    if model_type == "deberta-v2":
        tokenizer = _typed_pairs(_scored_pieces())
        return _made(tokenizer, "DebertaV2Tokenizer", _BERT_NAMES, _BERT)
    family = FAMILIES[model_type]
    tokenizer = family.make(family.tokens, "")
    if model_type == "modernbert":
        # The types are the tokenizer's own; the model has no use for them.
        tokenizer = _typed_pairs(tokenizer)
    return _made(tokenizer, family.class_name, family.names, family.tokens)


def _made(
    tokenizer: Tokenizer, class_name: str, names: tuple[str, ...], tokens: tuple[str, ...]
) -> Made:
    named = dict(zip(names, tokens, strict=True))
    return Made(tokenizer, {"tokenizer_class": class_name, "model_max_length": 512, **named})


def _scored_pieces() -> Tokenizer:
    splitter = Metaspace()
    words = {word for text in TEXTS.values() for word, _ in splitter.pre_tokenize_str(text)}
    letters = sorted({letter for word in words for letter in word} - {"🍮"})
    whole = sorted(word for word in words if 1 < len(word) <= 8)
    pieces = [
        *((special, 0.0) for special in _BERT),
        *((letter, -9.0 - index / 1000) for index, letter in enumerate(letters)),
        *((word, -7.0 - index / 1000) for index, word in enumerate(whole)),
    ]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=_BERT.index("[UNK]")))
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(list(_BERT))
    return tokenizer


def _typed_pairs(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer
