"""The tokenizer classes of transformers 5 that take little but the vocabulary from their file.

Invariants: how text is cleaned up and split, and what is put around it, is then what the class lays
down, because that is what the reference computes on; which class it is follows the reference's
rules; for a class that is not listed here ``tokenizer.json`` is used as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import Precompiled, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace, Split, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import TextNormalizer, TokenizerClass, TokenizerClassName

_BY_NAME: dict[str, TokenizerClassName] = {
    "BertTokenizer": "BertTokenizer",
    "CamembertTokenizer": "CamembertTokenizer",
    "DistilBertTokenizer": "BertTokenizer",
    "GemmaTokenizer": "GemmaTokenizer",
    "MPNetTokenizer": "MPNetTokenizer",
    "RobertaTokenizer": "RobertaTokenizer",
    "XLMRobertaTokenizer": "XLMRobertaTokenizer",
}
# Where a repository names none; ModernBERT is not here: the reference heeds no class of its.
_BY_MODEL_TYPE: dict[str, TokenizerClassName] = {
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "BertTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "mpnet": "MPNetTokenizer",
    "nomic_bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
_HEEDS_NO_CLASS = ("modernbert",)

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

    tokens: dict[str, str]
    first: str
    last: str
    lay_down: Callable[[Tokenizer, TokenizerClass], None]


# --- which class ---------------------------------------------------------------------------------


def tokenizer_class(model_type: str, config: dict[str, Any]) -> TokenizerClass | None:
    """``config`` is what the repository says of its tokenizer, whichever file says it."""
    named = config.get("tokenizer_class")
    name = _BY_MODEL_TYPE.get(model_type)
    if isinstance(named, str) and named:
        name = None if model_type in _HEEDS_NO_CLASS else _BY_NAME.get(named.removesuffix("Fast"))
    if name is None:
        return None
    found = _CLASSES[name]
    tokens = {key: _content(config.get(key)) or token for key, token in found.tokens.items()}
    return TokenizerClass(
        name=name,
        first=tokens.get(found.first, ""),
        last=tokens.get(found.last, ""),
        unknown=tokens["unk_token"],
        prefix_space=bool(config.get("add_prefix_space", name in _SCORED)),
        tokens=sorted({*tokens.values()}),
    )


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
    own = _CLASSES[found.name]
    own.lay_down(tokenizer, found)
    marked = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    known = [token for token in found.tokens if tokenizer.token_to_id(token) is not None]
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in known if token not in marked]
    )


def _word_pieces(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    model = tokenizer.model
    if not isinstance(model, WordPiece):
        raise _unfit(found, "word pieces")
    model.unk_token = found.unknown
    tokenizer.pre_tokenizer = BertPreTokenizer()
    if found.name == "MPNetTokenizer":
        tokenizer.post_processor = _fairseq_pair(tokenizer, found)
    else:
        tokenizer.post_processor = TemplateProcessing(
            single=[found.first, "$A", found.last],
            pair=[found.first, "$A", found.last, "$B:1", f"{found.last}:1"],
            special_tokens=_ids(tokenizer, found),
        )


def _bytes(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    _set_merging(tokenizer, found, unknown=None, by_bytes=False)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=found.prefix_space)
    tokenizer.post_processor = _fairseq_pair(tokenizer, found)


def _bytes_as_a_last_resort(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    _set_merging(tokenizer, found, unknown=found.unknown, by_bytes=True)
    tokenizer.normalizer = Replace(" ", "▁")
    tokenizer.pre_tokenizer = Split(" ", "merged_with_previous")


def _set_merging(
    tokenizer: Tokenizer, found: TokenizerClass, *, unknown: str | None, by_bytes: bool
) -> None:
    model = tokenizer.model
    if not isinstance(model, BPE):
        raise _unfit(found, "merges")
    model.unk_token = unknown
    model.fuse_unk = model.byte_fallback = by_bytes
    model.dropout = None
    model.ignore_merges = False


def _scored_pieces(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    tokenizer.normalizer = _character_map(tokenizer.normalizer)
    scheme = "always" if found.prefix_space else "never"
    tokenizer.pre_tokenizer = PreTokenizers([WhitespaceSplit(), Metaspace(prepend_scheme=scheme)])
    tokenizer.post_processor = TemplateProcessing(
        single=[found.first, "$A", found.last],
        pair=[found.first, "$A", found.last, found.last, "$B", found.last],
        special_tokens=_ids(tokenizer, found),
    )


def _character_map(normalizer: Any) -> Precompiled | None:
    """Of what the file does to characters, the class keeps only sentencepiece's own table."""
    steps = normalizer if isinstance(normalizer, Normalizers) else [normalizer]
    return next((step for step in cast(Any, steps) if isinstance(step, Precompiled)), None)


def _fairseq_pair(tokenizer: Tokenizer, found: TokenizerClass) -> RobertaProcessing:
    ids = dict(_ids(tokenizer, found))
    return RobertaProcessing((found.last, ids[found.last]), (found.first, ids[found.first]))


def _ids(tokenizer: Tokenizer, found: TokenizerClass) -> list[tuple[str, int]]:
    ids: list[tuple[str, int]] = []
    for token in (found.first, found.last):
        id = tokenizer.token_to_id(token)
        if id is None:
            raise _unfit(found, f"the token {token[:40]!r}")
        ids.append((token, id))
    return ids


def _unfit(found: TokenizerClass, lacking: str) -> ServeError:
    message = f"tokenizer.json is not for a {found.name}: it lacks {lacking}"
    return ServeError(ErrorCode.INVALID_MODEL, message)


_SCORED = ("CamembertTokenizer", "XLMRobertaTokenizer")
_CLASSES: dict[TokenizerClassName, _Class] = {
    "BertTokenizer": _Class(_BERT, "cls_token", "sep_token", _word_pieces),
    "CamembertTokenizer": _Class(_FAIRSEQ, "bos_token", "eos_token", _scored_pieces),
    "GemmaTokenizer": _Class(_GEMMA, "", "", _bytes_as_a_last_resort),
    "MPNetTokenizer": _Class(
        {**_FAIRSEQ, "unk_token": "[UNK]"}, "cls_token", "sep_token", _word_pieces
    ),
    "RobertaTokenizer": _Class(_FAIRSEQ, "cls_token", "sep_token", _bytes),
    "XLMRobertaTokenizer": _Class(_FAIRSEQ, "bos_token", "eos_token", _scored_pieces),
}
