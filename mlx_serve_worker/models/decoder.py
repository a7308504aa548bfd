"""Decoders as encoders (Qwen3-Embedding, e5-mistral, ...): mlx-lm's layers up to the last norm.

Invariants: equal to transformers' ``Qwen2Model``, ``Qwen3Model``, ``LlamaModel`` and
``MistralModel``; inputs are padded on the right, because mlx-lm's layers know nothing of padding
and a causal layer never looks there; what mlx-lm reads otherwise than transformers (positions,
windows, direction) is decided here.
"""

from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.mlx_lm_models import mlx_lm_model
from mlx_serve_worker.models.attention import behind, everywhere, nearby
from mlx_serve_worker.models.rope import read_rope
from mlx_serve_worker.models.rotary import longest_input

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
_Rows = Annotated[int, msgspec.Meta(ge=1, le=2**24)]

_MLX_LM_NAMES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
# Mistral's window is there unless config.json says null; that of Qwen has to be switched on.
_DEFAULT_WINDOW = 4096
_DEFAULT_QWEN3_HEAD = 128


class DecoderConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that matters, besides rope, with the reference's defaults."""

    model_type: Literal["llama", "mistral", "qwen2", "qwen3"]
    vocab_size: _Rows
    hidden_size: _Size
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    num_attention_heads: _Size
    intermediate_size: _Size
    max_position_embeddings: _Rows
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    hidden_act: str = "silu"
    rms_norm_eps: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-6
    attention_bias: bool = False
    mlp_bias: bool = False
    use_sliding_window: bool = False
    sliding_window: _Rows | None = _DEFAULT_WINDOW
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    is_causal: bool | None = None
    use_bidirectional_attention: bool | None = None

    @property
    def bidirectional(self) -> bool:
        return self.is_causal is False or self.use_bidirectional_attention is True

    @property
    def head_size(self) -> int:
        default = self.hidden_size // self.num_attention_heads
        return self.head_dim or (_DEFAULT_QWEN3_HEAD if self.model_type == "qwen3" else default)

    @property
    def windows(self) -> list[int | None]:
        """How far each layer looks; None is everywhere."""
        if self.model_type == "mistral":
            return [self.sliding_window] * self.num_hidden_layers
        if self.model_type == "llama" or not self.use_sliding_window:
            return [None] * self.num_hidden_layers
        return [
            self.sliding_window if kind == "sliding_attention" else None
            for kind in self.layer_types or self._usual_layer_types()
        ]

    def _usual_layer_types(self) -> list[str]:
        return [
            "full_attention" if layer < self.max_window_layers else "sliding_attention"
            for layer in range(self.num_hidden_layers)
        ]


class Decoder(nn.Module):
    """Owns the layers of an mlx-lm model, without its head."""

    def __init__(self, inner: Any, config: DecoderConfig, positions: int) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.declared_positions = config.max_position_embeddings
        self.positions = positions
        self.dimensions = config.hidden_size
        self.embed_tokens = inner.embed_tokens
        self.layers = inner.layers
        self.norm = inner.norm
        self._windows = config.windows
        self._bidirectional = config.bidirectional

    @property
    def is_plainly_causal(self) -> bool:
        return not self._bidirectional and not any(self._windows)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """``mask`` is true for real tokens, in the shape of ``token_ids``; None means all."""
        length = token_ids.shape[1]
        masks = {window: self._mask(length, window, mask) for window in {*self._windows}}
        x = self.embed_tokens(token_ids)
        for layer, window in zip(self.layers, self._windows, strict=True):
            x = layer(x, masks[window], None)
        return self.norm(x)

    def _mask(
        self, length: int, window: int | None, real: mx.array | None
    ) -> mx.array | str | None:
        if self._bidirectional:
            return everywhere(real) if window is None else nearby(length, window, real)
        if window is None or length <= window:
            return "causal"
        return behind(length, window - 1)


