"""The shapes in which clients send what is to be embedded, made one: texts, or lists of token ids.

Token ids are the trap: LangChain sends ids of OpenAI's cl100k_base whatever the model, others mean
the model's own. ``token_input`` in a request, or ``limits.token_input``, says which.
"""

from typing import Any, NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Vocabulary

Given = str | list[Any] | dict[str, Any]

_KINDS = "a string, a list of strings, a list of token ids, or a list of lists of token ids"
# What fits the 32 bits that tokenizers use.
_LARGEST_ID = 2**32 - 1
# Far more than any model reads: what is decoded is up to 128 times as large.
_MOST_IDS = 2**20


class EmbeddingInput(NamedTuple):
    inputs: list[str] | list[list[int]]
    vocabulary: Vocabulary


def read_input(given: Given, vocabulary: Vocabulary, max_inputs: int) -> EmbeddingInput:
    inputs = one_kind(given, "input")
    if not inputs:
        raise ServeError(ErrorCode.EMPTY_INPUT, "input must not be an empty list", param="input")
    check_count(len(inputs), max_inputs, "input")
    return EmbeddingInput(inputs, vocabulary)


def check_count(count: int, most: int, param: str) -> None:
    if count > most:
        message = f"{count} inputs are more than the {most} allowed in one request"
        raise ServeError(ErrorCode.TOO_MANY_INPUTS, message, param=param)


def one_kind(given: Given, param: str) -> list[str] | list[list[int]]:
    if isinstance(given, str):
        return [given]
    entries: list[Any] = [given] if isinstance(given, dict) else given
    if all(isinstance(entry, str) for entry in entries):
        return entries
    if all(isinstance(entry, str | dict) for entry in entries):
        return [_text(entry, param) for entry in entries]
    if all(_is_id(entry) for entry in entries):
        return [_ids(entries, param)]
    if all(isinstance(entry, list) for entry in entries):
        return [_ids(entry, param) for entry in entries]
    raise _invalid(f"is {_KINDS}, not a mixture or anything else", param)


def _text(entry: str | dict[str, Any], param: str) -> str:
    text = entry if isinstance(entry, str) else entry.get("text")
    if not isinstance(text, str):
        raise _invalid('an object needs a "text"; images and audio are not supported', param)
    return text


def _ids(entries: list[Any], param: str) -> list[int]:
    if not entries:
        raise ServeError(ErrorCode.EMPTY_INPUT, "a list of token ids is empty", param=param)
    if len(entries) > _MOST_IDS:
        raise ServeError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"{len(entries)} token ids in one input are more than {_MOST_IDS}; split it",
            param=param,
        )
    if not all(map(_is_id, entries)):
        raise _invalid(f"is {_KINDS}", param)
    check_ids(entries, param)
    return entries


def check_ids(ids: list[int], param: str) -> None:
    """Whether they could be token ids at all; the worker knows its model's vocabulary."""
    for id in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= id <= _LARGEST_ID:
            raise ServeError(
                ErrorCode.INVALID_REQUEST, f"{param}: {id} is no token id", param=param
            )


def _is_id(entry: Any) -> bool:
    return isinstance(entry, int) and not isinstance(entry, bool)


def _invalid(why: str, param: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{param}: {why}", param=param)
