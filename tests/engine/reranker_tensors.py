"""The tensors of tiny cross-encoders under the names of real files: an encoder's, and a head's."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.engine import encoder_tensors

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

_PREFIXES = {
    "bert": "bert.",
    "camembert": "roberta.",
    "deberta-v2": "deberta.",
    "distilbert": "distilbert.",
    "modernbert": "model.",
    "mpnet": "mpnet.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
}
# What the layer before the last is called, and the last.
_HEADS = {
    "bert": ("bert.pooler.dense", "classifier"),
    "camembert": ("classifier.dense", "classifier.out_proj"),
    "deberta-v2": ("pooler.dense", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "modernbert": ("head.dense", "classifier"),
    "mpnet": ("classifier.dense", "classifier.out_proj"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
}


class _Random:
    """RandomState, whose numbers are promised never to change, unlike those of Generator."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def matrix(self, rows: int, columns: int) -> Array:
        return np.asarray(self._state.standard_normal((rows, columns)) / np.sqrt(columns))

    def vector(self, size: int) -> Array:
        return np.asarray(0.2 * self._state.standard_normal(size))


def tensors(config: Json) -> dict[str, Array]:
    """The whole model of that configuration."""
    model_type = config["model_type"]
    prefix = _PREFIXES[model_type]
    named = {f"{prefix}{name}": values for name, values in _encoder(model_type, config)}
    return named | dict(_head(model_type, config))


def _encoder(model_type: str, config: Json) -> Iterator[tuple[str, Array]]:
    if model_type == "deberta-v2":
        return _deberta(config)
    return encoder_tensors.TENSORS["roberta" if model_type == "bert" else model_type](config)


def _deberta(config: Json) -> Iterator[tuple[str, Array]]:
    """BERT's names but for the attention; no table of places unless there is one."""
    random = _Random(41)
    width = config["hidden_size"]
    tables = {**config, "type_vocab_size": max(config["type_vocab_size"], 1)}
    for name, values in encoder_tensors.roberta(tables):
        for part in ("query", "key", "value"):
            name = name.replace(f".attention.self.{part}.", f".attention.self.{part}_proj.")
        needless = (
            "position_embeddings" in name and not config["position_biased_input"],
            "token_type_embeddings" in name and not config["type_vocab_size"],
        )
        if not any(needless):
            yield name, values
    for layer in range(config["num_hidden_layers"]):
        for way, part in (("c2p", "pos_key"), ("p2c", "pos_query")):
            if way in config["pos_att_type"] and not config["share_att_key"]:
                name = f"encoder.layer.{layer}.attention.self.{part}_proj"
                yield f"{name}.weight", random.matrix(width, width)
                yield f"{name}.bias", random.vector(width)
    span = config["position_buckets"]
    span = span if span > 0 else config["max_position_embeddings"]
    yield "encoder.rel_embeddings.weight", random.matrix(2 * span, width)
    if config["norm_rel_ebd"] == "layer_norm":
        yield "encoder.LayerNorm.weight", 1 + random.vector(width)
        yield "encoder.LayerNorm.bias", random.vector(width)


def _head(model_type: str, config: Json) -> Iterator[tuple[str, Array]]:
    random = _Random(42)
    width = config.get("hidden_size") or config["dim"]
    labels = len(config["id2label"])
    dense, last = _HEADS[model_type]
    is_modern = model_type == "modernbert"
    yield f"{dense}.weight", 1.5 * random.matrix(width, width)
    bias = random.vector(width)
    if not is_modern or config.get("classifier_bias"):
        yield f"{dense}.bias", bias
    if is_modern:
        yield "head.norm.weight", 1 + random.vector(width)
        if config.get("norm_bias"):
            yield "head.norm.bias", random.vector(width)
    yield f"{last}.weight", 1.2 * random.matrix(labels, width)
    yield f"{last}.bias", random.vector(labels)
