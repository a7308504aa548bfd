"""MPNet encoders (all-mpnet-base-v2, ...): BERT's layers, with a bias for how far tokens are apart.

Invariants: equal to transformers' ``MPNetModel`` without its pooler: the bias is learned once for
all layers, and positions are counted as in RoBERTa with a padding token of id 1.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_worker.models.attention import everywhere
from mlx_serve_worker.models.bert import BertConfig, Layers
from mlx_serve_worker.models.configuration import Rows, head_size, read, unfit
from mlx_serve_worker.models.roberta import counted_places
from mlx_serve_worker.models.token_rows import token_rows

# Fixed in the reference, whatever config.json says.
_PADDING_ID = 1
_BUCKETS = 32


class MPNetConfig(BertConfig, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 30527
    relative_attention_num_buckets: Rows = _BUCKETS


class Embeddings(nn.Module):
    def __init__(self, config: MPNetConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, token_ids: mx.array) -> mx.array:
        places = counted_places(token_ids, _PADDING_ID)
        return self.norm(self.word(token_ids) + self.position(places))


class MPNetEncoder(Layers):
    def __init__(self, config: MPNetConfig) -> None:
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.positions = config.max_position_embeddings - _PADDING_ID - 1
        self.dimensions = config.hidden_size
        self.embeddings = Embeddings(config)
        self.distance_bias = nn.Embedding(
            config.relative_attention_num_buckets, config.num_attention_heads
        )

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        rows = token_rows(mask)
        bias = self._bias(token_ids.shape[1], everywhere(mask))
        return self.through(rows.pack(self.embeddings(token_ids)), bias, rows)

    def _bias(self, length: int, seen: mx.array | None) -> mx.array:
        """What is added to the scores by head, query and key."""
        buckets = mx.array([bucket(distance) for distance in range(1 - length, length)])
        by_distance = self.distance_bias(buckets)
        places = mx.arange(length)
        # Keys after the query have a positive distance; the list begins at 1 - length.
        bias = by_distance[places[None, :] - places[:, None] + (length - 1)].transpose(2, 0, 1)
        return bias if seen is None else mx.where(seen, bias, -mx.inf)


def bucket(distance: int) -> int:
    """Which learned bias is for a key so many places after its query.

    One for each of the nearest, then for ever wider ranges (of a factor of the square root of 2).
    """
    half = _BUCKETS // 2
    exact = half // 2
    far = abs(distance)
    if far >= exact:
        # 2 * log2(far / exact) in whole numbers, so that it is never rounded to the wrong side.
        far = exact + min((far * far // exact**2).bit_length() - 1, exact - 1)
    return half + far if distance > 0 else far


_RENAMED = (
    ("embeddings.word_embeddings.", "embeddings.word."),
    ("embeddings.position_embeddings.", "embeddings.position."),
    ("embeddings.LayerNorm.", "embeddings.norm."),
    ("encoder.relative_attention_bias.", "distance_bias."),
    ("encoder.layer.", "layers."),
    (".attention.attn.q.", ".attention.query."),
    (".attention.attn.k.", ".attention.key."),
    (".attention.attn.v.", ".attention.value."),
    (".attention.attn.o.", ".attention.output."),
    (".attention.LayerNorm.", ".attention_norm."),
    (".intermediate.dense.", ".expand."),
    (".output.dense.", ".contract."),
    (".output.LayerNorm.", ".output_norm."),
)
_UNUSED = ("pooler.", "lm_head.", "classifier.", "qa_outputs.", "embeddings.position_ids")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("mpnet.")
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(config: dict[str, Any]) -> MPNetEncoder:
    """A model with its shapes, but no weights yet."""
    parsed = read(config, MPNetConfig)
    head_size(parsed.hidden_size, parsed.num_attention_heads)
    if parsed.relative_attention_num_buckets < _BUCKETS:
        raise unfit(f"fewer than {_BUCKETS} relative_attention_num_buckets are not supported")
    if parsed.max_position_embeddings < _PADDING_ID + 2:
        raise unfit("max_position_embeddings leaves no positions")
    return MPNetEncoder(parsed)
