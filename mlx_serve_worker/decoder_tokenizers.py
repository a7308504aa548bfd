"""The tokenizer classes that decoders have in transformers 5, as ``tokenizer_classes`` knows them.

Invariants: what a class lays down is done to the tokenizer as its file has it; the tokens around a
text are the file's.
"""

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import TokenizerClass

QWEN = {
    "unk_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
LLAMA = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}

_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def lay_down_qwen(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    _set_merging(tokenizer, found, by_bytes=False)
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = PreTokenizers(
        [
            Split(Regex(_QWEN_WORDS), "isolated"),
            ByteLevel(add_prefix_space=found.prefix_space, use_regex=False),
        ]
    )


def lay_down_llama(tokenizer: Tokenizer, found: TokenizerClass) -> None:
    _set_merging(tokenizer, found, by_bytes=True)
    tokenizer.normalizer = None
    scheme = "never"
    if found.prefix_space:
        scheme = "always" if found.is_legacy else "first"
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme=scheme, split=False)


def works_on_bytes(tokenizer: Tokenizer) -> bool:
    """Llama 3's files still name the class of Llama 2, whose way the reference then leaves."""
    parts = (tokenizer.pre_tokenizer, tokenizer.decoder, tokenizer.post_processor)
    return any("ByteLevel" in repr(part) for part in parts)


def _set_merging(tokenizer: Tokenizer, found: TokenizerClass, *, by_bytes: bool) -> None:
    model = tokenizer.model
    if not isinstance(model, BPE):
        message = f"tokenizer.json is not for a {found.name}: it lacks merges"
        raise ServeError(ErrorCode.INVALID_MODEL, message)
    model.unk_token = None
    model.fuse_unk = model.byte_fallback = by_bytes
    model.dropout = None
    model.ignore_merges = False
