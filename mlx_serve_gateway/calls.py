"""A call is one HTTP request in flight: its items, one future, one slot per answer.

Invariants: ``done`` is resolved exactly once, when the last item is answered or when one failed;
an answer that comes later is dropped. Who makes a call owns it; a batcher gives it its ids.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from mlx_serve_common.chat import Conversation, Delta
from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import (
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    EmbedTokens,
    Encoding,
    Part,
    Piece,
    Progress,
    Rerank,
    Result,
    Scored,
    Tokenize,
    TokenizeConversation,
    Tokenized,
    Truncate,
    Vocabulary,
)
from mlx_serve_gateway.priority import Priority


class Call:
    """What a batcher needs to know of a request; subclasses know the payload."""

    is_repeatable = True
    """Computing it again gives the same answer, and nobody has heard any of it."""
    answered_by: type[Result | Progress]
    """The only message that can hold its answer."""
    priority: Priority | None = None
    """None leaves it to its size, until it queues."""

    def __init__(self, sizes: list[int]) -> None:
        """``sizes`` are the characters of its items."""
        self.sizes = sizes
        self.size = len(sizes)
        self.first_id = 0
        self.sent = 0
        """Items handed out so far; the rest still queues."""
        self.remaining = self.size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline: asyncio.TimerHandle | None = None
        self.asked_at = 0.0
        self.sent_at: float | None = None
        """When the first of it was given to a worker."""
        self.moved_at = 0.0
        """When the worker last told that it gets on with it."""
        self.heard_at: float | None = None
        """When a piece of its answer last came."""

    def fail(self, error: ServeError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def put(self, result: Result, positions: Sequence[int]) -> None:
        """Take the answers for its items from where they stand in a result."""
        self._take(result, positions)
        self.remaining -= len(positions)
        if self.remaining == 0 and not self.done.done():
            self.done.set_result(None)

    def hear(self, id: int, delta: Delta) -> None:
        """Take a piece of an item's answer."""
        raise NotImplementedError

    def part(self, ids: Sequence[int]) -> Part:
        raise NotImplementedError

    def fingerprint(self, index: int) -> bytes:
        """Recognises this item when it comes again."""
        return hashlib.sha256(msgspec.msgpack.encode(self._item(index))).digest()

    def _item(self, index: int) -> object:
        raise NotImplementedError

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        raise NotImplementedError


def by_call(calls: Iterable[Call | None], items: Iterable[int]) -> dict[Call, list[int]]:
    """The items of each, without those that nobody waits for."""
    found: dict[Call, list[int]] = {}
    for call, item in zip(calls, items, strict=True):
        if call is not None:
            found.setdefault(call, []).append(item)
    return found


class EmbedOptions(msgspec.Struct, frozen=True, kw_only=True):
    encoding: Encoding = "float"
    truncate: Truncate = "right"
    prompt: str | None = None
    dimensions: int | None = None
    normalize: bool | None = None


