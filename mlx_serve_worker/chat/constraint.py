"""Keeps an answer within a JSON schema while it is generated.

Invariants: what is not part of a fitting JSON value cannot be chosen, once thoughts are over; what
a schema may cost to compile is bounded, because nothing else is computed meanwhile.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.chat.detokenizing import TokenTexts

MAX_SCHEMA_BYTES = 256 * 1024
_MAX_TOLD = 300
# As most texts have it: where blanks are up to the model, a weak one writes blanks without end.
_LAYOUT: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}

IsOver = Callable[[int], bool]
"""Told each token of the model's thoughts, whether they end with it."""


class _Words:
    """The tokens as llguidance asks for them."""

    def __init__(self, texts: TokenTexts, end: int) -> None:
        self.eos_token_id = end
        self.bos_token_id = None
        self.tokens = [texts.bytes_of(id) for id in range(texts.size)]
        self.special_token_ids = sorted(texts.specials)
        self._encode = texts.encode

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text.decode())


class Grammars:
    """Compiles schemas for one model."""

    def __init__(self, texts: TokenTexts, vocab_size: int, ends: Sequence[int]) -> None:
        self._texts = texts
        self._vocab_size = vocab_size
        self._ends = list(ends)

    def constraint(self, schema: str, param: str, thoughts: "Thinking | None") -> "Constraint":
        if not self._ends:
            raise _refused("this model has no token that ends an answer", param)
        matcher = self._matcher(schema, param)
        return Constraint(matcher, self._vocab_size, self._ends, thoughts)

    @cached_property
    def _words(self) -> LLTokenizer:
        # Of its own reading of tokenizer.json, llguidance would make the same in three times the
        # time, and without regard to what the manifest says of the tokenizer.
        words = TokenizerWrapper(_Words(self._texts, self._ends[0]))
        return LLTokenizer(words, n_vocab=self._vocab_size, eos_token=self._ends)

    def _matcher(self, schema: str, param: str) -> LLMatcher:
        if len(schema) > MAX_SCHEMA_BYTES:
            raise _refused(f"it has more than {MAX_SCHEMA_BYTES // 1024} KiB", param)
        try:
            grammar = LLMatcher.grammar_from_json_schema(_plain(schema), overrides=_LAYOUT)
        except (ValueError, RecursionError) as error:
            raise _refused(_told(error), param) from None
        matcher = LLMatcher(self._words, grammar, log_level=0)
        if matcher.is_error():
            raise _refused(_told(matcher.get_error()), param)
        return matcher


class Thinking:
    """The model's thoughts, which come before its answer and are free."""

    def __init__(self, start: int | None, has_begun: bool, is_over: IsOver) -> None:
        """``start`` begins them, where it is up to the model whether they come."""
        self.start = start
        self.has_begun = has_begun
        self.is_over = is_over


class Constraint:
    """Forbids a row every token that does not fit; for ``BatchGenerator``."""

    def __init__(
        self,
        matcher: LLMatcher,
        vocab_size: int,
        ends: Sequence[int],
        thoughts: Thinking | None,
    ) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._ends = ends
        self._thoughts = thoughts
        self._has_prompt = False

    @property
    def error(self) -> ServeError | None:
        """What has made it impossible to go on."""
        if not self._matcher.is_error():
            return None
        return _refused(_told(self._matcher.get_error()), "response_format")

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._has_prompt:
            self._consume(int(tokens[-1]))
        self._has_prompt = True
        thoughts = self._thoughts
        if (thoughts is not None and thoughts.has_begun) or self._matcher.is_error():
            return logits
        allowed = self._allowed()
        if thoughts is not None and thoughts.start is not None:
            allowed[thoughts.start] = True
        return mx.where(mx.array(allowed), logits, -mx.inf)

    def _consume(self, token: int) -> None:
        thoughts = self._thoughts
        if thoughts is not None:
            if thoughts.has_begun:
                if thoughts.is_over(token):
                    self._thoughts = None
                return
            thoughts.has_begun = token == thoughts.start
            if thoughts.has_begun:
                return
            self._thoughts = None
        if token < self._vocab_size and not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def _allowed(self) -> "np.ndarray[Any, Any]":
        allowed = np.zeros(self._vocab_size, dtype=np.bool_)
        if self._matcher.is_stopped():
            allowed[self._ends] = True
            return allowed
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        told = np.unpackbits(bits, bitorder="little")[: self._vocab_size]
        allowed[: told.size] = told
        return allowed


def call_schema(tools: Sequence[dict[str, Any]], forced: Sequence[str]) -> str:
    """A call of one of the tools that are forced."""
    calls = [_call(tool["function"]) for tool in tools if tool["function"]["name"] in forced]
    if len(calls) == 1:
        return json.dumps(calls[0])
    return json.dumps({"anyOf": [_moved(call, f"/anyOf/{at}") for at, call in enumerate(calls)]})


def _call(function: dict[str, Any]) -> dict[str, Any]:
    parameters = _moved(function.get("parameters") or {"type": "object"}, "/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """The same schema when it is part of another, at that place: references begin at the top."""
    match schema:
        case dict():
            return {
                key: f"#{place}{value[1:]}"
                if key == "$ref" and isinstance(value, str) and value.startswith("#")
                else _moved(value, place)
                for key, value in schema.items()
            }
        case list():
            return [_moved(each, place) for each in schema]
        case _:
            return schema


def _plain(schema: str) -> str:
    """Without what llguidance would read as settings of its own."""
    parsed = json.loads(schema)
    if not isinstance(parsed, dict):
        raise ValueError("it is no JSON object")
    return json.dumps({key: value for key, value in parsed.items() if key != "x-guidance"})


def _told(error: Any) -> str:
    return " ".join(str(error).split())[:_MAX_TOLD]


def _refused(message: str, param: str) -> ServeError:
    return ServeError(
        ErrorCode.INVALID_REQUEST, f"the JSON schema cannot be used: {message}", param=param
    )
