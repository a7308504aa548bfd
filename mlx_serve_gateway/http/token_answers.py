"""The shapes in which token ids and texts are answered: ours, vLLM's, llama.cpp's, TEI's."""

from collections.abc import Sequence

import msgspec


class TokenizedInput(msgspec.Struct):
    index: int
    tokens: int
    token_ids: list[int]


class TokenizeAnswer(msgspec.Struct):
    data: list[TokenizedInput]
    model: str


class DetokenizedInput(msgspec.Struct):
    index: int
    text: str


class DetokenizeAnswer(msgspec.Struct):
    data: list[DetokenizedInput]
    model: str


class VllmTokens(msgspec.Struct, kw_only=True):
    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class LlamaCppToken(msgspec.Struct):
    id: int
    piece: str


class LlamaCppTokens(msgspec.Struct):
    tokens: Sequence[int | LlamaCppToken]


class TeiToken(msgspec.Struct, kw_only=True):
    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DetokenizedText(msgspec.Struct):
    """vLLM reads `prompt`, llama.cpp `content`."""

    prompt: str
    content: str
