"""Gemma 3 as an encoder (EmbeddingGemma, ...).

Invariants: equal to transformers' ``Gemma3TextModel``, in both directions or looking back only;
most layers see only what is near, and turn by other angles than those that see everything.
"""

from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.attention import attend, behind, by_head, everywhere, nearby
from mlx_serve_worker.models.configuration import (
    Depth,
    Epsilon,
    InnerSize,
    Rows,
    Size,
    Theta,
    read,
    unfit,
)
from mlx_serve_worker.models.rotary import Rotary, Rotation, longest_input, rotate
from mlx_serve_worker.models.token_rows import TokenRows, token_rows

LayerType = Literal["full_attention", "sliding_attention"]


class Gemma3Config(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 262_208
    hidden_size: Size = 2304
    intermediate_size: InnerSize = 9216
    num_hidden_layers: Depth = 26
    num_attention_heads: Size = 8
    num_key_value_heads: Size = 4
    head_dim: Size = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: Rows = 131_072
    rms_norm_eps: Epsilon = 1e-6
    attention_bias: bool = False
    query_pre_attn_scalar: Size = 256
    sliding_window: Rows = 4096
    sliding_window_pattern: Size = 6
    layer_types: list[LayerType] | None = None
    use_bidirectional_attention: bool | None = False
    attn_logit_softcapping: float | None = None
    rope_theta: Theta = 1_000_000.0
    rope_local_base_freq: Theta = 10_000.0
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None

    @property
    def kinds(self) -> list[LayerType]:
        if self.layer_types is not None:
            return self.layer_types
        return [
            "sliding_attention" if layer % self.sliding_window_pattern else "full_attention"
            for layer in range(1, self.num_hidden_layers + 1)
        ]

    def rope(self, kind: LayerType) -> dict[str, Any]:
        """What this configuration says about the angles of such layers, in the newer form."""
        stated = (self.rope_parameters or {}).get(kind)
        if not isinstance(stated, dict | None):
            raise unfit(f"rope_parameters has no object for {kind}")
        scaling = self.rope_scaling if kind == "full_attention" else None
        return {
            "max_position_embeddings": self.max_position_embeddings,
            "rope_parameters": {**(stated or {}), **(scaling or {})},
        }


class RMSNorm(nn.Module):
    """Its weights are stored as what is added to 1."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = mx.zeros((size,))
        self.epsilon = epsilon

    def __call__(self, x: mx.array) -> mx.array:
        weight = 1 + self.weight.astype(mx.float32)
        return mx.fast.rms_norm(x.astype(mx.float32), weight, self.epsilon).astype(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        width, size, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.scale = config.query_pre_attn_scalar**-0.5
        self.query = nn.Linear(width, self.heads * size, bias=bias)
        self.key = nn.Linear(width, self.groups * size, bias=bias)
        self.value = nn.Linear(width, self.groups * size, bias=bias)
        self.output = nn.Linear(self.heads * size, width, bias=bias)
        self.query_norm = RMSNorm(size, config.rms_norm_eps)
        self.key_norm = RMSNorm(size, config.rms_norm_eps)

    def __call__(
        self, x: mx.array, rotation: Rotation, mask: mx.array | None, rows: TokenRows
    ) -> mx.array:
        queries = self.query_norm(by_head(rows.unpack(self.query(x)), self.heads))
        keys = self.key_norm(by_head(rows.unpack(self.key(x)), self.groups))
        values = by_head(rows.unpack(self.value(x)), self.groups)
        queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        return self.output(rows.pack(attend(queries, keys, values, self.scale, mask)))


class FeedForward(nn.Module):
    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate = nn.Linear(width, inner, bias=False)
        self.expand = nn.Linear(width, inner, bias=False)
        self.contract = nn.Linear(inner, width, bias=False)
        self.activation = activation(config.hidden_activation)

    def __call__(self, x: mx.array) -> mx.array:
        return self.contract(self.activation(self.gate(x)) * self.expand(x))


class Layer(nn.Module):
    """Norms before and after each part."""

    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        width, epsilon = config.hidden_size, config.rms_norm_eps
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.before_attention = RMSNorm(width, epsilon)
        self.after_attention = RMSNorm(width, epsilon)
        self.before_feed_forward = RMSNorm(width, epsilon)
        self.after_feed_forward = RMSNorm(width, epsilon)

    def __call__(
        self, x: mx.array, rotation: Rotation, mask: mx.array | None, rows: TokenRows
    ) -> mx.array:
        attended = self.attention(self.before_attention(x), rotation, mask, rows)
        x = x + self.after_attention(attended)
        return x + self.after_feed_forward(self.feed_forward(self.before_feed_forward(x)))


class Gemma3Encoder(nn.Module):
    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.dimensions = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._bidirectional = bool(config.use_bidirectional_attention)
        self._window = config.sliding_window
        self._kinds = config.kinds
        wide, near = config.rope("full_attention"), config.rope("sliding_attention")
        self._rotary: dict[LayerType, Rotary] = {
            "full_attention": Rotary(config.head_dim, config.rope_theta, wide),
            "sliding_attention": Rotary(config.head_dim, config.rope_local_base_freq, near),
        }
        self.declared_positions = config.max_position_embeddings
        self.positions = longest_input(config.max_position_embeddings, wide, near)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        length = token_ids.shape[1]
        rotations = {kind: rotary(length) for kind, rotary in self._rotary.items()}
        rows, seen = token_rows(mask), self._seen(length, mask)
        x = rows.pack(self.word(token_ids))
        if x.dtype == mx.float16:
            # Gemma's activations leave the range of this type; every product then is a float32.
            x = x.astype(mx.float32)
        x = x * mx.array(self.dimensions**0.5, dtype=x.dtype)
        for layer, kind in zip(self.layers, self._kinds, strict=True):
            x = layer(x, rotations[kind], seen[kind], rows)
        return rows.unpack(self.norm(x))

    def _seen(self, length: int, mask: mx.array | None) -> dict[LayerType, mx.array | None]:
        if self._bidirectional:
            # Half of the window lies on each side.
            near = nearby(length, self._window // 2, mask)
            return {"full_attention": everywhere(mask), "sliding_attention": near}
        return {
            "full_attention": behind(length, None),
            "sliding_attention": behind(length, self._window - 1),
        }


_RENAMED = (
    ("embed_tokens.", "word."),
    (".self_attn.q_proj.", ".attention.query."),
    (".self_attn.k_proj.", ".attention.key."),
    (".self_attn.v_proj.", ".attention.value."),
    (".self_attn.o_proj.", ".attention.output."),
    (".self_attn.q_norm.", ".attention.query_norm."),
    (".self_attn.k_norm.", ".attention.key_norm."),
    (".mlp.gate_proj.", ".feed_forward.gate."),
    (".mlp.up_proj.", ".feed_forward.expand."),
    (".mlp.down_proj.", ".feed_forward.contract."),
    (".input_layernorm.", ".before_attention."),
    (".post_attention_layernorm.", ".after_attention."),
    (".pre_feedforward_layernorm.", ".before_feed_forward."),
    (".post_feedforward_layernorm.", ".after_feed_forward."),
)
_UNUSED = ("lm_head.", "score.")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("model.")
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(config: dict[str, Any]) -> Gemma3Encoder:
    """A model with its shapes, but no weights yet."""
    parsed = read(config, Gemma3Config)
    if len(parsed.kinds) != parsed.num_hidden_layers:
        raise unfit(f"layer_types names {len(parsed.kinds)} of {parsed.num_hidden_layers} layers")
    if parsed.num_attention_heads % parsed.num_key_value_heads:
        heads, groups = parsed.num_attention_heads, parsed.num_key_value_heads
        raise unfit(f"{heads} heads do not divide into {groups} groups of equal size")
    if parsed.attn_logit_softcapping is not None:
        raise unfit("attn_logit_softcapping is not supported")
    return Gemma3Encoder(parsed)
