"""Continued texts as a ``text_completion``: whole, or in pieces that have the same name.

Invariants: the pieces make the whole; each choice is finished once; an offset counts characters
from the beginning of its choice's text.
"""

from collections.abc import Sequence
from typing import Any

from mlx_serve_common.chat import Finish, SaidToken
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.generate_call import Said
from mlx_serve_gateway.http.answering import Answer
from mlx_serve_gateway.http.openai_answer import heading, usage
from mlx_serve_gateway.http.server_sent_events import DONE, KEEP_ALIVE, data, failure
from mlx_serve_gateway.http.streaming import SSE


def whole(
    model: InstalledModel, answers: Sequence[Answer], *, choices: int, is_likely: bool
) -> dict[str, Any]:
    """``choices`` of each prompt follow each other."""
    told = [
        {
            "index": index,
            "text": answer.text,
            "logprobs": _likelihoods(answer.tokens, 0) if is_likely else None,
            "finish_reason": answer.ended.reason,
        }
        for index, answer in enumerate(answers)
    ]
    counted = _usage([answer.ended for answer in answers], choices)
    return _heading(model) | {"choices": told, "usage": counted}


class CompletionChunks:
    media_type = SSE

    def __init__(
        self, model: InstalledModel, *, choices: int, is_likely: bool, wants_usage: bool
    ) -> None:
        self._heading = _heading(model)
        self._choices = choices
        self._is_likely = is_likely
        self._wants_usage = wants_usage
        self._offsets: dict[int, int] = {}
        self._finishes: dict[int, Finish] = {}

    def opening(self) -> bytes:
        return b""

    def said(self, said: list[Said]) -> bytes:
        return b"".join(map(self._piece, said))

    def silence(self) -> bytes:
        return KEEP_ALIVE

    def closing(self) -> bytes:
        if not self._wants_usage:
            return DONE
        finishes = [self._finishes[index] for index in sorted(self._finishes)]
        counted = _usage(finishes, self._choices)
        return data(self._heading | {"choices": [], "usage": counted}) + DONE

    def failed(self, error: ServeError) -> bytes:
        return failure(error)

    def _piece(self, said: Said) -> bytes:
        delta = said.delta
        piece = b""
        if delta.text or delta.tokens:
            piece = self._chunk(said.choice, delta.text, delta.tokens, None)
        if delta.finish is not None:
            self._finishes[said.choice] = delta.finish
            piece += self._chunk(said.choice, "", [], delta.finish.reason)
        return piece

    def _chunk(
        self, index: int, text: str, tokens: Sequence[SaidToken], finish_reason: str | None
    ) -> bytes:
        logprobs = None
        if self._is_likely and tokens:
            logprobs = _likelihoods(tokens, self._offsets.get(index, 0))
            self._offsets[index] = logprobs["text_offset"][-1] + len(tokens[-1].token.text)
        choice = {
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return data(self._heading | {"choices": [choice]})


def _heading(model: InstalledModel) -> dict[str, Any]:
    return heading("cmpl-", "text_completion", model)


def _usage(finishes: Sequence[Finish], choices: int) -> dict[str, Any]:
    """Of all prompts."""
    total, *others = (usage(finishes[at : at + choices]) for at in range(0, len(finishes), choices))
    for other in others:
        _add(total, other)
    return total


def _add(total: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, dict):
            _add(total[name], value)
        else:
            total[name] += value


def _likelihoods(tokens: Sequence[SaidToken], offset: int) -> dict[str, Any]:
    offsets = []
    for said in tokens:
        offsets.append(offset)
        offset += len(said.token.text)
    return {
        "tokens": [said.token.text for said in tokens],
        "token_logprobs": [said.token.logprob for said in tokens],
        "top_logprobs": [
            {token.text: token.logprob for token in [*said.top, said.token]} for said in tokens
        ],
        "text_offset": offsets,
    }
