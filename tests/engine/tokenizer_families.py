"""Which tiny tokenizer, with which special tokens, each architecture usually comes with."""

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer

from tests.engine import tiny_tokenizers

_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_FAIRSEQ_NAMES = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BERT_NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


@dataclass(frozen=True)
class Family:
    """The tokenizer that an architecture usually comes with."""

    class_name: str
    names: tuple[str, ...]
    tokens: tuple[str, ...]
    make: Callable[[tuple[str, ...], str], Tokenizer]


def _spaced_bytes(tokens: tuple[str, ...], form: str) -> Tokenizer:
    return tiny_tokenizers.byte_level(tokens, "<s>", "</s>", form == "prefix-space")


_ROBERTA = Family("RobertaTokenizer", _FAIRSEQ_NAMES, _FAIRSEQ, _spaced_bytes)
_UNIGRAM = Family(
    "XLMRobertaTokenizerFast",
    _FAIRSEQ_NAMES,
    _FAIRSEQ,
    lambda tokens, form: tiny_tokenizers.unigram(tokens, form or "older"),
)
_WORD_PIECE = Family(
    "BertTokenizer",
    _BERT_NAMES,
    _BERT,
    lambda tokens, _: tiny_tokenizers.word_piece(tokens, "[CLS]", "[SEP]"),
)
FAMILIES = {
    "roberta": _ROBERTA,
    "xlm-roberta": _UNIGRAM,
    "camembert": Family("CamembertTokenizer", *(_UNIGRAM.names, _UNIGRAM.tokens, _UNIGRAM.make)),
    "distilbert": Family(
        "DistilBertTokenizer", *(_WORD_PIECE.names, _WORD_PIECE.tokens, _WORD_PIECE.make)
    ),
    "mpnet": Family(
        "MPNetTokenizer",
        _FAIRSEQ_NAMES,
        ("<s>", "<pad>", "</s>", "[UNK]", "<mask>"),
        lambda tokens, _: tiny_tokenizers.word_piece(tokens, "<s>", "</s>"),
    ),
    "modernbert": Family(
        "PreTrainedTokenizerFast",
        _BERT_NAMES,
        _BERT,
        lambda tokens, _: tiny_tokenizers.byte_level(tokens, "[CLS]", "[SEP]", False),
    ),
    "nomic_bert": _WORD_PIECE,
    "gemma3_text": Family(
        "GemmaTokenizer",
        ("pad_token", "eos_token", "bos_token", "unk_token", "mask_token"),
        ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
        lambda tokens, _: tiny_tokenizers.byte_fallback(tokens, "<bos>", "<eos>"),
    ),
}
