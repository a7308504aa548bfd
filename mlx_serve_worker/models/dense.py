"""The Dense module of sentence-transformers: a linear layer and its activation."""

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_worker.models.activations import Activation


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool, activation: Activation) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.activation = activation

    def __call__(self, x: mx.array) -> mx.array:
        return self.activation(self.linear(x))
