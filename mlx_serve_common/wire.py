"""The messages between gateway and worker: one closed, typed union in each direction.

Invariants: parallel arrays instead of lists of objects; every item id that is sent in a ``Batch``
is settled exactly once, by a result or by ``Rejected``; a worker answers per micro-batch, so the
ids of one batch may come back in several messages and in any order. An answer that is generated
comes in several ``Generated``, and its last delta, with ``finish``, settles it. There are no
acknowledgements.
"""

from collections.abc import Sequence, Sized
from typing import Literal, TypeVar

import msgspec

from mlx_serve_common.chat import Conversation, Delta, Prompt, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError

PROTOCOL = 1
TOKEN_BYTES = 16
"""Length of the secret that opens every frame a worker sends."""
MAX_MESSAGE_BYTES = 256 * 1024 * 1024

Encoding = Literal["float", "base64"]
Truncate = Literal["right", "left", "none"]
Vocabulary = Literal["model", "cl100k_base"]
LoadStage = Literal["process", "libraries", "files", "weights"]
BudgetSource = Literal["configured", "measured", "default"]


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


class TokenizeConversation(_Message, frozen=True, tag="tokenize_conversation"):
    """One conversation, as the model would read it."""

    ids: list[int]
    conversations: list[Conversation]


class Generate(_Message, frozen=True, tag="generate"):
    """Answers to one prompt, each on its own."""

    ids: list[int]
    choices: list[int]
    """Which of the request's answers each is."""
    prompt: Prompt
    sampling: Sampling


Part = Embed | EmbedTokens | Rerank | Tokenize | Detokenize | TokenizeConversation | Generate
"""What one call adds to a batch."""


_PAYLOAD: dict[type, str] = {
    Embed: "texts",
    EmbedTokens: "tokens",
    Rerank: "documents",
    Tokenize: "texts",
    TokenizeConversation: "conversations",
    Generate: "choices",
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
    urgent: bool = False
    """Somebody waits for it: computed before what is not, and between two micro-batches of it."""


class Cancel(_Message, frozen=True, tag="cancel"):
    """Drop these items if they are not computed yet, and end those that are being generated.

    Each still comes back, as ``cancelled`` if not otherwise.
    """

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
    matmul_gflops: float | None = None
    """How fast the worker multiplies matrices, where it computes on a CPU."""
    matmul_library: str | None = None
    """With which library."""


class Loading(_Message, frozen=True, tag="loading"):
    """How far it is until ``Ready``."""

    stage: LoadStage
    done: float | None
    """Share of the weights that are read."""


class BatchBudget(_Message, frozen=True, tag="batch_budget"):
    """So many tokens are computed in one forward pass from now on, padding by what it costs."""

    tokens: int
    source: BudgetSource


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


class Prefilled(_Message, frozen=True, tag="prefilled"):
    """How much of their prompts has been read: settles nothing, but shows that work goes on."""

    ids: list[int]
    done: list[int]
    total: list[int]

    def __post_init__(self) -> None:
        _check_parallel(self.ids, self.done, self.total)


class Generated(_Message, frozen=True, tag="generated"):
    """What the running answers have said since the last time."""

    ids: list[int]
    deltas: list[Delta]

    def __post_init__(self) -> None:
        _check_parallel(self.ids, self.deltas)


class Rejected(_Message, frozen=True, tag="rejected"):
    """These items failed; the worker lives."""

    ids: list[int]
    code: ErrorCode
    message: str
    param: str | None = None
    """Which of the request's fields is to blame."""

    @classmethod
    def because(cls, ids: list[int], error: ServeError) -> "Rejected":
        return cls(ids, error.code, error.message, error.param)


class Fatal(_Message, frozen=True, tag="fatal"):
    """Last words before a non-zero exit."""

    code: ErrorCode
    message: str


Result = Embedded | Scored | Tokenized | Detokenized | Rejected
"""Settles all of its ids."""
Progress = Prefilled | Generated
Note = Loading | BatchBudget
"""What a worker says of itself: it answers nobody."""
FromWorker = Ready | Note | Result | Progress | Fatal


def settled(message: Result | Progress) -> list[int]:
    """The ids that need no further answer."""
    match message:
        case Prefilled():
            return []
        case Generated(ids, deltas):
            pairs = zip(ids, deltas, strict=True)
            return [id for id, delta in pairs if delta.finish is not None]
        case _:
            return message.ids


_encoder = msgspec.msgpack.Encoder()
_to_worker: "msgspec.msgpack.Decoder[ToWorker]" = msgspec.msgpack.Decoder(ToWorker)
_from_worker: "msgspec.msgpack.Decoder[FromWorker]" = msgspec.msgpack.Decoder(FromWorker)

encode = _encoder.encode
decode_to_worker = _to_worker.decode
decode_from_worker = _from_worker.decode
