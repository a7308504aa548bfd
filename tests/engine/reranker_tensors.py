"""The weights of tiny sequence-classification models, from a seed, under the names of their files.

They are large for their size, so that a wrong token, activation or mask shows in the third digit.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Json = dict[str, Any]
Tensors = dict[str, Array]
_Named = Iterator[tuple[str, Array]]


def tensors(config: Json) -> Tensors:
    """The whole model of that configuration, its head included."""
    return dict(_ARCHITECTURES[config["model_type"]](config, _Random(40)))


class _Random:
    """RandomState, whose numbers are promised never to change, unlike those of Generator."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def table(self, name: str, rows: int, columns: int, scale: float = 1.5) -> _Named:
        values = self._state.standard_normal((rows, columns)) * scale / np.sqrt(columns)
        yield f"{name}.weight", np.asarray(values)

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True) -> _Named:
        yield from self.table(name, outputs, inputs)
        if bias:
            yield f"{name}.bias", np.asarray(0.3 * self._state.standard_normal(outputs))

    def logits(self, name: str, config: Json, width: int) -> _Named:
        labels = len(config["id2label"])
        yield from self.table(name, labels, width, scale=5.0)
        yield f"{name}.bias", np.asarray(0.3 * self._state.standard_normal(labels))

    def norm(self, name: str, size: int, *, bias: bool = True) -> _Named:
        yield f"{name}.weight", np.asarray(1 + 0.2 * self._state.standard_normal(size))
        if bias:
            yield f"{name}.bias", np.asarray(0.2 * self._state.standard_normal(size))


def _bert(config: Json, random: _Random) -> _Named:
    width = config["hidden_size"]
    yield from _encoder(config, random, "bert.", types=True)
    yield from random.linear("bert.pooler.dense", width, width)
    yield from random.logits("classifier", config, width)


def _roberta(config: Json, random: _Random) -> _Named:
    width = config["hidden_size"]
    yield from _encoder(config, random, "roberta.", types=True)
    yield from random.linear("classifier.dense", width, width)
    yield from random.logits("classifier.out_proj", config, width)


def _mpnet(config: Json, random: _Random) -> _Named:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    for name, values in _encoder(config, random, "mpnet.", types=False):
        name = name.replace(".attention.output.dense.", ".attention.attn.o.")
        name = name.replace(".attention.output.LayerNorm.", ".attention.LayerNorm.")
        for part in ("query", "key", "value"):
            name = name.replace(f".attention.self.{part}.", f".attention.attn.{part[0]}.")
        yield name, values
    yield from random.table("mpnet.encoder.relative_attention_bias", 32, heads)
    yield from random.linear("classifier.dense", width, width)
    yield from random.logits("classifier.out_proj", config, width)


def _encoder(config: Json, random: _Random, prefix: str, *, types: bool) -> _Named:
    width, inner = config["hidden_size"], config["intermediate_size"]
    tables = {
        "word_embeddings": config["vocab_size"],
        "position_embeddings": config["max_position_embeddings"],
    }
    if types:
        tables["token_type_embeddings"] = config["type_vocab_size"]
    for table, rows in tables.items():
        yield from random.table(f"{prefix}embeddings.{table}", rows, width)
    yield from random.norm(f"{prefix}embeddings.LayerNorm", width)
    for index in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layer.{index}"
        for part in ("query", "key", "value"):
            yield from random.linear(f"{layer}.attention.self.{part}", width, width)
        yield from random.linear(f"{layer}.attention.output.dense", width, width)
        yield from random.norm(f"{layer}.attention.output.LayerNorm", width)
        yield from random.linear(f"{layer}.intermediate.dense", width, inner)
        yield from random.linear(f"{layer}.output.dense", inner, width)
        yield from random.norm(f"{layer}.output.LayerNorm", width)


