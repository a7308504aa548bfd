"""The messages between gateway and worker: one closed, typed union in each direction.

Invariants: parallel arrays instead of lists of objects; every item id that is sent in a ``Batch``
comes back exactly once, in a result or in ``Rejected``; a worker answers per micro-batch, so the
ids of one batch may come back in several messages and in any order. There are no acknowledgements.
"""

from typing import Literal

import msgspec

from mlx_serve_common.errors import ErrorCode

PROTOCOL = 1
TOKEN_BYTES = 16
"""Length of the secret that opens every frame a worker sends."""
MAX_MESSAGE_BYTES = 256 * 1024 * 1024

Encoding = Literal["float", "base64"]
Truncate = Literal["right", "left", "none"]


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


# --- to the worker -------------------------------------------------------------------------------


class Embed(_Message, frozen=True, tag="embed"):
    """Texts of one call. The worker renders each vector as the JSON value the client asked for."""

    ids: list[int]
    texts: list[str]
    encoding: Encoding
    truncate: Truncate


Part = Embed
"""What one call adds to a batch; becomes a union as soon as there is a second kind of work."""


class Batch(_Message, frozen=True, tag="batch"):
    parts: list[Part]


class Cancel(_Message, frozen=True, tag="cancel"):
    """Drop these items if they are not computed yet; each still comes back, as ``cancelled``."""

    ids: list[int]


class Drain(_Message, frozen=True, tag="drain"):
    """Finish what was sent, then exit with code 0."""


ToWorker = Batch | Cancel | Drain


# --- from the worker -----------------------------------------------------------------------------


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


class Rejected(_Message, frozen=True, tag="rejected"):
    """These items failed; the worker lives."""

    ids: list[int]
    code: ErrorCode
    message: str


class Fatal(_Message, frozen=True, tag="fatal"):
    """Last words before a non-zero exit."""

    code: ErrorCode
    message: str


Result = Embedded | Rejected
FromWorker = Ready | Embedded | Rejected | Fatal


# --- starting a worker ---------------------------------------------------------------------------


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's only argument, as JSON: visible in ``ps``, easy to start by hand, no secret."""

    model_path: str
    socket: str
    max_batch_items: int
    max_batch_tokens: int | None = None
    """Padded tokens of one forward pass; None lets the backend choose for its device."""


_encoder = msgspec.msgpack.Encoder()
_to_worker: "msgspec.msgpack.Decoder[ToWorker]" = msgspec.msgpack.Decoder(ToWorker)
_from_worker: "msgspec.msgpack.Decoder[FromWorker]" = msgspec.msgpack.Decoder(FromWorker)

encode = _encoder.encode
decode_to_worker = _to_worker.decode
decode_from_worker = _from_worker.decode
