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
    # There may be millions: what looks at each of them is not written in Python.
    kinds = set(map(type, entries))
    if kinds <= {str}:
        return entries
    if kinds <= {str, dict}:
        return [_text(entry, param) for entry in entries]
    if kinds == {int}:
        return _id_lists([entries], param)
    if kinds == {list}:
        return _id_lists(entries, param)
    raise _invalid(f"is {_KINDS}, not a mixture or anything else", param)


def _text(entry: str | dict[str, Any], param: str) -> str:
    text = entry if isinstance(entry, str) else entry.get("text")
    if not isinstance(text, str):
        raise _invalid('an object needs a "text"; images and audio are not supported', param)
    return text


def _id_lists(lists: list[list[Any]], param: str) -> list[list[int]]:
    if not all(lists):
        raise ServeError(ErrorCode.EMPTY_INPUT, "a list of token ids is empty", param=param)
    check_ids(lists, param)
    return lists


def check_ids(lists: list[list[Any]], param: str) -> None:
    """Whether they could be token ids at all; the worker knows its model's vocabulary."""
    count = sum(map(len, lists))
    if count > _MOST_IDS:
        raise ServeError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"{count} token ids are more than the {_MOST_IDS} allowed in one request; split it",
            param=param,
        )
    for ids in lists:
        if set(map(type, ids)) - {int}:  # true is an int as well
            raise _invalid(f"is {_KINDS}", param)
        for id in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= id <= _LARGEST_ID:
                raise _invalid(f"{id} is no token id", param)


def _invalid(why: str, param: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{param}: {why}", param=param)