def _distilbert(config: Json, random: _Random) -> _Named:
    width, inner = config["dim"], config["hidden_dim"]
    embeddings = "distilbert.embeddings"
    yield from random.table(f"{embeddings}.word_embeddings", config["vocab_size"], width)
    positions = config["max_position_embeddings"]
    yield from random.table(f"{embeddings}.position_embeddings", positions, width)
    yield from random.norm(f"{embeddings}.LayerNorm", width)
    for index in range(config["n_layers"]):
        layer = f"distilbert.transformer.layer.{index}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield from random.linear(f"{layer}.attention.{part}", width, width)
        yield from random.norm(f"{layer}.sa_layer_norm", width)
        yield from random.linear(f"{layer}.ffn.lin1", width, inner)
        yield from random.linear(f"{layer}.ffn.lin2", inner, width)
        yield from random.norm(f"{layer}.output_layer_norm", width)
    yield from random.linear("pre_classifier", width, width)
    yield from random.logits("classifier", config, width)


def _modernbert(config: Json, random: _Random) -> _Named:
    width, inner = config["hidden_size"], config["intermediate_size"]
    bias = config.get("norm_bias", False)
    yield from random.table("model.embeddings.tok_embeddings", config["vocab_size"], width)
    yield from random.norm("model.embeddings.norm", width, bias=bias)
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        if index:
            yield from random.norm(f"{layer}.attn_norm", width, bias=bias)
        yield from random.linear(f"{layer}.attn.Wqkv", width, 3 * width, bias=False)
        yield from random.linear(f"{layer}.attn.Wo", width, width, bias=False)
        yield from random.norm(f"{layer}.mlp_norm", width, bias=bias)
        yield from random.linear(f"{layer}.mlp.Wi", width, 2 * inner, bias=False)
        yield from random.linear(f"{layer}.mlp.Wo", inner, width, bias=False)
    yield from random.norm("model.final_norm", width, bias=bias)
    has_bias = config.get("classifier_bias", False)
    yield from random.linear("head.dense", width, width, bias=has_bias)
    yield from random.norm("head.norm", width, bias=bias)
    yield from random.logits("classifier", config, width)


def _deberta(config: Json, random: _Random) -> _Named:
    width = config["hidden_size"]
    for name, values in _encoder(config, random, "deberta.", types=config["type_vocab_size"] > 0):
        for part in ("query", "key", "value"):
            name = name.replace(f".attention.self.{part}.", f".attention.self.{part}_proj.")
        if "position_embeddings" not in name or config["position_biased_input"]:
            yield name, values
    if not config["share_att_key"]:
        for index in range(config["num_hidden_layers"]):
            attention = f"deberta.encoder.layer.{index}.attention.self"
            if "c2p" in config["pos_att_type"]:
                yield from random.linear(f"{attention}.pos_key_proj", width, width)
            if "p2c" in config["pos_att_type"]:
                yield from random.linear(f"{attention}.pos_query_proj", width, width)
    span = config["position_buckets"]
    if span < 1:
        span = config["max_relative_positions"]
    if span < 1:
        span = config["max_position_embeddings"]
    yield from random.table("deberta.encoder.rel_embeddings", 2 * span, width)
    if "layer_norm" in config.get("norm_rel_ebd", "none"):
        yield from random.norm("deberta.encoder.LayerNorm", width)
    if kernel := config.get("conv_kernel_size", 0):
        for name, values in random.linear("deberta.encoder.conv.conv", width * kernel, width):
            is_matrix = values.ndim == 2
            yield name, values.reshape(width, width, kernel) if is_matrix else values
        yield from random.norm("deberta.encoder.conv.LayerNorm", width)
    yield from random.linear("pooler.dense", width, width)
    yield from random.logits("classifier", config, width)


_ARCHITECTURES: dict[str, Callable[[Json, _Random], _Named]] = {
    "bert": _bert,
    "deberta-v2": _deberta,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "mpnet": _mpnet,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