class ComputedCall(Call):
    """One that a model computes in forward passes."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(sizes)
        self.tokens = 0
        self.truncated = 0
        self.compute_s = 0.0

    def _count(self, result: Embedded | Scored, positions: Sequence[int]) -> None:
        self.tokens += sum([result.token_counts[at] for at in positions])
        if result.truncated:
            cut = set(result.truncated)
            self.truncated += sum([result.ids[at] in cut for at in positions])
        self.compute_s = max(self.compute_s, result.compute_s)


class EmbedCall(ComputedCall):
    """Texts or token ids to vectors."""

    answered_by = Embedded

    def __init__(
        self,
        inputs: list[str] | list[list[int]],
        options: EmbedOptions,
        vocabulary: Vocabulary = "model",
    ) -> None:
        super().__init__(list(map(len, inputs)))
        self.inputs = inputs
        self.options = options
        self.vocabulary: Vocabulary = vocabulary
        self.vectors: list[bytes] = [b""] * len(inputs)

    def part(self, ids: Sequence[int]) -> Part:
        inputs = [self.inputs[id - self.first_id] for id in ids]
        options = msgspec.structs.asdict(self.options)
        if isinstance(inputs[0], str):
            return Embed(list(ids), inputs, **options)  # type: ignore[arg-type]
        return EmbedTokens(list(ids), inputs, self.vocabulary, **options)  # type: ignore[arg-type]

    def _item(self, index: int) -> object:
        return self.inputs[index]

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        assert isinstance(result, Embedded)
        for at in positions:
            self.vectors[result.ids[at] - self.first_id] = result.vectors[at]
        self._count(result, positions)


class RerankCall(ComputedCall):
    """Documents scored against one query."""

    answered_by = Scored

    def __init__(
        self, query: str, documents: list[str], instruction: str | None, truncate: Truncate
    ) -> None:
        super().__init__([len(query) + len(document) for document in documents])
        self.query = query
        self.documents = documents
        self.instruction = instruction
        self.truncate: Truncate = truncate
        self.scores = [0.0] * len(documents)
        self.raw_scores = [0.0] * len(documents)

    def part(self, ids: Sequence[int]) -> Part:
        documents = [self.documents[id - self.first_id] for id in ids]
        return Rerank(list(ids), self.query, documents, self.instruction, self.truncate)

    def _item(self, index: int) -> object:
        return [self.query, self.documents[index]]

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        assert isinstance(result, Scored)
        for at in positions:
            index = result.ids[at] - self.first_id
            self.scores[index] = result.scores[at]
            self.raw_scores[index] = result.raw_scores[at]
        self._count(result, positions)


class TokenizeCall(Call):
    answered_by = Tokenized
    priority = Priority.CONVERSION

    def __init__(self, texts: list[str], *, special: bool, pieces: bool = False) -> None:
        super().__init__(list(map(len, texts)))
        self.texts = texts
        self.special = special
        self.wants_pieces = pieces
        self.tokens: list[list[int]] = [[]] * len(texts)
        self.pieces: list[list[Piece]] = [[]] * len(texts)

    def part(self, ids: Sequence[int]) -> Part:
        texts = [self.texts[id - self.first_id] for id in ids]
        return Tokenize(list(ids), texts, self.special, self.wants_pieces)

    def _item(self, index: int) -> object:
        return self.texts[index]

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        assert isinstance(result, Tokenized)
        for at in positions:
            index = result.ids[at] - self.first_id
            self.tokens[index] = result.tokens[at]
            self.pieces[index] = result.pieces[at]


class CountTokensCall(Call):
    """A conversation to the token ids that the model would read."""

    answered_by = Tokenized
    priority = Priority.CONVERSION

    def __init__(self, conversation: Conversation) -> None:
        super().__init__([len(msgspec.msgpack.encode(conversation))])
        self.conversation = conversation
        self.tokens: list[int] = []

    def part(self, ids: Sequence[int]) -> Part:
        return TokenizeConversation(list(ids), [self.conversation])

    def _item(self, index: int) -> object:
        return self.conversation

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        assert isinstance(result, Tokenized)
        (at,) = positions
        self.tokens = result.tokens[at]


class DetokenizeCall(Call):
    answered_by = Detokenized
    priority = Priority.CONVERSION

    def __init__(self, tokens: list[list[int]], *, skip_special: bool = False) -> None:
        super().__init__(list(map(len, tokens)))
        self.tokens = tokens
        self.skip_special = skip_special
        self.texts = [""] * len(tokens)

    def part(self, ids: Sequence[int]) -> Part:
        tokens = [self.tokens[id - self.first_id] for id in ids]
        return Detokenize(list(ids), tokens, self.skip_special)

    def _item(self, index: int) -> object:
        return self.tokens[index]

    def _take(self, result: Result, positions: Sequence[int]) -> None:
        assert isinstance(result, Detokenized)
        for at in positions:
            self.texts[result.ids[at] - self.first_id] = result.texts[at]
