"""What the compute thread asks of a model, whatever runs it.

Invariants: every method is called on the one compute thread, ``load`` first; an input that cannot
be computed is reported in its own place, never by failing its neighbours.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import Encoding, Truncate


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A text ready for the model: its token ids (checked), and whether it was cut to fit."""

    token_ids: Any
    length: int
    truncated: bool


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

    def prepare(self, texts: Sequence[str], truncate: Truncate) -> list[Prepared | ServeError]:
        """Tokenize and cut each text, in order."""

    def embed(
        self, inputs: Sequence[Prepared], encodings: Sequence[Encoding]
    ) -> list[bytes | None]:
        """One forward pass: a rendered JSON value per input, None where it is not finite."""
