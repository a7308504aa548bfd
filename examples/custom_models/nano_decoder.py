"""A small causal language model in the style of mlx-lm, used for its token vectors."""

import inspect
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn


@dataclass
class ModelArgs:
    hidden_size: int
    vocab_size: int
    max_position_embeddings: int
    num_attention_heads: int
    num_hidden_layers: int

    @classmethod
    def from_dict(cls, config: dict) -> "ModelArgs":
        known = inspect.signature(cls).parameters
        return cls(**{key: value for key, value in config.items() if key in known})


class Inner(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.places = nn.RoPE(args.hidden_size)
        self.layers = [
            nn.TransformerEncoderLayer(args.hidden_size, args.num_attention_heads, norm_first=True)
            for _ in range(args.num_hidden_layers)
        ]
        self.norm = nn.RMSNorm(args.hidden_size)

    def __call__(self, inputs: mx.array, cache: object = None) -> mx.array:
        x = self.places(self.embed_tokens(inputs))
        mask = nn.MultiHeadAttention.create_additive_causal_mask(x.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class Model(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.model = Inner(args)
        self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, inputs: mx.array, cache: object = None) -> mx.array:
        return self.lm_head(self.model(inputs, cache))

    def sanitize(self, weights: dict) -> dict:
        """Stored values by the names of the parameters."""
        return {name.removeprefix("transformer."): value for name, value in weights.items()}
