"""NomicBERT encoders (nomic-embed-text-v1, v1.5, ...), by either form of their configuration.

Invariants: equal to transformers' ``NomicBertModel``, and, for the settings that older files spell
out, to the code that those files point to; that code is never read.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.attention import RotaryAttention, everywhere
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

_THETA = 1000.0


class NomicBertConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters; defaults are those of transformers."""

    vocab_size: Rows = 30528
    hidden_size: Size = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Size = 12
    intermediate_size: InnerSize = 3072
    hidden_act: str = "silu"
    max_position_embeddings: Rows = 2048
    type_vocab_size: Size = 2
    layer_norm_eps: Epsilon = 1e-12
    head_dim: Size | None = None
    rope_theta: Theta = _THETA
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    qkv_proj_bias: bool = False
    mlp_fc1_bias: bool = False
    mlp_fc2_bias: bool = False


# Older files, written for the code beside them.
_OLDER_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}
# What those files can switch on and none of the models that are known does; each value here is the
# one that means "as in NomicBertModel".
_OLDER_SWITCHES = {
    "activation_function": ("swiglu",),
    "causal": (False,),
    "num_experts": (None, 0),
    "parallel_block": (False,),
    "prenorm": (False,),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "use_rms_norm": (False, None),
}


class FeedForward(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.expand = nn.Linear(width, inner, bias=config.mlp_fc1_bias)
        self.gate = nn.Linear(width, inner, bias=config.mlp_fc1_bias)
        self.contract = nn.Linear(inner, width, bias=config.mlp_fc2_bias)
        self.activation = activation(config.hidden_act)

    def __call__(self, x: mx.array) -> mx.array:
        return self.contract(self.activation(self.gate(x)) * self.expand(x))


class Layer(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.attention = RotaryAttention(
            config.hidden_size, config.num_attention_heads, bias=config.qkv_proj_bias
        )
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(
        self, x: mx.array, rotation: Rotation, mask: mx.array | None, rows: TokenRows
    ) -> mx.array:
        x = self.attention_norm(self.attention(x, rotation, mask, rows) + x)
        return self.output_norm(self.feed_forward(x) + x)


class NomicBertEncoder(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.dimensions = config.hidden_size
        self.token_types = config.type_vocab_size
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.word_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        rope = {
            "max_position_embeddings": config.max_position_embeddings,
            "rope_parameters": config.rope_parameters,
            "rope_scaling": config.rope_scaling,
        }
        size = head_size(config.hidden_size, config.num_attention_heads)
        self._rotary = Rotary(size, config.rope_theta, rope)
        self.declared_positions = config.max_position_embeddings
        self.positions = longest_input(config.max_position_embeddings, rope)

    def __call__(
        self, token_ids: mx.array, mask: mx.array | None, type_ids: mx.array | None = None
    ) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        types = self.token_type(mx.zeros((1,), mx.int32) if type_ids is None else type_ids)
        rotation = self._rotary(token_ids.shape[1])
        rows, seen = token_rows(mask), everywhere(mask)
        x = rows.pack(self.word_norm(self.word(token_ids) + types))
        for layer in self.layers:
            x = layer(x, rotation, seen, rows)
        return rows.unpack(x)


_RENAMED = (
    ("embeddings.word_embeddings.", "word."),
    ("embeddings.token_type_embeddings.", "token_type."),
    ("emb_ln.", "word_norm."),
    ("encoder.layers.", "layers."),
    (".attn.Wqkv.", ".attention.query_key_value."),
    (".attn.out_proj.", ".attention.output."),
    (".norm1.", ".attention_norm."),
    (".mlp.fc11.", ".feed_forward.expand."),
    (".mlp.fc12.", ".feed_forward.gate."),
    (".mlp.fc2.", ".feed_forward.contract."),
    (".norm2.", ".output_norm."),
)
_UNUSED = ("pooler.", "cls.", "classifier.", "lm_head.")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("bert.").removeprefix("nomic_bert.")
    if name.startswith(_UNUSED) or name.endswith("inv_freq"):
        return None
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(config: dict[str, Any]) -> NomicBertEncoder:
    """A model with its shapes, but no weights yet."""
    for key, accepted in _OLDER_SWITCHES.items():
        if key in config and config[key] not in accepted:
            raise unfit(f"{key} {config[key]!r} is not supported")
    parsed = read(_in_newer_form(config), NomicBertConfig)
    if parsed.head_dim not in (None, head_size(parsed.hidden_size, parsed.num_attention_heads)):
        raise unfit(f"a head_dim of {parsed.head_dim} is not supported")
    return NomicBertEncoder(parsed)


def _in_newer_form(config: dict[str, Any]) -> dict[str, Any]:
    renamed = {new: config[old] for old, new in _OLDER_NAMES.items() if old in config}
    newer = {**renamed, **config}
    if config.get("rotary_scaling_factor") is not None:
        # Beyond what it was trained on, this scaling makes a vector depend on its batch.
        newer["max_position_embeddings"] = config.get("max_trained_positions", 2048)
        newer["rope_scaling"] = {"rope_type": "dynamic", "factor": config["rotary_scaling_factor"]}
    return newer
