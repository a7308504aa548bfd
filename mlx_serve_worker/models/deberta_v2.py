"""DeBERTa-v2 and v3 encoders (mxbai-rerank-v1, ...): what a token says and where it is, apart.

Invariants: equal to transformers' ``DebertaV2Model``: the attention between two tokens adds up what
each says to the other, to the other's place, or both; places are told by distance alone, and far
ones share a place. What the reference could do besides (convolution, other widths) is refused.
"""

from typing import Annotated, Any

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.attention import attend, by_head, everywhere
from mlx_serve_worker.models.configuration import (
    Depth,
    Epsilon,
    InnerSize,
    Rows,
    Size,
    head_size,
    read,
    unfit,
)
from mlx_serve_worker.models.deberta_places import Distances, Places
from mlx_serve_worker.models.token_rows import TokenRows, token_rows

_Span = Annotated[int, msgspec.Meta(le=2**16)]
_TO_PLACE, _FROM_PLACE = "c2p", "p2c"


class DebertaConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 128100
    hidden_size: Size = 1536
    num_hidden_layers: Depth = 24
    num_attention_heads: Size = 24
    intermediate_size: InnerSize = 6144
    hidden_act: str = "gelu"
    max_position_embeddings: Rows = 512
    type_vocab_size: Annotated[int, msgspec.Meta(ge=0, le=2**16)] = 0
    layer_norm_eps: Epsilon = 1e-7
    relative_attention: bool = False
    max_relative_positions: _Span = -1
    position_buckets: _Span = -1
    position_biased_input: bool = True
    share_att_key: bool = False
    pos_att_type: str | list[str] | None = None
    norm_rel_ebd: str = "none"
    embedding_size: Size | None = None
    attention_head_size: Size | None = None
    conv_kernel_size: int = 0

    @property
    def reach(self) -> int:
        """The distance from which on all are the same."""
        stated = self.max_relative_positions
        return stated if stated > 0 else self.max_position_embeddings

    @property
    def span(self) -> int:
        """How many places there are on each side."""
        return self.position_buckets if self.position_buckets > 0 else self.reach

    @property
    def ways(self) -> list[str]:
        named = self.pos_att_type or []
        if isinstance(named, str):
            named = [way.strip() for way in named.lower().split("|")]
        return named if self.relative_attention else []

    @property
    def norms_places(self) -> bool:
        return "layer_norm" in [part.strip() for part in self.norm_rel_ebd.lower().split("|")]


class Attention(nn.Module):
    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self._ways = config.ways
        if not config.share_att_key:
            if _TO_PLACE in self._ways:
                self.place_key = nn.Linear(width, width)
            if _FROM_PLACE in self._ways:
                self.place_query = nn.Linear(width, width)
        # Each way of attending has its share of what the scores may vary by.
        self._scale = (width // self.heads * (1 + len(self._ways))) ** -0.5

    def __call__(
        self,
        x: mx.array,
        places: mx.array,
        between: mx.array,
        mask: mx.array | None,
        rows: TokenRows,
    ) -> mx.array:
        queries, keys, values = (
            by_head(rows.unpack(project(x)), self.heads)
            for project in (self.query, self.key, self.value)
        )
        bias = mask
        if self._ways:
            bias = self._by_place(queries, keys, places[None], between) * self._scale
            bias = bias if mask is None else mx.where(mask, bias, -mx.inf)
        return self.output(rows.pack(attend(queries, keys, values, self._scale, bias)))

    def _by_place(
        self, queries: mx.array, keys: mx.array, places: mx.array, between: mx.array
    ) -> mx.array:
        shape = (*queries.shape[:2], *between.shape)
        total = mx.zeros(shape, queries.dtype)
        if _TO_PLACE in self._ways:
            project = self.place_key if "place_key" in self else self.key
            scores = queries @ by_head(project(places), self.heads).swapaxes(-1, -2)
            total = total + mx.take_along_axis(scores, mx.broadcast_to(between, shape), axis=-1)
        if _FROM_PLACE in self._ways:
            project = self.place_query if "place_query" in self else self.query
            scores = keys @ by_head(project(places), self.heads).swapaxes(-1, -2)
            by_key = mx.take_along_axis(scores, mx.broadcast_to(between.T, shape), axis=-1)
            total = total + by_key.swapaxes(-1, -2)
        return total


class Layer(nn.Module):
    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.expand = nn.Linear(width, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, width)
        self.output_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.activation = activation(config.hidden_act)

    def __call__(
        self,
        x: mx.array,
        places: mx.array,
        between: mx.array,
        mask: mx.array | None,
        rows: TokenRows,
    ) -> mx.array:
        x = self.attention_norm(self.attention(x, places, between, mask, rows) + x)
        return self.output_norm(self.contract(self.activation(self.expand(x))) + x)


class Embeddings(nn.Module):
    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, width)
        if config.position_biased_input:
            self.position = nn.Embedding(config.max_position_embeddings, width)
        if config.type_vocab_size:
            self.token_type = nn.Embedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def __call__(self, token_ids: mx.array, type_ids: mx.array | None) -> mx.array:
        x = self.word(token_ids)
        if "position" in self:
            x = x + self.position(mx.arange(token_ids.shape[1]))
        if "token_type" in self:
            x = x + self.token_type(mx.zeros_like(token_ids) if type_ids is None else type_ids)
        return self.norm(x)


