"""A small chat model in the style of mlx-lm, with an attention that mlx-lm does not have.

All query heads share one key and one value head, and what they find passes a gate that the token
itself controls. For models whose config.json says "model_type": "nano_chat".
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import BaseModelArgs, create_attention_mask, scaled_dot_product_attention


@dataclass
class ModelArgs(BaseModelArgs):
    """What is read from config.json; a field without a default has to be there."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    rope_theta: float = 10000.0


class GatedAttention(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        width = args.hidden_size
        self.heads = args.num_attention_heads
        self.size = width // self.heads
        self.queries = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * self.size, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.rope = nn.RoPE(self.size, base=args.rope_theta)

    def __call__(self, x: mx.array, mask, cache) -> mx.array:
        batch, length, width = x.shape
        queries = self.queries(x).reshape(batch, length, self.heads, self.size).swapaxes(1, 2)
        keys, values = mx.split(self.key_value(x)[:, None], 2, axis=-1)
        # The cache knows how many tokens came before, and gives them back with the new ones.
        before = 0 if cache is None else cache.offset
        queries, keys = self.rope(queries, offset=before), self.rope(keys, offset=before)
        if cache is not None:
            keys, values = cache.update_and_fetch(keys, values)
        found = scaled_dot_product_attention(
            queries, keys, values, cache=cache, scale=self.size**-0.5, mask=mask
        )
        found = found.swapaxes(1, 2).reshape(batch, length, width)
        return self.out(mx.sigmoid(self.gate(x)) * found)


class Layer(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        width = args.hidden_size
        self.attention_norm = nn.RMSNorm(width)
        self.attention = GatedAttention(args)
        self.mlp_norm = nn.RMSNorm(width)
        self.expand = nn.Linear(width, 2 * width, bias=False)
        self.contract = nn.Linear(2 * width, width, bias=False)

    def __call__(self, x: mx.array, mask, cache) -> mx.array:
        x = x + self.attention(self.attention_norm(x), mask, cache)
        return x + self.contract(nn.silu(self.expand(self.mlp_norm(x))))


class Inner(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [Layer(args) for _ in range(args.num_hidden_layers)]
        self.norm = nn.RMSNorm(args.hidden_size)

    def __call__(self, inputs: mx.array, cache=None) -> mx.array:
        x = self.embed_tokens(inputs)
        cache = cache or [None] * len(self.layers)
        mask = create_attention_mask(x, cache[0])
        for layer, own in zip(self.layers, cache, strict=True):
            x = layer(x, mask, own)
        return self.norm(x)


class Model(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.model = Inner(args)

    def __call__(self, inputs: mx.array, cache=None) -> mx.array:
        """The logits of each token's successor; here by the embeddings themselves."""
        return self.model.embed_tokens.as_linear(self.model(inputs, cache))

    @property
    def layers(self) -> list:
        """One cache is made for each of these."""
        return self.model.layers

    def sanitize(self, weights: dict) -> dict:
        """Stored values by the names of the parameters."""
        return {name.replace("backbone.", "model."): value for name, value in weights.items()}
