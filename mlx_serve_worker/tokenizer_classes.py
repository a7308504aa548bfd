"""The tokenizer classes of transformers 5 that take from ``tokenizer.json`` little but the vocabulary.

Invariants: how text is cleaned up and split, and what is put around it, is then what the class lays
down, because that is what the reference computes on; which class it is follows the reference's
rules, and a class that is not listed here leaves the file as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer
from tokenizers.normalizers import Precompiled, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, PreTokenizer, Split, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as PreTokenizerSequence
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import TextNormalizer, TokenizerClass, TokenizerClassName

_CLASSES_BY_NAME: dict[str, TokenizerClassName] = {
    "BertTokenizer": "BertTokenizer",
    "CamembertTokenizer": "CamembertTokenizer",
    "DistilBertTokenizer": "BertTokenizer",
    "GemmaTokenizer": "GemmaTokenizer",
    "MPNetTokenizer": "MPNetTokenizer",
    "RobertaTokenizer": "RobertaTokenizer",
    "XLMRobertaTokenizer": "XLMRobertaTokenizer",
}
# For a repository that names no class. ModernBERT's never counts in the reference.
_CLASSES_BY_MODEL_TYPE: dict[str, TokenizerClassName] = {
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "BertTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "mpnet": "MPNetTokenizer",
    "nomic_bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
_CLASS_NEVER_COUNTS = ("modernbert",)

_SPECIALS = {"first": "cls_token", "last": "sep_token", "unknown": "unk_token"}
_OTHERS = ("bos_token", "eos_token", "pad_token", "mask_token")
_BERT = {
    "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}  # fmt: skip
_ROBERTA = {
    "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
    "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip


class _Defaults(NamedTuple):
    tokens: Mapping[str, str]
    first: str
    last: str
    prefix_space: bool = False
    unknown_id: int | None = None
    """Fixed for a vocabulary of scored pieces."""


_DEFAULTS: dict[TokenizerClassName, _Defaults] = {
    "BertTokenizer": _Defaults(_BERT, "cls_token", "sep_token"),
    "CamembertTokenizer": _Defaults(_ROBERTA, "bos_token", "eos_token", True),
    "GemmaTokenizer": _Defaults(
        {**_ROBERTA, "bos_token": "<bos>", "eos_token": "<eos>", "cls_token": "", "sep_token": ""},
        "",
        "",
    ),
    "MPNetTokenizer": _Defaults({**_ROBERTA, "unk_token": "[UNK]"}, "cls_token", "sep_token"),
    "RobertaTokenizer": _Defaults(_ROBERTA, "cls_token", "sep_token"),
    "XLMRobertaTokenizer": _Defaults(_ROBERTA, "bos_token", "eos_token", True, 3),
}
