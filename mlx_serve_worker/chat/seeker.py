"""Finds texts in a text that arrives in pieces.

Invariants: what is found does not depend on where the pieces were cut: of several texts the one
that is complete first, and of those the longest; nothing is let go that may still become part of
one.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Found(NamedTuple):
    before: str
    text: str | None
    """None: not yet; then nothing is after."""
    after: str


class Seeker:
    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._firsts = {text[0] for text in self._texts}
        self._longest = max(map(len, self._texts), default=0)
        self._held = ""

    def feed(self, piece: str) -> Found:
        text = self._held + piece
        self._held = ""
        ends = [(at + len(each), at, each) for each in self._texts if (at := text.find(each)) >= 0]
        if ends:
            end, at, each = min(ends)
            return Found(text[:at], each, text[end:])
        safe = self._safe(text)
        self._held = text[safe:]
        return Found(text[:safe], None, "")

    def flush(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    def _safe(self, text: str) -> int:
        """So much of the end of ``text`` is the beginning of none of the texts."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] in self._firsts:
                end = text[at:]
                if any(each.startswith(end) for each in self._texts):
                    return at
        return len(text)