_UNUSED = ("lm_head.", "score.")


def parameter_name(name: str) -> str | None:
    """Our name of a stored tensor; None for the parts that an encoder does not use."""
    name = name.removeprefix("model.")
    # Old files store the rotation frequencies, which follow from the configuration.
    if name.startswith(_UNUSED) or name.endswith("rotary_emb.inv_freq"):
        return None
    return name


def build(config: dict[str, Any]) -> Decoder:
    """A model with its shapes, but no weights yet."""
    parsed = _read(config)
    rope = read_rope(config)
    module = mlx_lm_model(_MLX_LM_NAMES[parsed.model_type])
    arguments = {
        **msgspec.structs.asdict(parsed),
        "head_dim": parsed.head_size,
        "num_key_value_heads": parsed.num_key_value_heads or parsed.num_attention_heads,
        # Others than Llama have no such settings in the reference, whatever their file says.
        "attention_bias": parsed.attention_bias and parsed.model_type == "llama",
        "mlp_bias": parsed.mlp_bias and parsed.model_type == "llama",
        "rope_theta": rope.theta,
        "rope_scaling": rope.scaling,
        # Or the head would be made as well.
        "tie_word_embeddings": True,
        "layer_types": None,
    }
    model = module.Model(module.ModelArgs.from_dict(arguments)).model
    return Decoder(model, parsed, longest_input(parsed.max_position_embeddings, config))


def decisions(config: dict[str, Any]) -> dict[str, str]:
    """What the manifest tells about choices that change vectors and that few would look up."""
    parsed = _read(config)
    decided = {"rope": read_rope(config).decided_by}
    if parsed.bidirectional:
        key = "is_causal" if parsed.is_causal is False else "use_bidirectional_attention"
        decided["attention"] = f"config.json: {key}"
    if parsed.model_type == "mistral" and "sliding_window" not in config:
        decided["window"] = f"no sliding_window: {_DEFAULT_WINDOW}, as the reference takes it"
    return decided


def _read(config: dict[str, Any]) -> DecoderConfig:
    try:
        parsed = msgspec.convert(config, DecoderConfig)
    except msgspec.ValidationError as error:
        raise _unfit(f"{error}") from None
    _refuse_other_features(parsed)
    _refuse_other_layers(parsed)
    return parsed


def _refuse_other_features(config: DecoderConfig) -> None:
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if groups is None and config.model_type != "llama":
        raise _unfit("num_key_value_heads is missing")
    if heads % (groups or heads) or (config.head_dim is None and config.hidden_size % heads):
        raise _unfit(f"{heads} heads do not divide into {groups} groups of equal size")
    if config.model_type == "qwen2" and config.head_size * heads != config.hidden_size:
        raise _unfit(f"qwen2 with a head_dim of {config.head_dim} is not supported")
    if config.model_type == "qwen3" and config.attention_bias:
        raise _unfit("qwen3 with attention_bias is not supported")
    if config.hidden_act != "silu":
        raise _unfit(f"the activation {config.hidden_act[:40]!r} is not supported here")
    if config.is_causal is True and config.use_bidirectional_attention is True:
        raise _unfit("is_causal and use_bidirectional_attention contradict each other")


def _refuse_other_layers(config: DecoderConfig) -> None:
    kinds = config.layer_types
    if kinds is None:
        return
    if len(kinds) != config.num_hidden_layers:
        raise _unfit(f"layer_types names {len(kinds)} of {config.num_hidden_layers} layers")
    if others := {*kinds} - {"full_attention", "sliding_attention"}:
        raise _unfit(f"layers of type {min(others)[:40]!r} are not supported")
    has_window = config.use_sliding_window and config.sliding_window is not None
    if "sliding_attention" in kinds and not (has_window and config.model_type.startswith("qwen")):
        raise _unfit("layer_types has sliding_attention without a sliding_window in use")


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"config.json: {message}")
