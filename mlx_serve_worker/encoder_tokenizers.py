"""How the tokenizer classes of encoders clean up and split text, and what they put around it.

Invariants: equal to the classes of transformers 5 that build this anew from the vocabulary; a file
whose vocabulary is of another kind, or lacks a token that goes around every text, is refused.
"""

from typing import Any, cast

import msgspec
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.normalizers import NFC, Precompiled, Replace, Strip
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace, Split, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import RobertaProcessing, TemplateProcessing

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import TokenizerClass

_XLMR_UNKNOWN = 3
_UNHEARD_OF = "\U0010fffd"


def lay_down_word_pieces(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    model = tokenizer.model
    if not isinstance(model, WordPiece):
        raise _unfit(found, "word pieces")
    model.unk_token = found.unknown
    tokenizer.pre_tokenizer = BertPreTokenizer()
    if found.name == "MPNetTokenizer":
        tokenizer.post_processor = _fairseq_pair(tokenizer, found)
    else:
        tokenizer.post_processor = _bert_pair(tokenizer, found)


def lay_down_bytes(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    _set_merging(tokenizer, found, unknown=None, by_bytes=False)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=found.prefix_space)
    tokenizer.post_processor = _fairseq_pair(tokenizer, found)


def lay_down_byte_fallback(tokenizer: Tokenizer, found: TokenizerClass) -> None:
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


def lay_down_scored_pieces(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    if found.name == "XLMRobertaTokenizer":
        _fix_unknown(tokenizer)
    tokenizer.normalizer = _character_map(tokenizer.normalizer)
    scheme = "always" if found.prefix_space else "never"
    tokenizer.pre_tokenizer = PreTokenizers([WhitespaceSplit(), Metaspace(prepend_scheme=scheme)])
    tokenizer.post_processor = TemplateProcessing(
        single=[found.first, "$A", found.last],
        pair=[found.first, "$A", found.last, found.last, "$B", found.last],
        special_tokens=_ids(tokenizer, found),
    )


def lay_down_deberta(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    if not isinstance(tokenizer.model, Unigram):
        raise _unfit(found, "scored pieces")
    blanks = Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
    tokenizer.normalizer = Normalizers([blanks, NFC(), Strip(left=False, right=True)])
    scheme = "always" if found.prefix_space else "first"
    tokenizer.pre_tokenizer = PreTokenizers([Metaspace(prepend_scheme=scheme)])
    tokenizer.post_processor = _bert_pair(tokenizer, found)


def _bert_pair(tokenizer: Tokenizer, found: TokenizerClass) -> TemplateProcessing:
    return TemplateProcessing(
        single=[found.first, "$A", found.last],
        pair=[found.first, "$A", found.last, "$B:1", f"{found.last}:1"],
        special_tokens=_ids(tokenizer, found),
    )


def _fix_unknown(tokenizer: Tokenizer) -> None:
    """The class gives what it does not know this id, whichever token that is."""
    if tokenizer.encode(_UNHEARD_OF, add_special_tokens=False).ids[-1:] == [_XLMR_UNKNOWN]:
        return
    vocabulary = msgspec.json.decode(tokenizer.to_str())["model"]["vocab"]
    tokenizer.model = Unigram([tuple(piece) for piece in vocabulary], unk_id=_XLMR_UNKNOWN)


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
