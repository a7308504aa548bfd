"""An answer as the batch that continues it has it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mlx_serve_worker.chat.penalties import Processor
from mlx_serve_worker.chat.sampling import Sampler


class Member(NamedTuple):
    """What is to be continued, and how."""

    prompt: Sequence[int]
    known: int
    """So many of the prompt's tokens are in ``cache``."""
    cache: list[Any]
    max_tokens: int
    sampler: Sampler
    processors: Sequence[Processor]
