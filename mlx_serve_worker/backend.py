"""What a worker asks of a model, whatever runs it: of one that computes (``Backend``) and of one
that answers in its own words (``Generator``).

Invariants: ``load`` is called first, on the compute thread like all that computes; what is done
with texts alone (``prepare`` and what tokenizes) may be asked by one other thread meanwhile. An
input that cannot be computed is reported in its own place, never by failing its neighbours.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from mlx_serve_common.chat import Delta
from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import (
    Detokenize,
    Embed,
    EmbedTokens,
    Encoding,
    Generate,
    Piece,
    Rerank,
    Tokenize,
    TokenizeConversation,
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


class Vocabulary(Protocol):
    """A model's tokenizer."""

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        """Token ids of each text, uncut."""

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        """The text of each list of ids."""


class LoadedModel(Vocabulary, Protocol):
    @property
    def device(self) -> str:
        """What computes: ``cpu``, ``metal``, ``cuda`` …"""

    @property
    def matmul_gflops(self) -> float | None:
        """How fast it multiplies matrices, measured where that is not beyond question."""

    @property
    def matmul_library(self) -> str | None:
        """What it does that with, where there is a choice."""

    @property
    def computing_workers(self) -> int | None:
        """How many should compute bulk loads at the same time on this device; None for any."""

    def load(self) -> None:
        """Read the weights; raise ``ServeError`` with ``invalid_model`` if the files are unfit."""

    def memory_bytes(self) -> int:
        """What the model occupies now."""

    def give_back_memory(self) -> None:
        """Give the system what is kept for reuse alone."""


class Backend(LoadedModel, Protocol):
    """Computes each input in one go."""

    @property
    def batch_tokens(self) -> int:
        """The tokens of one forward pass that suit this device."""

    @property
    def padding_cost(self) -> float:
        """What a token of padding costs of a real one."""

    @property
    def batch_choices(self) -> Sequence[int]:
        """Those among which the best for the model may be measured; none if it makes no odds."""

    @property
    def device_identity(self) -> str:
        """All of the device, and of the libraries that use it, that a time depends on."""

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        """Tokenize and cut each input of the part, in order."""

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        """One forward pass: an output per input, None where it is not finite."""


class Step(NamedTuple):
    """What one step has brought, by item id."""

    read: list[tuple[int, int, int]]
    """Tokens of its prompt that are read, and how many it has."""
    said: list[tuple[int, Delta]]
    failed: list[tuple[int, ServeError]]


@runtime_checkable
class Generator(LoadedModel, Protocol):
    """Generates answers token by token, many at the same time."""

    @property
    def is_idle(self) -> bool:
        """No answer is running or waiting for its turn."""

    def tokenize_conversation(self, part: TokenizeConversation) -> list[Tokens | ServeError]:
        """Each conversation as the model would read it."""

    def prepare(self, part: Generate) -> Sequence[Any | ServeError]:
        """Read the prompt, and find what is wrong with what is asked: what ``start`` needs of each
        answer."""

    def start(self, id: int, prepared: Any) -> None:
        """Take up an answer; raises ``ServeError`` if it cannot be given."""

    def stop(self, ids: Collection[int]) -> None:
        """Forget these answers, running or waiting; nothing more is said of them."""

    def patience_s(self) -> float:
        """For how long company is worth waiting for, before the first step over what has been
        started."""

    def step(self) -> Step:
        """One token for every running answer, and some of the prompts of new ones.

        An answer is over when its delta has ``finish``, or when it has failed.
        """
