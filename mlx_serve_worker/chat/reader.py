"""Prompts read on a CPU before their answers begin: each by itself, several side by side.

A product of few rows costs a core as much as the weights it reads, so prompts gain nothing from
being rows of one pass; what is not a product takes half of the time, and each core does its own.

Invariants: what is read of a prompt is the same whatever is read beside it; prompts are read in the
order in which they came; the last token is left, because the answer's first step reads it.
"""

from collections.abc import Collection, Iterator
from itertools import chain, islice
from time import monotonic
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_worker import lanes
from mlx_serve_worker.chat.member import Member
from mlx_serve_worker.chat.watched_model import WatchedModel

_LEAST_TOKENS = 64
"""Fewer are not read at a time, and tell nothing of how long many take."""

_FIRST_TOKENS = 128
"""Before it is known how long it takes: by a large model on few cores many seconds."""
_MOST_S = 5.0
"""Of reading at a time: others wait for their next word, and who is silent for long looks hung."""

_PATIENCE = 0.05
_MOST_PATIENCE_S = 0.03
"""Others are waited for such a part of the time that reading takes, and so long at most. Who asks
at the same time is heard some milliseconds later: it would wait until the first has been read
alone, and has said its first word."""

_MORE = 4
"""So large a part of what may be read is read besides, where that is the rest of a prompt."""
_LEAST_SHARE = 4
"""Less than this part of what may be read is left for the next time: passes cost by themselves."""


class Progress(NamedTuple):
    key: int
    done: int
    """Tokens of the prompt that are read."""
    total: int


class _Piece(NamedTuple):
    cache: list[Any]
    tokens: list[int]


class Reader:
    def __init__(self, model: WatchedModel) -> None:
        self._model = model
        self._unread: dict[int, Member] = {}
        self._most = _FIRST_TOKENS
        """As many tokens as are read in the longest time that nothing may be heard of us."""

    def __len__(self) -> int:
        return len(self._unread)

    @property
    def patience_s(self) -> float:
        left = sum(map(_left, self._unread.values()))
        return min(_MOST_PATIENCE_S, _PATIENCE * _MOST_S * left / self._most)

    def add(self, key: int, member: Member) -> None:
        self._unread[key] = member

    def remove(self, keys: Collection[int]) -> None:
        for key in keys:
            self._unread.pop(key, None)

    def read(self, budget: int) -> tuple[list[Progress], dict[int, Member]]:
        """About so many tokens; those whose prompt is read as far as it is to be."""
        budget = allowed = min(budget, self._most)
        least = max(_LEAST_TOKENS, budget // _LEAST_SHARE)
        more = budget // _MORE
        began = monotonic()
        done: dict[int, Progress] = {}
        whole: dict[int, Member] = {}
        while self._unread and (budget >= least or not done):
            for key, member in self._pass(budget, more):
                budget -= member.known - self._unread[key].known
                done[key] = Progress(key, member.known, len(member.prompt))
                self._unread[key] = member
                if not _left(member):
                    whole[key] = self._unread.pop(key)
        self._learn(allowed - budget, monotonic() - began)
        return list(done.values()), whole

    def _learn(self, tokens: int, took_s: float) -> None:
        if tokens >= _LEAST_TOKENS and took_s > 0:
            self._most = max(_LEAST_TOKENS, int(_MOST_S * tokens / took_s))

    def _pass(self, budget: int, more: int) -> list[tuple[int, Member]]:
        """The first of all prompts, one for each lane; so much more if it is all of them."""
        chosen = list(islice(self._unread.items(), min(lanes.count(), budget)))
        pieces, read = [], []
        for key, member in chosen:
            until = member.known + _next(_left(member), budget // len(chosen), more // len(chosen))
            pieces.append(_Piece(member.cache, list(member.prompt[member.known : until])))
            read.append((key, member._replace(known=until)))
        self._compute([piece for piece in pieces if piece.tokens])
        return read

    def _compute(self, pieces: list[_Piece]) -> None:
        parts = list(_parted(pieces[0], lanes.count()) if len(pieces) == 1 else pieces)
        for number, part in enumerate(parts):
            with lanes.lane(number):
                self._model(mx.array([part.tokens]), cache=part.cache)
        # Layer by layer, because they are computed in the order in which they are asked for.
        layers = chain.from_iterable(zip(*(piece.cache for piece in pieces), strict=True))
        states = [layer.state for layer in layers]
        if len(parts) > 1:
            lanes.evaluate(states)
        else:
            mx.eval(states)


def _next(left: int, share: int, more: int) -> int:
    """A little more than its share rather than leave a little, which would take another pass."""
    return left if left <= share + more else share


def _left(member: Member) -> int:
    return len(member.prompt) - 1 - member.known


def _parted(piece: _Piece, lane_count: int) -> Iterator[_Piece]:
    """Parts of one prompt that follow each other: each layer of a part waits for the part before it
    in that layer alone, so that they are computed nearly at the same time."""
    tokens = piece.tokens
    parts = max(1, min(lane_count, len(tokens) // lanes.least_tokens()))
    # A lane has one thread: with few of many lanes, most cores would do nothing.
    if 2 * parts <= lane_count and not lanes.leave_cores_idle():
        parts = 1
    size = -(-len(tokens) // parts)
    for start in range(0, len(tokens), size):
        yield _Piece(piece.cache, tokens[start : start + size])
