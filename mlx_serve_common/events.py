"""The one event stream of every job: a JSON object per line, drawn by the CLI, relayed by the API.

Invariants: the last line is either ``status: "success"`` or carries ``error``; no normal line has
an ``error`` key, not even null (Ollama's clients test for the key).
"""

from typing import Literal

import msgspec

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.models import Quality

JobStatus = Literal[
    "resolving", "downloading", "copying", "verifying", "converting", "quantizing", "success"
]


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: JobStatus | None = None
    detail: str | None = None
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    rate: int | None = None
    """Bytes per second, of late."""
    model: str | None = None
    original_size: int | None = None
    quantized_size: int | None = None
    quality: Quality | None = None
    error: str | None = None
    code: ErrorCode | None = None


encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(JobEvent).decode
