"""Texts to token ids that the model may see.

Invariants: an id that the model has no row for, and an input longer than it has positions, never
leave this module; an input that cannot be tokenized fails alone, and does so with a message for
whoever sent it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Detokenize, Piece, Tokenize, Truncate
from mlx_serve_worker.backend import Prepared, Tokens
from mlx_serve_worker.tokenizer_file import TokenizerFailed, guarded, special_tokens

# Characters read of a long text, per token that the model takes: ordinary text has 2 to 8. Text
# with long blanks or words without end is read further, up to a bound, so that one request of a
# megabyte does not hold up the others.
_CHARACTERS_PER_TOKEN = 16
_WIDENING = 4
_MOST_CHARACTERS_PER_TOKEN = 256
# For counting tokens, where nothing is cut.
_MOST_CHARACTERS = 2**20


class _Prompt(NamedTuple):
    text: str
    ids: list[int]


class Read(NamedTuple):
    """The ids of a text, or of the one end of it that was read."""

    ids: list[int]
    whole: bool


class TextTokenizer:
    def __init__(
        self, tokenizer: Any, *, vocab_size: int, max_tokens: int, default_prompt: str = ""
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self.max_tokens = max_tokens
        self._before, self._after = special_tokens(tokenizer)
        self._room = max_tokens - len(self._before) - len(self._after)
        if self._room < 1:
            raise ServeError(
                ErrorCode.INVALID_MODEL, f"inputs of {max_tokens} tokens leave no room for text"
            )
        self._default_prompt = _Prompt("", [])
        chosen = self._chosen_prompt(default_prompt)
        if isinstance(chosen, ServeError):
            raise ServeError(ErrorCode.INVALID_MODEL, f"the default prompt: {chosen.message}")
        self._default_prompt = chosen

    # --- to compute on ---------------------------------------------------------------------------

    def prepare(
        self, texts: Sequence[str], truncate: Truncate, prompt: str | None = None
    ) -> list[Prepared | ServeError]:
        """``prompt`` is put before each text; None means the model's default one."""
        chosen = self._chosen_prompt(prompt)
        if isinstance(chosen, ServeError):
            return [chosen for _ in texts]
        return [
            read
            if isinstance(read, ServeError)
            else self._fit(chosen, self._before, read, self._after, truncate)
            for read in self.read(texts, before=chosen.text, from_end=truncate == "left")
        ]

    def prepare_ids(
        self, inputs: Sequence[Sequence[int]], truncate: Truncate, prompt: str | None = None
    ) -> list[Prepared | ServeError]:
        """The model's own ids, with the special tokens that it wants or without."""
        chosen = self._chosen_prompt(prompt)
        if isinstance(chosen, ServeError):
            return [chosen for _ in inputs]
        return [self._fit_ids(chosen, list(ids), truncate) for ids in inputs]

    def read(
        self, texts: Sequence[str], *, before: str = "", from_end: bool = False
    ) -> list[Read | ServeError]:
        """Ids without special tokens: the whole text, or more of one end than the model takes."""
        bound = self.max_tokens * _CHARACTERS_PER_TOKEN
        encoded = self._encode_all([_piece(before, text, bound, from_end) for text in texts])
        return [
            ids if isinstance(ids, ServeError) else self._widened(ids, text, before, from_end)
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def _widened(self, ids: list[int], text: str, before: str, from_end: bool) -> Read | ServeError:
        # The word at a cut may be tokenized otherwise than in the whole text; twice the tokens
        # that fit keep it far from those that are used.
        bound = self.max_tokens * _CHARACTERS_PER_TOKEN
        most = min(len(text), self.max_tokens * _MOST_CHARACTERS_PER_TOKEN)
        while bound < most and len(ids) < 2 * self.max_tokens:
            bound *= _WIDENING
            wider = self._encode_all([_piece(before, text, bound, from_end)])[0]
            if isinstance(wider, ServeError):
                return wider
            ids = wider
        return Read(ids, len(text) <= bound)

    def _chosen_prompt(self, text: str | None) -> _Prompt | ServeError:
        if text is None:
            return self._default_prompt
        # It is repeated before every text of the request.
        if len(text) > self.max_tokens * _CHARACTERS_PER_TOKEN:
            message = f"the prompt is longer than the {self.max_tokens} tokens of this model"
            return ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, param="prompt")
        ids = self._encode_all([text])[0]
        return ids if isinstance(ids, ServeError) else _Prompt(text, ids)

    def _fit_ids(
        self, prompt: _Prompt, ids: list[int], truncate: Truncate
    ) -> Prepared | ServeError:
        if error := self.range_error(ids):
            return error
        before, after = self._before, self._after
        around = len(before) + len(after)
        if len(ids) >= around and ids == before + ids[len(before) : len(ids) - len(after)] + after:
            ids = ids[len(before) : len(ids) - len(after)]
        else:
            before = after = []
        return self._fit(prompt, before, Read(prompt.ids + ids, True), after, truncate)

    def _fit(
        self,
        prompt: _Prompt,
        before: list[int],
        read: Read,
        after: list[int],
        truncate: Truncate,
    ) -> Prepared | ServeError:
        room = self.max_tokens - len(before) - len(after)
        ids = read.ids
        truncated = len(ids) > room or not read.whole
        if truncated and truncate == "none":
            return self._too_long(read, len(before) + len(after))
        if truncated and truncate == "right":
            ids = ids[:room]
        elif truncated:
            # A prompt stays even if the start of the text goes: the model was trained to see it.
            kept = len(prompt.ids) if len(prompt.ids) < room else 0
            ids = ids[:kept] + ids[kept:][kept - room :]
        ids = [*before, *ids, *after]
        if not ids:
            return _refused(ErrorCode.EMPTY_INPUT, "the input has no tokens for this model")
        if error := self.beyond_vocabulary(ids):
            return error
        prompt_tokens = len(before) + len(prompt.ids) if prompt.text else 0
        return Prepared(ids, len(ids), truncated, prompt_tokens=prompt_tokens)

    def beyond_vocabulary(self, ids: Sequence[int]) -> ServeError | None:
        if max(ids, default=0) < self._vocab_size:
            return None
        # Not the caller's mistake: the tokenizer and the weights do not belong together.
        message = f"the tokenizer gave the id {max(ids)} to a model of {self._vocab_size}"
        return ServeError(ErrorCode.INVALID_MODEL, message)

    def _too_long(self, read: Read, special: int) -> ServeError:
        count = len(read.ids) + special
        found = f"{count} tokens" if read.whole else f"more than {count} tokens, or endless words"
        return _refused(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"this model takes up to {self.max_tokens} tokens, but the input has {found}",
        )

    def range_error(self, ids: Sequence[int]) -> ServeError | None:
        for id in ids:
            if not 0 <= id < self._vocab_size:
                return _refused(
                    ErrorCode.INVALID_REQUEST,
                    f"the token id {id} is outside of the model's vocabulary of {self._vocab_size}",
                )
        return None

    # --- to tell about ---------------------------------------------------------------------------

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return [self._tokens(text, part) for text in part.texts]

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return [self._text(ids, part.skip_special) for ids in part.tokens]

    def _tokens(self, text: str, part: Tokenize) -> Tokens | ServeError:
        if len(text) > _MOST_CHARACTERS:
            return _refused(
                ErrorCode.REQUEST_TOO_LARGE,
                f"the input has {len(text)} characters; up to {_MOST_CHARACTERS} are tokenized",
            )
        try:
            found = guarded(self._tokenizer.encode, text, add_special_tokens=part.special)
        except TokenizerFailed:
            return _untokenizable(text)
        return Tokens(found.ids, _pieces(text, found) if part.pieces else [])

    def _text(self, ids: Sequence[int], skip_special: bool) -> str | ServeError:
        if error := self.range_error(ids):
            return error
        try:
            decode = self._tokenizer.decode
            return str(guarded(decode, list(ids), skip_special_tokens=skip_special))
        except TokenizerFailed:
            return _refused(ErrorCode.INVALID_REQUEST, "the token ids cannot be decoded")

    def _encode_all(self, texts: list[str]) -> list[list[int] | ServeError]:
        try:
            encoded = guarded(self._tokenizer.encode_batch_fast, texts, add_special_tokens=False)
        except TokenizerFailed:
            if len(texts) == 1:
                return [_untokenizable(texts[0])]
            return [self._encode_all([text])[0] for text in texts]
        return [encoding.ids for encoding in encoded]


def _piece(before: str, text: str, bound: int, from_end: bool) -> str:
    if len(text) <= bound:
        return before + text
    return before + (text[-bound:] if from_end else text[:bound])


def _pieces(text: str, found: Any) -> list[Piece]:
    return [
        Piece(token if special else text[start:stop], start, stop, bool(special), token)
        for token, (start, stop), special in zip(
            found.tokens, found.offsets, found.special_tokens_mask, strict=True
        )
    ]


def _untokenizable(text: str) -> ServeError:
    try:
        text.encode()
    except UnicodeEncodeError:
        message = "the input is no valid Unicode text: it holds half of a surrogate pair"
        return _refused(ErrorCode.INVALID_REQUEST, message)
    return _refused(ErrorCode.INVALID_REQUEST, "the input cannot be tokenized")


def _refused(code: ErrorCode, message: str) -> ServeError:
    return ServeError(code, message, param="input")
