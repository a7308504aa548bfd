"""Texts to token ids that the model may see.

Invariants: what ``tokenizer.json`` says about truncation and padding is dropped, the manifest
decides; an id that the model has no row for, and an input longer than it has positions, never
leave this module; a text that cannot be tokenized fails alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer, Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import BertPreTokenizer

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_common.wire import Truncate
from mlx_serve_worker.backend import Prepared

TOKENIZER_FILE = "tokenizer.json"
MAX_TOKENIZER_BYTES = 256 * 1024**2

# Characters read of a long text, per token that the model takes: ordinary text has 2 to 8. Text
# with long blanks or words without end is read further, up to a bound, so that one request of a
# megabyte does not hold up the others.
_CHARACTERS_PER_TOKEN = 16
_WIDENING = 4
_MOST_CHARACTERS_PER_TOKEN = 256


class _Read(NamedTuple):
    """The ids of a text, or of the one end of it that was read."""

    ids: list[int]
    whole: bool


class TextTokenizer:
    def __init__(
        self, tokenizer: Tokenizer, *, vocab_size: int, max_tokens: int, prompt: str = ""
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_tokens = max_tokens
        self._prompt = prompt
        self._prefix, self._suffix = _special_tokens(tokenizer)
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise ServeError(
                ErrorCode.INVALID_MODEL, f"inputs of {max_tokens} tokens leave no room for text"
            )
        self._prompt_ids = self._encode_one(prompt) if prompt else []

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, *, vocab_size: int) -> "TextTokenizer":
        tokenizer = _read(folder / TOKENIZER_FILE)
        if manifest.normalizer is not None:
            tokenizer.normalizer = BertNormalizer(
                clean_text=True,
                handle_chinese_chars=manifest.normalizer.chinese_chars,
                strip_accents=manifest.normalizer.strip_accents,
                lowercase=manifest.normalizer.lower_case,
            )
            tokenizer.pre_tokenizer = BertPreTokenizer()
        if manifest.lower_case:
            own = tokenizer.normalizer
            tokenizer.normalizer = NormalizerSequence([Lowercase(), own] if own else [Lowercase()])
        if manifest.max_tokens is None:
            raise ServeError(ErrorCode.INVALID_MODEL, "the manifest tells no maximum length")
        prompt = manifest.prompts.get(manifest.default_prompt or "", "")
        return cls(tokenizer, vocab_size=vocab_size, max_tokens=manifest.max_tokens, prompt=prompt)

    @property
    def prompt_tokens(self) -> int:
        """Tokens at the start of each input that are not the text's own."""
        return len(self._prefix) + len(self._prompt_ids) if self._prompt else 0

    def prepare(self, texts: Sequence[str], truncate: Truncate) -> list[Prepared | ServeError]:
        return [
            read if isinstance(read, ServeError) else self._fit(read, truncate)
            for read in self._read_all(texts, from_end=truncate == "left")
        ]

    def _read_all(self, texts: Sequence[str], *, from_end: bool) -> list[_Read | ServeError]:
        bound = self._max_tokens * _CHARACTERS_PER_TOKEN
        encoded = self._encode_all([self._piece(text, bound, from_end) for text in texts])
        return [
            self._widen(text, ids, bound, from_end) if isinstance(ids, list) else ids
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def _piece(self, text: str, bound: int, from_end: bool) -> str:
        if len(text) <= bound:
            return self._prompt + text
        return self._prompt + (text[-bound:] if from_end else text[:bound])

    def _widen(self, text: str, ids: list[int], bound: int, from_end: bool) -> _Read | ServeError:
        # The word at a cut may be tokenized otherwise than in the whole text; twice the tokens
        # that fit keep it far from those that are used.
        most = min(len(text), self._max_tokens * _MOST_CHARACTERS_PER_TOKEN)
        while bound < most and len(ids) < 2 * self._max_tokens:
            bound *= _WIDENING
            wider = self._encode_all([self._piece(text, bound, from_end)])[0]
            if isinstance(wider, ServeError):
                return wider
            ids = wider
        return _Read(ids, whole=bound >= len(text))

    def _fit(self, read: _Read, truncate: Truncate) -> Prepared | ServeError:
        ids = read.ids
        truncated = len(ids) > self._room or not read.whole
        if truncated and truncate == "none":
            return self._too_long(read)
        if truncated:
            ids = self._cut(ids, truncate)
        ids = [*self._prefix, *ids, *self._suffix]
        if not ids:
            return ServeError(
                ErrorCode.EMPTY_INPUT, "the input has no tokens for this model", param="input"
            )
        if max(ids) >= self._vocab_size:
            return ServeError(
                ErrorCode.INVALID_MODEL,
                f"the model's tokenizer produced the id {max(ids)}, but the model knows only"
                f" {self._vocab_size} tokens",
            )
        return Prepared(ids, len(ids), truncated)

    def _too_long(self, read: _Read) -> ServeError:
        count = len(read.ids) + len(self._prefix) + len(self._suffix)
        found = f"{count} tokens" if read.whole else f"more than {count} tokens, or endless words"
        return ServeError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"this model takes up to {self._max_tokens} tokens, but the input has {found}",
            param="input",
        )

    def _cut(self, ids: list[int], truncate: Truncate) -> list[int]:
        if truncate == "right":
            return ids[: self._room]
        # A prompt stays even if the start of the text goes: the model was trained to see it.
        kept = len(self._prompt_ids) if len(self._prompt_ids) < self._room else 0
        return ids[:kept] + ids[kept:][kept - self._room :]

    def _encode_all(self, texts: list[str]) -> list[list[int] | ServeError]:
        try:
            encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except BaseException as error:
            _raise_unless_from_tokenizer(error)
            if len(texts) == 1:
                return [_untokenizable(texts[0])]
            return [self._encode_all([text])[0] for text in texts]
        return [encoding.ids for encoding in encoded]

    def _encode_one(self, text: str) -> list[int]:
        ids = self._encode_all([text])[0]
        if isinstance(ids, ServeError):
            raise ServeError(ErrorCode.INVALID_MODEL, "the model's prompt cannot be tokenized")
        return ids


