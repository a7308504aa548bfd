"""Asking a loaded model as the compute thread does, and getting numbers where clients get JSON.

Invariants: an input that the model cannot take is a ``ServeError``, a row that is not finite None.
"""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Embed, Rerank
from mlx_serve_worker.backend import Backend, Output, Prepared, Score

QUERY = "What does a model count before it reads?"
"""What a reranker scores every text against, unless told otherwise."""

Row = np.ndarray[Any, np.dtype[np.float64]]
"""A vector, or the logit of one document."""


class Probe:
    def __init__(self, backend: Backend, kind: ModelKind) -> None:
        if kind is ModelKind.CHAT:
            raise ServeError(ErrorCode.INVALID_REQUEST, "chat models cannot be verified yet")
        self._backend = backend
        self._kind = kind

    def accepts(self, text: str) -> bool:
        """False where the text gives this model no token to read."""
        (prepared,) = self._backend.prepare(self._part([text], None, QUERY))
        return not (isinstance(prepared, ServeError) and prepared.code is ErrorCode.EMPTY_INPUT)

    def prepare(
        self, texts: Sequence[str], prompt: str | None = None, query: str = QUERY
    ) -> list[Prepared]:
        prepared = self._backend.prepare(self._part(list(texts), prompt, query))
        for item in prepared:
            if isinstance(item, ServeError):
                raise item
        return [item for item in prepared if isinstance(item, Prepared)]

    def rows(self, inputs: Sequence[Prepared]) -> list[Row | None]:
        """What one forward pass over these inputs gives."""
        return [_row(output) for output in self._backend.forward(inputs)]

    def _part(self, texts: list[str], prompt: str | None, query: str) -> Embed | Rerank:
        ids = [*range(len(texts))]
        if self._kind is ModelKind.RERANKER:
            return Rerank(ids, query, texts, None, "right")
        return Embed(ids, texts, "base64", "right", prompt)


def _row(output: Output | None) -> Row | None:
    if output is None:
        return None
    if isinstance(output, Score):
        return np.array([output.raw])
    raw = base64.b64decode(msgspec.json.decode(output, type=str))
    return np.frombuffer(raw, "<f4").astype(np.float64)
