"""The tensors of tiny encoders under the names and with the shapes that real files have.

Names and shapes were taken from what the reference saves; values are random, large for their size.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Tensors = Iterator[tuple[str, Array]]
Sizes = dict[str, Any]


class _Random:
    """RandomState, whose numbers are promised never to change, unlike those of Generator."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def table(self, name: str, rows: int, width: int, scale: float = 1.0) -> Tensors:
        values = self._state.standard_normal((rows, width)) * 1.5 * scale / np.sqrt(width)
        yield f"{name}.weight", values

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> Tensors:
        yield from self.table(name, outputs, inputs)
        if bias:
            yield f"{name}.bias", 0.2 * self._state.standard_normal(outputs)

    def norm(self, name: str, width: int, *, bias: bool = True, around: float = 1.0) -> Tensors:
        yield f"{name}.weight", around + 0.2 * self._state.standard_normal(width)
        if bias:
            yield f"{name}.bias", 0.2 * self._state.standard_normal(width)


def _embeddings(random: _Random, sizes: Sizes, *tables: str) -> Tensors:
    width = sizes["hidden_size"]
    yield from random.table("embeddings.word_embeddings", sizes["vocab_size"], width)
    rows = {
        "position": sizes["max_position_embeddings"],
        "token_type": sizes.get("type_vocab_size", 0),
    }
    for table in tables:
        yield from random.table(f"embeddings.{table}_embeddings", rows[table], width)
    yield from random.norm("embeddings.LayerNorm", width)


def roberta(sizes: Sizes) -> Tensors:
    random = _Random(21)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    yield from _embeddings(random, sizes, "position", "token_type")
    for layer in (f"encoder.layer.{index}" for index in range(sizes["num_hidden_layers"])):
        for part in ("query", "key", "value"):
            yield from random.linear(f"{layer}.attention.self.{part}", width, width)
        yield from random.linear(f"{layer}.attention.output.dense", width, width)
        yield from random.norm(f"{layer}.attention.output.LayerNorm", width)
        yield from random.linear(f"{layer}.intermediate.dense", width, inner)
        yield from random.linear(f"{layer}.output.dense", inner, width)
        yield from random.norm(f"{layer}.output.LayerNorm", width)


def distilbert(sizes: Sizes) -> Tensors:
    random = _Random(22)
    width, inner = sizes["dim"], sizes["hidden_dim"]
    yield from _embeddings(random, {**sizes, "hidden_size": width}, "position")
    for layer in (f"transformer.layer.{index}" for index in range(sizes["n_layers"])):
        for part in ("q", "k", "v", "out"):
            yield from random.linear(f"{layer}.attention.{part}_lin", width, width)
        yield from random.norm(f"{layer}.sa_layer_norm", width)
        yield from random.linear(f"{layer}.ffn.lin1", width, inner)
        yield from random.linear(f"{layer}.ffn.lin2", inner, width)
        yield from random.norm(f"{layer}.output_layer_norm", width)


def mpnet(sizes: Sizes) -> Tensors:
    random = _Random(23)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    yield from _embeddings(random, sizes, "position")
    for layer in (f"encoder.layer.{index}" for index in range(sizes["num_hidden_layers"])):
        for part in "qkvo":
            yield from random.linear(f"{layer}.attention.attn.{part}", width, width)
        yield from random.norm(f"{layer}.attention.LayerNorm", width)
        yield from random.linear(f"{layer}.intermediate.dense", width, inner)
        yield from random.linear(f"{layer}.output.dense", inner, width)
        yield from random.norm(f"{layer}.output.LayerNorm", width)
    buckets = sizes["relative_attention_num_buckets"]
    heads = sizes["num_attention_heads"]
    yield from random.table("encoder.relative_attention_bias", buckets, heads, scale=2.0)


def modernbert(sizes: Sizes) -> Tensors:
    random = _Random(24)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    norms, attention, feed_forward = (
        bool(sizes.get(key)) for key in ("norm_bias", "attention_bias", "mlp_bias")
    )
    yield from random.table("embeddings.tok_embeddings", sizes["vocab_size"], width)
    yield from random.norm("embeddings.norm", width, bias=norms)
    for index in range(sizes["num_hidden_layers"]):
        layer = f"layers.{index}"
        if index:
            yield from random.norm(f"{layer}.attn_norm", width, bias=norms)
        yield from random.linear(f"{layer}.attn.Wqkv", width, 3 * width, attention)
        yield from random.linear(f"{layer}.attn.Wo", width, width, attention)
        yield from random.norm(f"{layer}.mlp_norm", width, bias=norms)
        yield from random.linear(f"{layer}.mlp.Wi", width, 2 * inner, feed_forward)
        yield from random.linear(f"{layer}.mlp.Wo", inner, width, feed_forward)
    yield from random.norm("final_norm", width, bias=norms)


def nomic_bert(sizes: Sizes) -> Tensors:
    random = _Random(25)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    yield from random.table("embeddings.word_embeddings", sizes["vocab_size"], width)
    yield from random.table("embeddings.token_type_embeddings", sizes["type_vocab_size"], width)
    yield from random.norm("emb_ln", width)
    for layer in (f"encoder.layers.{index}" for index in range(sizes["num_hidden_layers"])):
        yield from random.linear(f"{layer}.attn.Wqkv", width, 3 * width, bias=False)
        yield from random.linear(f"{layer}.attn.out_proj", width, width, bias=False)
        yield from random.norm(f"{layer}.norm1", width)
        yield from random.linear(f"{layer}.mlp.fc11", width, inner, bias=False)
        yield from random.linear(f"{layer}.mlp.fc12", width, inner, bias=False)
        yield from random.linear(f"{layer}.mlp.fc2", inner, width, bias=False)
        yield from random.norm(f"{layer}.norm2", width)


def gemma3_text(sizes: Sizes) -> Tensors:
    random = _Random(26)
    width, inner, size = sizes["hidden_size"], sizes["intermediate_size"], sizes["head_dim"]
    heads, groups = sizes["num_attention_heads"] * size, sizes["num_key_value_heads"] * size

    def norm(name: str, of: int = width) -> Tensors:
        # Stored as what is added to 1.
        return random.norm(name, of, bias=False, around=0.0)

    yield from random.table("embed_tokens", sizes["vocab_size"], width, scale=0.5)
    for layer in (f"layers.{index}" for index in range(sizes["num_hidden_layers"])):
        for part, outputs in (("q", heads), ("k", groups), ("v", groups)):
            yield from random.linear(f"{layer}.self_attn.{part}_proj", width, outputs, bias=False)
        yield from random.linear(f"{layer}.self_attn.o_proj", heads, width, bias=False)
        yield from norm(f"{layer}.self_attn.q_norm", size)
        yield from norm(f"{layer}.self_attn.k_norm", size)
        yield from random.linear(f"{layer}.mlp.gate_proj", width, inner, bias=False)
        yield from random.linear(f"{layer}.mlp.up_proj", width, inner, bias=False)
        yield from random.linear(f"{layer}.mlp.down_proj", inner, width, bias=False)
        for part in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield from norm(f"{layer}.{part}_layernorm")
    yield from norm("norm")


TENSORS: dict[str, Callable[[Sizes], Tensors]] = {
    "camembert": roberta,
    "distilbert": distilbert,
    "gemma3_text": gemma3_text,
    "modernbert": modernbert,
    "mpnet": mpnet,
    "nomic_bert": nomic_bert,
    "roberta": roberta,
    "xlm-roberta": roberta,
}
