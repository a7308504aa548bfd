"""BERT encoders (MiniLM, bge, e5, gte, ...): token ids to one vector per token.

Invariants: equal to transformers' ``BertModel`` without its pooler; inputs are padded on the right
and a mask tells which tokens are real; ids and lengths were checked before they come here.
"""

from typing import Annotated, Any, cast

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.attention import attend, by_head, everywhere
from mlx_serve_worker.models.token_rows import TokenRows, token_rows

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Rows = Annotated[int, msgspec.Meta(ge=1, le=2**24)]


class BertConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: _Rows = 30522
    hidden_size: _Size = 768
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 12
    num_attention_heads: _Size = 12
    intermediate_size: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 3072
    hidden_act: str = "gelu"
    max_position_embeddings: _Rows = 512
    type_vocab_size: _Size = 2
    layer_norm_eps: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-12
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, token_ids: mx.array, type_ids: mx.array | None) -> mx.array:
        # Looked up rather than taken from the weights, which may be quantized.
        types = self.token_type(mx.zeros((1,), mx.int32) if type_ids is None else type_ids)
        positions = self.position(mx.arange(token_ids.shape[1]))
        return cast(mx.array, self.norm(self.word(token_ids) + types + positions))


class Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = (size // self.heads) ** -0.5
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)

    def __call__(self, x: mx.array, mask: mx.array | None, rows: TokenRows) -> mx.array:
        return self.output(rows.pack(self._see(rows.unpack(self.query(x)), x, mask, rows)))

    def first(self, x: mx.array, mask: mx.array | None, rows: TokenRows) -> mx.array:
        """What the first token of each text sees."""
        mask = None if mask is None else mask[..., :1, :]
        return self.output(self._see(self.query(rows.first(x)), x, mask, rows))

    def _see(
        self, queries: mx.array, x: mx.array, mask: mx.array | None, rows: TokenRows
    ) -> mx.array:
        queries, keys, values = (
            by_head(each, self.heads)
            for each in (queries, rows.unpack(self.key(x)), rows.unpack(self.value(x)))
        )
        return attend(queries, keys, values, self.scale, mask)


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = activation(config.hidden_act)

    def __call__(self, x: mx.array, mask: mx.array | None, rows: TokenRows) -> mx.array:
        return self._feed_forward(self.attention(x, mask, rows) + x)

    def first(self, x: mx.array, mask: mx.array | None, rows: TokenRows) -> mx.array:
        """What it makes of the first token of each text, and of no other."""
        return self._feed_forward(self.attention.first(x, mask, rows) + rows.first(x))

    def _feed_forward(self, x: mx.array) -> mx.array:
        x = self.attention_norm(x)
        return cast(mx.array, self.output_norm(self.contract(self.activation(self.expand(x))) + x))


class Layers(nn.Module):
    """The encoders that are made of such layers."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        self.first_only = False
        """Of each text only the first token is wanted: the last layer computes no other."""

    def through(self, x: mx.array, mask: mx.array | None, rows: TokenRows) -> mx.array:
        """From what ``rows`` has packed to a vector for each token, or for the first one."""
        *others, last = self.layers
        for layer in others:
            x = layer(x, mask, rows)
        return last.first(x, mask, rows) if self.first_only else rows.unpack(last(x, mask, rows))


class BertEncoder(Layers):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.positions = config.max_position_embeddings
        self.dimensions = config.hidden_size
        self.token_types = config.type_vocab_size
        self.embeddings = Embeddings(config)

    def __call__(
        self, token_ids: mx.array, mask: mx.array | None, type_ids: mx.array | None = None
    ) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        rows = token_rows(mask)
        x = rows.pack(self.embeddings(token_ids, type_ids))
        return self.through(x, everywhere(mask), rows)


# In this order: a later pattern relies on what an earlier one has left.
_RENAMED = (
    ("embeddings.word_embeddings.", "embeddings.word."),
    ("embeddings.position_embeddings.", "embeddings.position."),
    ("embeddings.token_type_embeddings.", "embeddings.token_type."),
    ("embeddings.LayerNorm.", "embeddings.norm."),
    ("encoder.layer.", "layers."),
    (".attention.self.", ".attention."),
    (".attention.output.dense.", ".attention.output."),
    (".attention.output.LayerNorm.", ".attention_norm."),
    (".intermediate.dense.", ".expand."),
    (".output.dense.", ".contract."),
    (".output.LayerNorm.", ".output_norm."),
)
_UNUSED = ("pooler.", "cls.", "classifier.", "embeddings.position_ids", "embeddings.token_type_ids")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("bert.")
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    # Files converted from TensorFlow.
    if name.endswith("norm.gamma"):
        return name.removesuffix("gamma") + "weight"
    return name.removesuffix("beta") + "bias" if name.endswith("norm.beta") else name


def build(config: dict[str, Any]) -> BertEncoder:
    """A model with its shapes, but no weights yet."""
    try:
        parsed = msgspec.convert(config, BertConfig)
    except msgspec.ValidationError as error:
        raise ServeError(ErrorCode.INVALID_MODEL, f"config.json: {error}") from None
    if parsed.hidden_size % parsed.num_attention_heads:
        raise ServeError(
            ErrorCode.INVALID_MODEL,
            f"config.json: hidden_size {parsed.hidden_size} does not divide into"
            f" {parsed.num_attention_heads} heads",
        )
    if parsed.position_embedding_type != "absolute":
        raise ServeError(
            ErrorCode.INVALID_MODEL,
            f"{parsed.position_embedding_type!r} position embeddings are not supported",
        )
    if parsed.is_decoder or parsed.add_cross_attention:
        raise ServeError(ErrorCode.INVALID_MODEL, "BERT as a decoder is not supported")
    return BertEncoder(parsed)
