"""JSON schemas to grammars that an answer can be kept within, by llguidance.

Invariants: what a schema may cost to compile is bounded, because nothing else is read at that time;
what it asks for is honoured or refused.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.chat.detokenizing import TokenTexts
from mlx_serve_worker.tokenizer_file import TokenizerFailed, guarded

MAX_SCHEMA_BYTES = 128 * 1024
# The time it takes to compile patterns that have to match the same text doubles with each of them.
_MAX_INTERSECTED = 12
_MAX_TOLD = 300
_TOO_DEEP = "it is too deeply nested"
# As most texts have it: where blanks are up to the model, a weak one writes blanks without end.
_LAYOUT: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


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

    @cached_property
    def _words(self) -> LLTokenizer:
        # Of its own reading of tokenizer.json, llguidance would make the same in three times the
        # time, and without regard to what the manifest says of the tokenizer.
        words = TokenizerWrapper(_Words(self._texts, self._ends[0]))
        return LLTokenizer(words, n_vocab=self._vocab_size, eos_token=self._ends)

    def matcher(self, schema: str, param: str) -> LLMatcher:
        """``param`` is which of the request's fields has the schema."""
        if not self._ends:
            raise refused("this model has no token that ends an answer", param)
        if len(schema) > MAX_SCHEMA_BYTES:
            raise refused(f"it has more than {MAX_SCHEMA_BYTES // 1024} KiB", param)
        try:
            asked = _parsed(schema)
            if _intersections(asked) > _MAX_INTERSECTED:
                raise refused("too much in it has to hold of the same values", param)
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(asked), overrides=_LAYOUT)
            matcher = guarded(LLMatcher, self._words, grammar, log_level=0)
        except (ValueError, RecursionError, TokenizerFailed) as error:
            raise refused(told(error), param) from None
        if matcher.is_error():
            raise refused(told(matcher.get_error()), param)
        return matcher


def call_schema(tools: Sequence[dict[str, Any]], forced: Sequence[str]) -> str:
    """A call of one of the tools that are forced."""
    functions = [tool.get("function", {}) for tool in tools]
    try:
        calls = [_call(function) for function in functions if function.get("name") in forced]
        if len(calls) == 1:
            return json.dumps(calls[0])
        moved = [_moved(call, f"/anyOf/{at}") for at, call in enumerate(calls)]
        return json.dumps({"anyOf": moved})
    except RecursionError:
        raise refused(_TOO_DEEP, "tools") from None


def _call(function: dict[str, Any]) -> dict[str, Any]:
    arguments = _as_object(function.get("parameters") or {})
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": _moved(arguments, "/properties/arguments"),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _as_object(parameters: dict[str, Any]) -> dict[str, Any]:
    asked = parameters.get("type", "object")
    if asked != "object" and (not isinstance(asked, list) or "object" not in asked):
        raise refused("a tool's parameters are an object", "tools")
    return {**parameters, "type": "object"}


def _moved(schema: Any, place: str) -> Any:
    """The same schema when it is part of another, at that place: references begin at the top, or
    where a schema says what it is called.
    """
    match schema:
        case {"$id": str()}:
            return schema
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


def _parsed(schema: str) -> dict[str, Any]:
    """Without what llguidance would read as settings of its own."""
    parsed = json.loads(schema)
    if not isinstance(parsed, dict):
        raise ValueError("it is no JSON object")
    return {key: value for key, value in parsed.items() if key != "x-guidance"}


def _intersections(schema: Any) -> int:
    """How often more than one thing is said of the same value, where each can be a pattern."""
    match schema:
        case dict():
            all_of = schema.get("allOf")
            said = len(all_of) if isinstance(all_of, list) else 0
            said += sum(key in schema for key in ("pattern", "format", "$ref"))
            return max(said - 1, 0) + sum(map(_intersections, schema.values()))
        case list():
            return sum(map(_intersections, schema))
        case _:
            return 0


def told(error: Any) -> str:
    # What comes after that is llguidance's own state.
    said = " ".join(str(error).partition("<state>")[0].split())[:_MAX_TOLD]
    if isinstance(error, RecursionError) or said.startswith("recursion limit exceeded"):
        return _TOO_DEEP
    return "no value fits it" if said == "NoExtensionBias" else said


def refused(message: str, param: str) -> ServeError:
    return ServeError(
        ErrorCode.INVALID_REQUEST, f"the JSON schema cannot be used: {message}", param=param
    )
