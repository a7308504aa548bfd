"""Sequence-classification heads: an encoder's token vectors to one logit per label.

Invariants: equal to transformers' ``...ForSequenceClassification`` of the same architecture;
computed in float32, whatever the encoder computes in.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import PoolingMode
from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.configuration import Epsilon, read
from mlx_serve_worker.pooling import pool


class Norm(NamedTuple):
    epsilon: float
    bias: bool


class Head(nn.Module):
    """One layer with its activation, and one that gives the logits."""

    def __init__(
        self,
        width: int,
        labels: int,
        activation_name: str,
        *,
        pooling: PoolingMode = "cls",
        bias: bool = True,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.pooling: PoolingMode = pooling
        self.activation = activation(activation_name)
        self.dense = nn.Linear(width, width, bias=bias)
        if norm is not None:
            self.norm = nn.LayerNorm(width, eps=norm.epsilon, bias=norm.bias)
        self.out = nn.Linear(width, labels)

    def __call__(self, hidden: mx.array, lengths: Sequence[int]) -> mx.array:
        """(pairs, tokens, width), right-padded, to (pairs, labels)."""
        x = pool(hidden.astype(mx.float32), [self.pooling], lengths, [0] * len(lengths))
        x = self.activation(self.dense(x))
        if "norm" in self:
            x = self.norm(x)
        return self.out(x)


class HeadCode(NamedTuple):
    """How an architecture's head is made, and what its files call the layers."""

    build: Callable[[dict[str, Any], int, int], Head]
    names: dict[str, str]

    def parameter_name(self, name: str) -> str | None:
        """Our name of a stored tensor; None if it is not the head's."""
        for theirs, ours in self.names.items():
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return None


def _tanh(_: dict[str, Any], width: int, labels: int) -> Head:
    return Head(width, labels, "tanh")


def _relu(_: dict[str, Any], width: int, labels: int) -> Head:
    return Head(width, labels, "relu")


class _ModernBert(msgspec.Struct, frozen=True):
    classifier_pooling: Literal["cls", "mean"] = "cls"
    classifier_activation: str = "gelu"
    classifier_bias: bool = False
    norm_eps: Epsilon = 1e-5
    norm_bias: bool = False


def _modernbert(config: dict[str, Any], width: int, labels: int) -> Head:
    parsed = read(config, _ModernBert)
    return Head(
        width,
        labels,
        parsed.classifier_activation,
        pooling=parsed.classifier_pooling,
        bias=parsed.classifier_bias,
        norm=Norm(parsed.norm_eps, parsed.norm_bias),
    )


class _Deberta(msgspec.Struct, frozen=True):
    pooler_hidden_act: str = "gelu"


def _deberta(config: dict[str, Any], width: int, labels: int) -> Head:
    return Head(width, labels, read(config, _Deberta).pooler_hidden_act)


_BERT = HeadCode(_tanh, {"bert.pooler.dense.": "dense.", "classifier.": "out."})
_ROBERTA = HeadCode(_tanh, {"classifier.dense.": "dense.", "classifier.out_proj.": "out."})
_DISTILBERT = HeadCode(_relu, {"pre_classifier.": "dense.", "classifier.": "out."})
_MODERNBERT = HeadCode(
    _modernbert, {"head.dense.": "dense.", "head.norm.": "norm.", "classifier.": "out."}
)
_DEBERTA = HeadCode(_deberta, {"pooler.dense.": "dense.", "classifier.": "out."})

_HEADS = {
    "bert": _BERT,
    "camembert": _ROBERTA,
    "deberta-v2": _DEBERTA,
    "distilbert": _DISTILBERT,
    "modernbert": _MODERNBERT,
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def find(model_type: str) -> HeadCode:
    code = _HEADS.get(model_type)
    if code is None:
        raise ServeError(
            ErrorCode.INVALID_MODEL,
            f"rerankers of type {model_type[:64]!r} cannot be served; these can:"
            f" {', '.join(sorted(_HEADS))}",
        )
    return code
