"""The tokenizer classes of transformers 5 that take little but the vocabulary from their file.

Invariants: how text is cleaned up and split, and what is put around it, is then what the class lays
down, because that is what the reference computes on; which class it is follows the reference's
rules; for a class that is not listed here ``tokenizer.json`` is used as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import TextNormalizer, TokenizerClass, TokenizerClassName
from mlx_serve_worker.decoder_tokenizers import (
    LLAMA,
    QWEN,
    lay_down_llama,
    lay_down_qwen,
    works_on_bytes,
)
from mlx_serve_worker.encoder_tokenizers import (
    lay_down_byte_fallback,
    lay_down_bytes,
    lay_down_deberta,
    lay_down_scored_pieces,
    lay_down_word_pieces,
)

_BY_NAME: dict[str, TokenizerClassName] = {
    "BertTokenizer": "BertTokenizer",
    "CamembertTokenizer": "CamembertTokenizer",
    "DebertaV2Tokenizer": "DebertaV2Tokenizer",
    "DistilBertTokenizer": "BertTokenizer",
    "GemmaTokenizer": "GemmaTokenizer",
    "LlamaTokenizer": "LlamaTokenizer",
    "MPNetTokenizer": "MPNetTokenizer",
    "Qwen2Tokenizer": "Qwen2Tokenizer",
    "RobertaTokenizer": "RobertaTokenizer",
    "XLMRobertaTokenizer": "XLMRobertaTokenizer",
}
# Where a repository names none; ModernBERT is not here: the reference heeds no class of its.
_BY_MODEL_TYPE: dict[str, TokenizerClassName] = {
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "BertTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "mpnet": "MPNetTokenizer",
    "nomic_bert": "BertTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
_HEEDS_NO_CLASS = ("mistral", "modernbert")
# Which class their files name is known to be wrong.
_HEEDS_NO_OTHER_CLASS = ("qwen2",)

_FAIRSEQ = {
    "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
    "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
_BERT = {
    "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}  # fmt: skip
_GEMMA = {
    "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
    "mask_token": "<mask>",
}  # fmt: skip


class _Class(NamedTuple):
    """Default tokens, which of them come first and last, and what is done to a loaded file."""

    model: str
    """The kind of vocabulary that the class can make use of."""
    tokens: dict[str, str]
    first: str
    last: str
    lay_down: Callable[[Tokenizer, TokenizerClass], None]


# --- which class ---------------------------------------------------------------------------------


def tokenizer_class(model_type: str, config: dict[str, Any]) -> TokenizerClass | None:
    """``config`` is what the repository says of its tokenizer, whichever file says it."""
    named = config.get("tokenizer_class")
    name = _BY_MODEL_TYPE.get(model_type)
    if isinstance(named, str) and named and model_type not in _HEEDS_NO_OTHER_CLASS:
        name = None if model_type in _HEEDS_NO_CLASS else _BY_NAME.get(named.removesuffix("Fast"))
    if name is None:
        return None
    if name == "DebertaV2Tokenizer" and (
        config.get("do_lower_case") or config.get("split_by_punct")
    ):
        message = "a DebertaV2Tokenizer that lowers case or splits punctuation is not supported"
        raise ServeError(ErrorCode.INVALID_MODEL, message)
    found = _CLASSES[name]
    # Only Llama's class takes null for its default.
    stated = config.get("add_prefix_space", name in _SPACED)
    tokens = {key: _content(config.get(key)) or token for key, token in found.tokens.items()}
    return TokenizerClass(
        name=name,
        first=tokens.get(found.first, ""),
        last=tokens.get(found.last, ""),
        unknown=tokens["unk_token"],
        prefix_space=bool(name == "LlamaTokenizer" if stated is None else stated),
        tokens=sorted({*tokens.values()}),
        is_legacy=bool(config.get("legacy")),
    )


def fits(found: TokenizerClass, model: str | None) -> bool:
    """Whether the class can use a vocabulary of this kind; older files do not tell theirs."""
    return model in (None, _CLASSES[found.name].model)


def text_normalizer(found: TokenizerClass, config: dict[str, Any]) -> TextNormalizer | None:
    """The clean-up that BERT's class and MPNet's take from their settings."""
    if found.name not in ("BertTokenizer", "MPNetTokenizer"):
        return None
    accents = config.get("strip_accents")
    return TextNormalizer(
        lower_case=bool(config.get("do_lower_case", True)),
        strip_accents=None if accents is None else bool(accents),
        chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
    )


def _content(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


# --- what it lays down ---------------------------------------------------------------------------


def lay_down(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    """Make ``tokenizer``, as its file has it, the one that the class would build."""
    if found.name == "LlamaTokenizer" and works_on_bytes(tokenizer):
        return
    own = _CLASSES[found.name]
    own.lay_down(tokenizer, found)
    marked = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    known = [token for token in found.tokens if tokenizer.token_to_id(token) is not None]
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in known if token not in marked]
    )


_SPACED = ("CamembertTokenizer", "DebertaV2Tokenizer", "LlamaTokenizer", "XLMRobertaTokenizer")
_CLASSES: dict[TokenizerClassName, _Class] = {
    "BertTokenizer": _Class("WordPiece", _BERT, "cls_token", "sep_token", lay_down_word_pieces),
    "CamembertTokenizer": _Class(
        "Unigram", _FAIRSEQ, "bos_token", "eos_token", lay_down_scored_pieces
    ),
    "DebertaV2Tokenizer": _Class("Unigram", _BERT, "cls_token", "sep_token", lay_down_deberta),
    "GemmaTokenizer": _Class("BPE", _GEMMA, "", "", lay_down_byte_fallback),
    "LlamaTokenizer": _Class("BPE", LLAMA, "", "", lay_down_llama),
    "MPNetTokenizer": _Class(
        "WordPiece",
        {**_FAIRSEQ, "unk_token": "[UNK]"},
        "cls_token",
        "sep_token",
        lay_down_word_pieces,
    ),
    "Qwen2Tokenizer": _Class("BPE", QWEN, "", "", lay_down_qwen),
    "RobertaTokenizer": _Class("BPE", _FAIRSEQ, "cls_token", "sep_token", lay_down_bytes),
    "XLMRobertaTokenizer": _Class(
        "Unigram", _FAIRSEQ, "bos_token", "eos_token", lay_down_scored_pieces
    ),
}