def _read(path: Path) -> Tokenizer:
    try:
        if path.is_symlink() or path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ServeError(ErrorCode.INVALID_MODEL, f"{path.name} is a link, or too large")
        return Tokenizer.from_file(str(path))
    except OSError as error:
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"{path.name} cannot be read: {error.strerror}"
        ) from None
    except ServeError:
        raise
    except BaseException as error:
        _raise_unless_from_tokenizer(error)
        raise ServeError(ErrorCode.INVALID_MODEL, f"{path.name} is damaged") from None


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after every text."""
    for probe in ("a", "1", "가"):
        try:
            bare = tokenizer.encode(probe, add_special_tokens=False).ids
            full = tokenizer.encode(probe)
        except BaseException as error:
            _raise_unless_from_tokenizer(error)
            break
        added = len(full.ids) - len(bare)
        starts = [at for at in range(added + 1) if full.ids[at : at + len(bare)] == bare]
        if bare and len(starts) == 1 and not any(full.type_ids):
            return full.ids[: starts[0]], full.ids[starts[0] + len(bare) :]
    raise ServeError(ErrorCode.INVALID_MODEL, f"{TOKENIZER_FILE} works in a way we do not support")


def _untokenizable(text: str) -> ServeError:
    try:
        text.encode()
    except UnicodeEncodeError:
        return ServeError(
            ErrorCode.INVALID_REQUEST,
            "the input is no valid Unicode text: it holds half of a surrogate pair",
            param="input",
        )
    return ServeError(ErrorCode.INVALID_REQUEST, "the input cannot be tokenized", param="input")


def _raise_unless_from_tokenizer(error: BaseException) -> None:
    # A panic in Rust arrives as a BaseException of a class that cannot be imported.
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
