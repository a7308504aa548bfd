"""A backend without a model, which misbehaves on request: for tests of everything around it.

Loaded only under ``MLX_SERVE_TEST_BACKENDS=1``. A vector is a function of its text, so an answer
that belongs to another text is noticed. Launch options (the manifest's ``options``) govern the
start; words inside a text govern its computation.
"""

import base64
import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import (
    Detokenize,
    Embed,
    EmbedTokens,
    Encoding,
    Piece,
    Rerank,
    Tokenize,
    Truncate,
)
from mlx_serve_worker import load_progress
from mlx_serve_worker.backend import Output, Prepared, Score, Tokens, VectorWish


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    load_s: float = 0.0
    never_ready: bool = False
    read: float | None = None
    """So much of its weights is read before it does what else it does while it loads."""
    load_error: str | None = None
    crash_at_load: bool = False
    step_s: float = 0.0
    garbage: bool = False
    """Answer with frames that do not decode."""
    max_tokens: int = 512
    dimensions: int = 8


class FakeBackend:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = msgspec.convert(options, Options)

    device = "fake"
    matmul_gflops = None
    matmul_library = None
    computing_workers = None
    batch_tokens = 4096
    padding_cost = 1.0
    batch_choices = ()
    device_identity = "fake"

    def memory_bytes(self) -> int:
        return 0

    def give_back_memory(self) -> None:
        pass

    def load(self) -> None:
        load_as_told(self._options)

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        if isinstance(part, EmbedTokens):
            texts = [" ".join(map(str, ids)) for ids in part.tokens]
        else:
            texts = part.texts if isinstance(part, Embed) else part.documents
        wish = None if isinstance(part, Rerank) else VectorWish(part.encoding)
        return [self._prepared(text, part.truncate, wish) for text in texts]

    def _prepared(
        self, text: str, truncate: Truncate, wish: VectorWish | None
    ) -> Prepared | ServeError:
        if "__raise_when_read__" in text:
            raise KeyboardInterrupt
        length = len(text.split()) + 2
        if length > self._options.max_tokens and truncate == "none":
            return ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, f"{length} tokens are too many")
        fitting = min(length, self._options.max_tokens)
        return Prepared(text, fitting, fitting < length, wish)

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        time.sleep(self._options.step_s)
        if self._options.garbage:
            return [Score("x", "y") for _ in inputs]  # type: ignore[arg-type]
        return [self._output(prepared) if obey(prepared.token_ids) else None for prepared in inputs]

    def _output(self, prepared: Prepared) -> Output:
        values = vector(prepared.token_ids, self._options.dimensions)
        if prepared.wish is None:
            return Score(values[0], values[1])
        return render(values, prepared.wish.encoding)

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return [spelled(text, part) for text in part.texts]

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return list(map(unspelled, part.tokens))


def spelled(text: str, part: Tokenize) -> Tokens:
    """A token for each byte."""
    ids = list(text.encode())
    pieces = [Piece(chr(id), at, at + 1, False, chr(id)) for at, id in enumerate(ids)]
    return Tokens(ids, pieces if part.pieces else [])


def unspelled(ids: list[int]) -> str | ServeError:
    if any(id > 255 for id in ids):
        return ServeError(ErrorCode.INVALID_REQUEST, "tokens: an id is not in the vocabulary")
    return bytes(ids).decode(errors="replace")


def load_as_told(options: Options) -> None:
    if options.read is not None:
        load_progress.tell("weights", options.read)
    time.sleep(options.load_s)
    if options.crash_at_load:
        os.kill(os.getpid(), signal.SIGSEGV)
    if options.load_error is not None:
        raise ServeError(ErrorCode.INVALID_MODEL, options.load_error)
    while options.never_ready:
        time.sleep(3600)


def vector(text: str, dimensions: int = 8) -> list[float]:
    """Multiples of 1/256: exact in float32, so every way of writing them is equal."""
    return [byte / 256 for byte in hashlib.shake_256(text.encode()).digest(dimensions)]


def render(values: list[float], encoding: Encoding) -> bytes:
    if encoding == "float":
        return msgspec.json.encode(values)
    return msgspec.json.encode(base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode())


def obey(text: str) -> bool:
    """Do what the words in the text say; whether the output is finite."""
    if "__nan__" in text:
        return False
    if "__raise__" in text:
        raise RuntimeError(f"libraries quote what they cannot handle: {text}")
    if "__raise_base__" in text:
        raise KeyboardInterrupt
    if "__crash__" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "__exit0__" in text:
        os._exit(0)
    if "__spin__" in text:
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the GIL inside C
    if "__grandchild__" in text:
        subprocess.Popen(["sleep", "60"])
    if found := re.search(r"__sleep:([\d.]+)__", text):
        time.sleep(float(found[1]))
    if found := re.search(r"__stderr:(\d+)__", text):
        for _ in range(int(found[1])):
            sys.stderr.write("x" * 1023 + "\n")
    return True
