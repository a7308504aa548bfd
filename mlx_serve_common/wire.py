"""The messages between gateway and worker: one closed, typed union in each direction.

Invariants: parallel arrays instead of lists of objects; every item id that is sent in a ``Batch``
comes back exactly once, in a result or in ``Rejected``; a worker answers per micro-batch, so the
ids of one batch may come back in several messages and in any order. There are no acknowledgements.
"""

from collections.abc import Sequence, Sized
from typing import Literal, TypeVar

import msgspec

from mlx_serve_common.errors import ErrorCode

PROTOCOL = 1
TOKEN_BYTES = 16
"""Length of the secret that opens every frame a worker sends."""
MAX_MESSAGE_BYTES = 256 * 1024 * 1024

Encoding = Literal["float", "base64"]
Truncate = Literal["right", "left", "none"]
Vocabulary = Literal["model", "cl100k_base"]


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


# --- to the worker -------------------------------------------------------------------------------


class Embed(_Message, frozen=True, tag="embed"):
    """Texts of one call. The worker renders each vector as the JSON value the client asked for."""

    ids: list[int]
    texts: list[str]
    encoding: Encoding
    truncate: Truncate
    prompt: str | None = None
    """Put before each text; None means the model's default prompt, "" none at all."""
    dimensions: int | None = None
    """Keep this many leading dimensions, scaled to unit length again."""
    normalize: bool | None = None
    """Scale to unit length or not; None does as the model's own pipeline says."""


class EmbedTokens(_Message, frozen=True, tag="embed_tokens"):
    """Like ``Embed``, from token ids: the model's own, special tokens included, or cl100k_base."""

    ids: list[int]
    tokens: list[list[int]]
    vocabulary: Vocabulary
    encoding: Encoding
    truncate: Truncate
    prompt: str | None = None
    dimensions: int | None = None
    normalize: bool | None = None


class Rerank(_Message, frozen=True, tag="rerank"):
    """Documents of one call, each to be scored against the same query."""

    ids: list[int]
    query: str
    documents: list[str]
    instruction: str | None
    truncate: Truncate


class Tokenize(_Message, frozen=True, tag="tokenize"):
    ids: list[int]
    texts: list[str]
    special: bool
    """Add the tokens that the model puts around a text."""
    pieces: bool
    """Tell each token's text and place as well."""


class Detokenize(_Message, frozen=True, tag="detokenize"):
    ids: list[int]
    tokens: list[list[int]]
    skip_special: bool = False
    """Leave out the tokens that stand for themselves."""


Part = Embed | EmbedTokens | Rerank | Tokenize | Detokenize
"""What one call adds to a batch."""


_PAYLOAD: dict[type, str] = {
    Embed: "texts",
    EmbedTokens: "tokens",
    Rerank: "documents",
    Tokenize: "texts",
}

P = TypeVar("P", bound=Part)


def select(part: P, positions: Sequence[int]) -> P:
    """The part with the items at these positions only."""
    payload = _PAYLOAD.get(type(part), "tokens")
    items = getattr(part, payload)
    chosen = {"ids": [part.ids[at] for at in positions], payload: [items[at] for at in positions]}
    return msgspec.structs.replace(part, **chosen)


class Batch(_Message, frozen=True, tag="batch"):
    parts: list[Part]


class Cancel(_Message, frozen=True, tag="cancel"):
    """Drop these items if they are not computed yet; each still comes back, as ``cancelled``."""

    ids: list[int]


class Drain(_Message, frozen=True, tag="drain"):
    """Finish what was sent, then exit with code 0."""


ToWorker = Batch | Cancel | Drain


# --- from the worker -----------------------------------------------------------------------------


def _check_parallel(*columns: Sized) -> None:
    """Also while decoding: an answer that lacks a part would leave its caller waiting."""
    if len({len(column) for column in columns}) > 1:
        raise ValueError("parallel arrays differ in length")


class Piece(_Message, frozen=True):
    """A token's text, its place in the input in characters, and whether it stands for itself."""

    text: str
    start: int
    stop: int
    special: bool
    token: str
    """As the vocabulary spells it, such as ``##ing``."""


class Ready(_Message, frozen=True, tag="ready"):
    """The model is loaded. ``protocol`` differs from ours after a half-finished upgrade."""

    protocol: int
    pid: int
    device: str
    load_s: float
    memory_bytes: int


class Embedded(_Message, frozen=True, tag="embedded"):
    """One micro-batch: ``vectors`` are JSON values, ready to be spliced into the answer."""

    ids: list[int]
    vectors: list[bytes]
    token_counts: list[int]
    truncated: list[int]
    compute_s: float

    def __post_init__(self) -> None:
        _check_parallel(self.ids, self.vectors, self.token_counts)


class Scored(_Message, frozen=True, tag="scored"):
    """One micro-batch of query and document pairs."""

    ids: list[int]
    scores: list[float]
    """Between 0 and 1."""
    raw_scores: list[float]
    """What the model's head gave."""
    token_counts: list[int]
    truncated: list[int]
    compute_s: float

    def __post_init__(self) -> None:
        _check_parallel(self.ids, self.scores, self.raw_scores, self.token_counts)


class Tokenized(_Message, frozen=True, tag="tokenized"):
    ids: list[int]
    tokens: list[list[int]]
    pieces: list[list[Piece]]
    """Empty lists unless asked for."""

    def __post_init__(self) -> None:
        _check_parallel(self.ids, self.tokens, self.pieces)


class Detokenized(_Message, frozen=True, tag="detokenized"):
    ids: list[int]
    texts: list[str]

    def __post_init__(self) -> None:
        _check_parallel(self.ids, self.texts)


class Rejected(_Message, frozen=True, tag="rejected"):
    """These items failed; the worker lives."""

    ids: list[int]
    code: ErrorCode
    message: str


class Fatal(_Message, frozen=True, tag="fatal"):
    """Last words before a non-zero exit."""

    code: ErrorCode
    message: str


Result = Embedded | Scored | Tokenized | Detokenized | Rejected
FromWorker = Ready | Embedded | Scored | Tokenized | Detokenized | Rejected | Fatal


# --- starting a worker ---------------------------------------------------------------------------


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's only argument, as JSON: visible in ``ps``, easy to start by hand, no secret."""

    model_path: str
    socket: str
    max_batch_items: int
    max_batch_tokens: int | None = None
    """Padded tokens of one forward pass; None lets the backend choose for its device."""
    custom_models: str | None = None
    """The folder of the person's own architectures."""


_encoder = msgspec.msgpack.Encoder()
_to_worker: "msgspec.msgpack.Decoder[ToWorker]" = msgspec.msgpack.Decoder(ToWorker)
_from_worker: "msgspec.msgpack.Decoder[FromWorker]" = msgspec.msgpack.Decoder(FromWorker)

encode = _encoder.encode
decode_to_worker = _to_worker.decode
decode_from_worker = _from_worker.decode
