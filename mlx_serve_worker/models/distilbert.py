"""DistilBERT encoders: BERT's layers, without types of token, under names of their own.

Invariants: equal to transformers' ``DistilBertModel``.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_worker.models.attention import everywhere
from mlx_serve_worker.models.bert import BertConfig, Layers
from mlx_serve_worker.models.configuration import Depth, InnerSize, Rows, Size, head_size, read
from mlx_serve_worker.models.token_rows import token_rows

_EPSILON = 1e-12


class DistilBertConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 30522
    max_position_embeddings: Rows = 512
    n_layers: Depth = 6
    n_heads: Size = 12
    dim: Size = 768
    hidden_dim: InnerSize = 3072
    activation: str = "gelu"


# The reference takes a file's common names for these as well.
_COMMON_NAMES = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
}


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, token_ids: mx.array) -> mx.array:
        places = mx.arange(token_ids.shape[1])
        return self.norm(self.word(token_ids) + self.position(places))


class DistilBertEncoder(Layers):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.positions = config.max_position_embeddings
        self.dimensions = config.hidden_size
        self.embeddings = Embeddings(config)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        rows = token_rows(mask)
        return self.through(rows.pack(self.embeddings(token_ids)), everywhere(mask), rows)


_RENAMED = (
    ("embeddings.word_embeddings.", "embeddings.word."),
    ("embeddings.position_embeddings.", "embeddings.position."),
    ("embeddings.LayerNorm.", "embeddings.norm."),
    ("transformer.layer.", "layers."),
    (".attention.q_lin.", ".attention.query."),
    (".attention.k_lin.", ".attention.key."),
    (".attention.v_lin.", ".attention.value."),
    (".attention.out_lin.", ".attention.output."),
    (".sa_layer_norm.", ".attention_norm."),
    (".ffn.lin1.", ".expand."),
    (".ffn.lin2.", ".contract."),
    (".output_layer_norm.", ".output_norm."),
)
_UNUSED = ("vocab_", "pre_classifier.", "classifier.", "qa_outputs.", "embeddings.position_ids")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("distilbert.")
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(config: dict[str, Any]) -> DistilBertEncoder:
    """A model with its shapes, but no weights yet."""
    own = {ours: config[common] for common, ours in _COMMON_NAMES.items() if common in config}
    parsed = read({**own, **config}, DistilBertConfig)
    head_size(parsed.dim, parsed.n_heads)
    return DistilBertEncoder(
        BertConfig(
            vocab_size=parsed.vocab_size,
            hidden_size=parsed.dim,
            num_hidden_layers=parsed.n_layers,
            num_attention_heads=parsed.n_heads,
            intermediate_size=parsed.hidden_dim,
            hidden_act=parsed.activation,
            max_position_embeddings=parsed.max_position_embeddings,
            layer_norm_eps=_EPSILON,
        )
    )
