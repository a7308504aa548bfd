"""A small transformer encoder: models whose config.json says "model_type": "nano_encoder"."""

import mlx.core as mx
import mlx.nn as nn


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiHeadAttention(width, heads, bias=True)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        seen = self.attention_norm(x)
        x = x + self.attention(seen, seen, seen, mask)
        return x + self.contract(nn.silu(self.expand(self.mlp_norm(x))))


class NanoEncoder(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        # These three every encoder has.
        self.vocab_size = config["vocab_size"]
        self.positions = config["max_position_embeddings"]
        self.dimensions = config["hidden_size"]
        self.words = nn.Embedding(self.vocab_size, self.dimensions)
        self.places = nn.Embedding(self.positions, self.dimensions)
        self.layers = [
            Layer(self.dimensions, config["num_attention_heads"])
            for _ in range(config["num_hidden_layers"])
        ]
        self.norm = nn.LayerNorm(self.dimensions)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        """One vector per token. ``mask`` is true for real tokens; None means that all are."""
        x = self.words(token_ids) + self.places(mx.arange(token_ids.shape[1]))
        seen = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x)


def build(config: dict) -> NanoEncoder:
    """The model with its shapes; the weights are read into it later."""
    return NanoEncoder(config)


def parameter_name(name: str) -> str | None:
    """The model's own name of a stored tensor; None for one that is not needed."""
    if name.startswith("pretraining_head."):
        return None
    return name.removeprefix("encoder.")
