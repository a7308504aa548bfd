"""What the compute thread asks of a model, whatever runs it.

Invariants: every method is called on the one compute thread, ``load`` first; an input that cannot
be computed is reported in its own place, never by failing its neighbours.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import (
    Detokenize,
    Embed,
    EmbedTokens,
    Encoding,
    Piece,
    Rerank,
    Tokenize,
)


class VectorWish(msgspec.Struct, frozen=True, gc=False):
    """How the caller wants a vector: None leaves it to the model."""

    encoding: Encoding
    dimensions: int | None = None
    normalize: bool | None = None


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """An input ready for the model: its token ids (checked), and whether it was cut to fit."""

    token_ids: Any
    length: int
    truncated: bool
    wish: VectorWish | None = None
    prompt_tokens: int = 0
    """How many of the leading tokens are not the input's own."""
    context: Any = None
    """What else the backend needs to compute this input."""


class Score(NamedTuple):
    score: float
    """Between 0 and 1."""
    raw: float


class Tokens(NamedTuple):
    ids: list[int]
    pieces: list[Piece]


Output = bytes | Score
"""A vector, rendered as a JSON value, or how well a document fits a query."""


class Backend(Protocol):
    """A loaded model."""

    @property
    def device(self) -> str:
        """What computes: ``cpu``, ``metal``, ``cuda`` …"""

    @property
    def batch_tokens(self) -> int:
        """The padded tokens of one forward pass that suit this device."""

    def load(self) -> None:
        """Read the weights; raise ``ServeError`` with ``invalid_model`` if the files are unfit."""

    def memory_bytes(self) -> int:
        """What the model occupies now."""

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        """Tokenize and cut each input of the part, in order."""

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        """One forward pass: an output per input, None where it is not finite."""

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        """Token ids of each text, uncut."""

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        """The text of each list of ids."""