class DebertaEncoder(nn.Module):
    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.positions = config.max_position_embeddings
        self.dimensions = config.hidden_size
        self.token_types = config.type_vocab_size
        self.embeddings = Embeddings(config)
        if config.relative_attention:
            self.places = Places(
                config.hidden_size,
                Distances(config.span, config.position_buckets, config.reach),
                config.layer_norm_eps if config.norms_places else None,
            )
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]

    def __call__(
        self, token_ids: mx.array, mask: mx.array | None, type_ids: mx.array | None = None
    ) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        rows, seen = token_rows(mask), everywhere(mask)
        x = rows.pack(self.embeddings(token_ids, type_ids))
        vectors = between = x
        if "places" in self:
            vectors, between = self.places.vectors(), self.places.between(token_ids.shape[1])
        for layer in self.layers:
            x = layer(x, vectors, between, seen, rows)
        return rows.unpack(x)


_RENAMED = (
    ("embeddings.word_embeddings.", "embeddings.word."),
    ("embeddings.position_embeddings.", "embeddings.position."),
    ("embeddings.token_type_embeddings.", "embeddings.token_type."),
    ("embeddings.LayerNorm.", "embeddings.norm."),
    ("encoder.rel_embeddings.", "places.table."),
    ("encoder.LayerNorm.", "places.norm."),
    ("encoder.layer.", "layers."),
    (".attention.self.query_proj.", ".attention.query."),
    (".attention.self.key_proj.", ".attention.key."),
    (".attention.self.value_proj.", ".attention.value."),
    (".attention.self.pos_key_proj.", ".attention.place_key."),
    (".attention.self.pos_query_proj.", ".attention.place_query."),
    (".attention.output.dense.", ".attention.output."),
    (".attention.output.LayerNorm.", ".attention_norm."),
    (".intermediate.dense.", ".expand."),
    (".output.dense.", ".contract."),
    (".output.LayerNorm.", ".output_norm."),
)
_UNUSED = (
    "classifier.", "cls.", "embeddings.position_ids", "lm_predictions.", "mask_predictions.",
    "pooler.",
)  # fmt: skip


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("deberta.")
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(config: dict[str, Any]) -> DebertaEncoder:
    """A model with its shapes, but no weights yet."""
    parsed = read(config, DebertaConfig)
    size = head_size(parsed.hidden_size, parsed.num_attention_heads)
    if parsed.conv_kernel_size > 0:
        raise unfit("DeBERTa with a convolution (conv_kernel_size) is not supported")
    if parsed.embedding_size not in (None, parsed.hidden_size):
        raise unfit("DeBERTa with an embedding_size other than hidden_size is not supported")
    if parsed.attention_head_size not in (None, size):
        raise unfit("DeBERTa with an attention_head_size of its own is not supported")
    if others := {*parsed.ways} - {_TO_PLACE, _FROM_PLACE}:
        raise unfit(f"pos_att_type names {min(others)[:40]!r}, which is not supported")
    if parsed.position_buckets > 0 and not 2 <= parsed.position_buckets // 2 < parsed.reach - 1:
        raise unfit(
            f"{parsed.position_buckets} position_buckets do not fit {parsed.reach} positions"
        )
    return DebertaEncoder(parsed)
