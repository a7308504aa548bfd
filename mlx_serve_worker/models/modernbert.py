"""ModernBERT encoders (gte-modernbert, modernbert-embed, ...).

Invariants: equal to transformers' ``ModernBertModel``: most layers see only what is near, and they
turn by other angles than the layers that see everything; the first layer has no norm before it.
"""

from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.attention import RotaryAttention, everywhere, nearby
from mlx_serve_worker.models.configuration import (
    Depth,
    Epsilon,
    InnerSize,
    Rows,
    Size,
    Theta,
    head_size,
    read,
    unfit,
)
from mlx_serve_worker.models.rotary import Rotary, Rotation, longest_input
from mlx_serve_worker.models.token_rows import TokenRows, token_rows

LayerType = Literal["full_attention", "sliding_attention"]


class ModernBertConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 50368
    hidden_size: Size = 768
    intermediate_size: InnerSize = 1152
    num_hidden_layers: Depth = 22
    num_attention_heads: Size = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: Rows = 8192
    norm_eps: Epsilon = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    local_attention: Rows = 128
    layer_types: list[LayerType] | None = None
    global_attn_every_n_layers: Size = 3
    global_rope_theta: Theta = 160_000.0
    local_rope_theta: Theta = 10_000.0
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None

    @property
    def kinds(self) -> list[LayerType]:
        if self.layer_types is not None:
            return self.layer_types
        return [
            "sliding_attention" if layer % self.global_attn_every_n_layers else "full_attention"
            for layer in range(self.num_hidden_layers)
        ]

    def rope(self, kind: LayerType) -> dict[str, Any]:
        """What this configuration says about the angles of such layers, in the newer form."""
        stated = (self.rope_parameters or {}).get(kind)
        if not isinstance(stated, dict | None):
            raise unfit(f"rope_parameters has no object for {kind}")
        return {
            "max_position_embeddings": self.max_position_embeddings,
            "rope_parameters": {**(stated or {}), **(self.rope_scaling or {})},
        }


class FeedForward(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        inner = config.intermediate_size
        self.expand = nn.Linear(config.hidden_size, 2 * inner, bias=config.mlp_bias)
        self.contract = nn.Linear(inner, config.hidden_size, bias=config.mlp_bias)
        self.activation = activation(config.hidden_activation)

    def __call__(self, x: mx.array) -> mx.array:
        x, gate = mx.split(self.expand(x), 2, axis=-1)
        return self.contract(self.activation(x) * gate)


class Layer(nn.Module):
    def __init__(self, config: ModernBertConfig, *, first: bool) -> None:
        super().__init__()
        self.attention_norm = nn.Identity() if first else _norm(config)
        self.attention = RotaryAttention(
            config.hidden_size, config.num_attention_heads, bias=config.attention_bias
        )
        self.feed_forward_norm = _norm(config)
        self.feed_forward = FeedForward(config)

    def __call__(
        self, x: mx.array, rotation: Rotation, mask: mx.array | None, rows: TokenRows
    ) -> mx.array:
        x = x + self.attention(self.attention_norm(x), rotation, mask, rows)
        return x + self.feed_forward(self.feed_forward_norm(x))


class ModernBertEncoder(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.dimensions = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.word_norm = _norm(config)
        self.layers = [Layer(config, first=index == 0) for index in range(config.num_hidden_layers)]
        self.norm = _norm(config)
        # Half of the window lies on each side.
        self._reach = config.local_attention // 2
        self._kinds = config.kinds
        size = head_size(config.hidden_size, config.num_attention_heads)
        wide, near = config.rope("full_attention"), config.rope("sliding_attention")
        self._rotary: dict[LayerType, Rotary] = {
            "full_attention": Rotary(size, config.global_rope_theta, wide),
            "sliding_attention": Rotary(size, config.local_rope_theta, near),
        }
        self.declared_positions = config.max_position_embeddings
        self.positions = longest_input(config.max_position_embeddings, wide, near)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        length = token_ids.shape[1]
        rotations = {kind: rotary(length) for kind, rotary in self._rotary.items()}
        seen: dict[LayerType, mx.array | None] = {
            "full_attention": everywhere(mask),
            "sliding_attention": nearby(length, self._reach, mask),
        }
        rows = token_rows(mask)
        x = rows.pack(self.word_norm(self.word(token_ids)))
        for layer, kind in zip(self.layers, self._kinds, strict=True):
            x = layer(x, rotations[kind], seen[kind], rows)
        return rows.unpack(self.norm(x))


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


_RENAMED = (
    ("embeddings.tok_embeddings.", "word."),
    ("embeddings.norm.", "word_norm."),
    (".attn.Wqkv.", ".attention.query_key_value."),
    (".attn.Wo.", ".attention.output."),
    (".attn_norm.", ".attention_norm."),
    (".mlp.Wi.", ".feed_forward.expand."),
    (".mlp.Wo.", ".feed_forward.contract."),
    (".mlp_norm.", ".feed_forward_norm."),
    ("final_norm.", "norm."),
)
_UNUSED = ("head.", "decoder.", "classifier.")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("model.")
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(config: dict[str, Any]) -> ModernBertEncoder:
    """A model with its shapes, but no weights yet."""
    parsed = read(config, ModernBertConfig)
    if len(parsed.kinds) != parsed.num_hidden_layers:
        raise unfit(f"layer_types names {len(parsed.kinds)} of {parsed.num_hidden_layers} layers")
    return ModernBertEncoder(parsed)
