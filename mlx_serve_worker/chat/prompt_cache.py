"""What was read and said before, so that a conversation that goes on is not read again.

Invariants: never more bytes than allowed; the longest common beginning is found, however the rest
differs; what is kept is never changed by those who use it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlx_serve_worker.chat.kept import Apart, Kept
from mlx_serve_worker.mlx_lm_runtime import can_trim_prompt_cache, trim_prompt_cache

_MAX_ENTRIES = 128
# Fewer are read as soon as they are found.
_FEWEST_TOKENS = 8

Ids = np.ndarray[Any, np.dtype[np.uint32]]


class _Entry(NamedTuple):
    ids: Ids
    kept: Kept
    bytes: int
    can_be_cut: bool


class Known(NamedTuple):
    cache: list[Any]
    """Of the first tokens, for whoever asked to change."""
    tokens: int


class PromptCache:
    """mlx-lm has one that searches tokens in nested dicts: with long prompts, for a second."""

    def __init__(self, max_bytes: int, keep: Callable[[list[Any]], Kept]) -> None:
        self._max_bytes = max_bytes
        self._keep = keep
        self._entries: list[_Entry] = []
        """The one used last is last."""

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self._entries)

    @property
    def bytes_apart(self) -> int:
        """Those of which MLX does not know."""
        return sum(entry.kept.bytes for entry in self._entries if isinstance(entry.kept, Apart))

    def find(self, prompt: Sequence[int]) -> Known | None:
        """The longest beginning of ``prompt`` that is known, short of the last token."""
        ids = _array(prompt)
        most, best = _FEWEST_TOKENS - 1, None
        for entry in self._entries:
            usable = _usable(entry, ids)
            if usable > most:
                most, best = usable, entry
        if best is None:
            return None
        self._touch(best)
        cache = best.kept.again()
        if most < len(best.ids):
            trim_prompt_cache(cache, len(best.ids) - most)
        return Known(cache, most)

    def keep(self, tokens: Sequence[int], cache: list[Any]) -> None:
        size = sum(layer.nbytes for layer in cache)
        if size > self._max_bytes:
            return
        ids, can_be_cut = _array(tokens), bool(can_trim_prompt_cache(cache))
        if can_be_cut:
            for other in self._entries:
                if other.can_be_cut and _common(other.ids, ids) == len(ids):
                    self._touch(other)
                    return
            self._entries = [
                other for other in self._entries if _common(other.ids, ids) < len(other.ids)
            ]
        # First, so that the memory is there.
        self.shrink(self._max_bytes - size, _MAX_ENTRIES - 1)
        self._entries.append(_Entry(ids, self._keep(cache), size, can_be_cut))

    def shrink(self, max_bytes: int, max_entries: int = _MAX_ENTRIES) -> None:
        """Give up what was used longest ago, until no more is left."""
        while self._entries and (self.bytes > max_bytes or len(self._entries) > max_entries):
            del self._entries[0]

    def _touch(self, entry: _Entry) -> None:
        self._entries = [each for each in self._entries if each is not entry] + [entry]


def _usable(entry: _Entry, prompt: Ids) -> int:
    common = min(_common(entry.ids, prompt), len(prompt) - 1)
    return common if entry.can_be_cut or common == len(entry.ids) else 0


def _common(one: Ids, other: Ids) -> int:
    length = min(len(one), len(other))
    differing = np.flatnonzero(one[:length] != other[:length])
    return int(differing[0]) if len(differing) else length


def _array(tokens: Sequence[int]) -> Ids:
    return np.asarray(tokens, dtype=np.uint32)
