"""What a model says, taken apart: its thoughts, its answer, and the tools that it calls.

Invariants: a text to stop at ends the answer where it begins, wherever tokens or pieces were cut;
nothing that was said is lost: a call that cannot be read is text; blanks around thoughts belong to
neither side.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from mlx_serve_common.chat import ToolCall
from mlx_serve_worker.chat.seeker import Seeker
from mlx_serve_worker.chat.tool_calls import Parse, read_calls

Mode = Literal["text", "reasoning", "call"]


class Thoughts(NamedTuple):
    """What is written before and after them; without ``start`` they do not begin again."""

    start: str
    end: str


class Calls(NamedTuple):
    """How a call is written; without ``start`` all of the answer is one."""

    start: str
    end: str
    parse: Parse
    tools: list[dict[str, Any]]


class Said(NamedTuple):
    text: str = ""
    reasoning: str = ""
    calls: Sequence[ToolCall] = ()
    stop: str | None = None
    """The text to stop at that was found."""


class Speech:
    def __init__(
        self,
        *,
        thoughts: Thoughts | None,
        is_thinking: bool,
        calls: Calls | None,
        stops: Sequence[str],
    ) -> None:
        self._thoughts = thoughts
        self._calls = calls
        self._stops = frozenset(stops)
        self._only_calls = calls is not None and not calls.start
        self._seekers = {mode: Seeker(self._marks(mode)) for mode in ("text", "reasoning", "call")}
        self.mode: Mode = "reasoning" if is_thinking else self._answering
        self._after_break = is_thinking
        self._held_blank = ""
        self._call = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._made: list[ToolCall] = []

    def feed(self, piece: str) -> Said:
        while piece:
            found = self._seekers[self.mode].feed(piece)
            self._add(found.before)
            if found.text in self._stops and self.mode == "text":
                return self._take(found.text)
            if found.text is not None:
                self._pass(found.text)
            piece = found.after
        return self._take(None)

    def finish(self) -> Said:
        """When the model has ended: what was held back."""
        self._add(self._seekers[self.mode].flush())
        if self.mode == "call":
            self._end_call("")
        return self._take(None)

    @property
    def _answering(self) -> Mode:
        return "call" if self._only_calls else "text"

    def _marks(self, mode: str) -> list[str]:
        thoughts, calls = self._thoughts, self._calls
        calling = [calls.start] if calls is not None else []
        match mode:
            case "text":
                return [*self._stops, *([thoughts.start] if thoughts else []), *calling]
            case "reasoning":
                return [*([thoughts.end] if thoughts else []), *calling]
            case _:
                return [calls.end] if calls is not None else []

    def _pass(self, mark: str) -> None:
        """One of the marks between modes was said."""
        if self.mode == "call":
            self._end_call(mark)
            self.mode = "text"
        elif self._calls is not None and mark == self._calls.start:
            self.mode = "call"
        else:
            self.mode = "reasoning" if self.mode == "text" else self._answering
        self._after_break = True
        self._held_blank = ""

    def _add(self, piece: str) -> None:
        if self.mode == "call":
            self._call += piece
            return
        if self._after_break:
            piece = piece.lstrip()
            self._after_break = not piece
        if self.mode == "reasoning":
            piece = self._held_blank + piece
            kept = piece.rstrip()
            self._held_blank = piece[len(kept) :]
            self._reasoning.append(kept)
        else:
            self._text.append(piece)

    def _end_call(self, mark: str) -> None:
        assert self._calls is not None
        written, self._call = self._call, ""
        made = read_calls(written, self._calls.parse, self._calls.tools)
        if made is None:
            self._text.append(f"{self._calls.start}{written}{mark}")
        else:
            self._made += made

    def _take(self, stop: str | None) -> Said:
        said = Said("".join(self._text), "".join(self._reasoning), tuple(self._made), stop)
        self._text, self._reasoning, self._made = [], [], []
        return said
