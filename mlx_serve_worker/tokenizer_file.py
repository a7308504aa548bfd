"""``tokenizer.json`` as a tokenizer, and the ways in which that library fails.

Invariants: what the file says about truncation and padding is dropped, the manifest decides; a
panic inside the library is an error like any other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer, Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_worker.tokenizer_classes import lay_down

TOKENIZER_FILE = "tokenizer.json"
MAX_TOKENIZER_BYTES = 256 * 1024**2

T = TypeVar("T")
P = ParamSpec("P")


class TokenizerFailed(Exception):
    """The library raised or panicked."""


class SpecialTokens(NamedTuple):
    """What the tokenizer puts before and after every text."""

    before: list[int]
    after: list[int]


def guarded(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        # A panic in Rust arrives as a BaseException of a class that cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerFailed from error


def load_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer of a model, cleaning up text as its manifest says."""
    tokenizer = read_tokenizer(folder / TOKENIZER_FILE)
    if manifest.tokenizer is not None:
        lay_down(tokenizer, manifest.tokenizer)
    if manifest.normalizer is not None:
        tokenizer.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=manifest.normalizer.chinese_chars,
            strip_accents=manifest.normalizer.strip_accents,
            lowercase=manifest.normalizer.lower_case,
        )
    if manifest.lower_case:
        own = tokenizer.normalizer
        tokenizer.normalizer = NormalizerSequence([Lowercase(), own] if own else [Lowercase()])
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    try:
        if path.is_symlink() or path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ServeError(ErrorCode.INVALID_MODEL, f"{path.name} is a link, or too large")
        tokenizer = guarded(Tokenizer.from_file, str(path))
    except OSError as error:
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"{path.name} cannot be read: {error.strerror}"
        ) from None
    except TokenizerFailed:
        raise ServeError(ErrorCode.INVALID_MODEL, f"{path.name} is damaged") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def special_tokens(tokenizer: Any) -> SpecialTokens:
    for probe in ("a", "1", "가"):
        try:
            bare = guarded(tokenizer.encode, probe, add_special_tokens=False)
            full = guarded(tokenizer.encode, probe)
        except TokenizerFailed:
            break
        length = len(bare.ids)
        added = len(full.ids) - length
        starts = [at for at in range(added + 1) if full.ids[at : at + length] == bare.ids]
        if length and len(starts) == 1 and not any(full.type_ids):
            return SpecialTokens(full.ids[: starts[0]], full.ids[starts[0] + length :])
    raise ServeError(ErrorCode.INVALID_MODEL, f"{TOKENIZER_FILE} works in a way we do not support")
