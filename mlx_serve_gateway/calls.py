"""A call is one HTTP request in flight: its items, one future, one slot per answer.

Invariants: ``done`` is resolved exactly once, when the last item is answered or when one failed;
an answer that comes later is dropped. Who makes a call owns it; a batcher gives it its ids.
"""

import asyncio
import hashlib
from collections.abc import Sequence

from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import Embed, Encoding, Part, Truncate


class Call:
    """What a batcher needs to know of a request; subclasses know the payload."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.first_id = 0
        self.sent = 0
        """Items handed out so far; the rest still queues."""
        self.remaining = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline: asyncio.TimerHandle | None = None

    def fail(self, error: ServeError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _answered(self) -> None:
        self.remaining -= 1
        if self.remaining == 0 and not self.done.done():
            self.done.set_result(None)

    def part(self, ids: Sequence[int]) -> Part:
        raise NotImplementedError

    def characters(self, index: int) -> int:
        raise NotImplementedError

    def fingerprint(self, index: int) -> bytes:
        """Recognises this item when it comes again."""
        raise NotImplementedError


class EmbedCall(Call):
    def __init__(self, texts: list[str], encoding: Encoding, truncate: Truncate) -> None:
        super().__init__(len(texts))
        self.texts = texts
        self.encoding: Encoding = encoding
        self.truncate: Truncate = truncate
        self.vectors: list[bytes] = [b""] * len(texts)
        self.tokens = 0
        self.truncated = 0
        self.compute_s = 0.0

    def part(self, ids: Sequence[int]) -> Part:
        texts = [self.texts[id - self.first_id] for id in ids]
        return Embed(list(ids), texts, self.encoding, self.truncate)

    def characters(self, index: int) -> int:
        return len(self.texts[index])

    def fingerprint(self, index: int) -> bytes:
        return hashlib.sha256(self.texts[index].encode("utf-8", "surrogatepass")).digest()

    def put(self, index: int, vector: bytes, tokens: int, truncated: bool) -> None:
        self.vectors[index] = vector
        self.tokens += tokens
        self.truncated += truncated
        self._answered()
