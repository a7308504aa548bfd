"""Vectors as they are asked for and answered, as types; for the contract alone.

A request may hold whatever ``read_input`` understands; an answer is joined from bytes that the
worker has rendered.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from mlx_serve_gateway.http.embeddings import EmbeddingRequest, EmbeddingUsage, TeiEmbedRequest


class TextObject(msgspec.Struct):
    text: str


class EmbeddingBody(EmbeddingRequest, kw_only=True):
    """`input`: a text, texts (perhaps as objects), token ids, or lists of them; no mixture."""

    # The handler takes any object and looks into it.
    input: str | list[str | int | list[int] | TextObject] | TextObject  # type: ignore[assignment]


class TeiEmbedBody(TeiEmbedRequest, kw_only=True):
    """`inputs`: a text, texts, token ids, or lists of them; no mixture."""

    inputs: str | list[str | int | list[int] | TextObject]


class Embedding(msgspec.Struct, kw_only=True):
    """With `encoding_format: base64` the vector is little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(msgspec.Struct, kw_only=True):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    truncated_inputs: int | UnsetType = UNSET
