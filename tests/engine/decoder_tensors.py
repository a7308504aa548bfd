"""The weights of a tiny decoder, by the names that transformers gives them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def tensors(config: dict[str, Any], scale: float, seed: int = 30) -> Iterator[tuple[str, Array]]:
    # RandomState's numbers are promised never to change, unlike those of Generator.
    random = np.random.RandomState(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or width // heads
    is_qwen2 = config["model_type"] == "qwen2"
    has_bias = config.get("attention_bias", False)

    def linear(name: str, inputs: int, outputs: int, bias: bool) -> Iterator[tuple[str, Array]]:
        matrix = random.standard_normal((outputs, inputs)) * scale / np.sqrt(inputs)
        yield f"{name}.weight", np.asarray(matrix)
        if bias:
            yield f"{name}.bias", np.asarray(random.standard_normal(outputs) * 0.3)

    def norm(name: str, size: int) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", np.asarray(1 + 0.2 * random.standard_normal(size))

    yield "embed_tokens.weight", np.asarray(random.standard_normal((config["vocab_size"], width)))
    for layer in (f"layers.{index}" for index in range(config["num_hidden_layers"])):
        for part, outputs in (("q", heads * size), ("k", groups * size), ("v", groups * size)):
            yield from linear(
                f"{layer}.self_attn.{part}_proj", width, outputs, has_bias or is_qwen2
            )
        yield from linear(f"{layer}.self_attn.o_proj", heads * size, width, has_bias)
        if config["model_type"] == "qwen3":
            yield from norm(f"{layer}.self_attn.q_norm", size)
            yield from norm(f"{layer}.self_attn.k_norm", size)
        for part in ("gate", "up"):
            yield from linear(
                f"{layer}.mlp.{part}_proj", width, inner, config.get("mlp_bias", False)
            )
        yield from linear(f"{layer}.mlp.down_proj", inner, width, config.get("mlp_bias", False))
        yield from norm(f"{layer}.input_layernorm", width)
        yield from norm(f"{layer}.post_attention_layernorm", width)
    yield from norm("norm", width)
