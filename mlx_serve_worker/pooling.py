"""Token vectors to one vector per text: the steps of the manifest, in their order.

Invariants: everything here is computed in float32, whatever the model computes in; padding never
counts; results equal sentence-transformers' for every mode and combination.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Dense, Normalize, Pooling, PoolingMode, Step
from mlx_serve_worker import weights
from mlx_serve_worker.models.activations import activation
from mlx_serve_worker.models.dense import DenseLayer

# The reference divides by at least this much, and so do we.
_SMALLEST_COUNT = 1e-9
_SMALLEST_NORM = 1e-12

_Transform = Callable[[mx.array], mx.array]


class Pipeline:
    def __init__(self, steps: Sequence[Step], folder: Path, width: int) -> None:
        """``width`` is that of a token vector; Dense weights are read from ``folder``."""
        if not steps or not isinstance(steps[0], Pooling):
            raise ServeError(ErrorCode.INVALID_MODEL, "the model's first step is not a pooling")
        self._pooling = steps[0]
        self.dimensions = width * len(self._pooling.modes)
        self.excludes_prompt = not self._pooling.include_prompt
        self.reads_first_only = self._pooling.modes == ["cls"] and self._pooling.include_prompt
        self.normalizes = isinstance(steps[-1], Normalize)
        rest = steps[1:-1] if self.normalizes else steps[1:]
        self._transforms = [self._transform(step, folder) for step in rest]

    def _transform(self, step: Step, folder: Path) -> _Transform:
        match step:
            case Normalize():
                return normalized
            case Dense():
                layer, self.dimensions = _load_dense(step, folder, self.dimensions)
                return layer
            case Pooling():
                raise ServeError(ErrorCode.INVALID_MODEL, "the model pools twice")

    def __call__(
        self, hidden: mx.array, lengths: Sequence[int], prompt_tokens: Sequence[int]
    ) -> mx.array:
        """(texts, tokens, width), right-padded, to (texts, dimensions).

        The last step is left to the caller if it is to normalize: see ``normalizes``.
        """
        skipped = prompt_tokens if self.excludes_prompt else [0] * len(lengths)
        pooled = pool(hidden.astype(mx.float32), self._pooling.modes, lengths, skipped)
        for transform in self._transforms:
            pooled = transform(pooled)
        return pooled


def pool(
    hidden: mx.array,
    modes: Sequence[PoolingMode],
    lengths: Sequence[int],
    skipped: Sequence[int],
) -> mx.array:
    """Concatenate ``modes`` over the tokens from ``skipped`` to the length of each text."""
    positions = mx.arange(hidden.shape[1])[None, :]
    starts, ends = (mx.array(list(bounds))[:, None] for bounds in (skipped, lengths))
    mask = ((positions >= starts) & (positions < ends))[..., None]
    pooled = [_POOLED[mode](hidden, mask) for mode in modes]
    return pooled[0] if len(pooled) == 1 else mx.concatenate(pooled, axis=-1)


def _weighted(hidden: mx.array, weights: mx.array) -> mx.array:
    # Not weights.T @ hidden: padding may hold anything, and 0 * inf must not reach a sum.
    return mx.where(weights > 0, hidden * weights, 0).sum(axis=1)


def _count(weights: mx.array) -> mx.array:
    return mx.maximum(weights.sum(axis=1), _SMALLEST_COUNT)


def _first(hidden: mx.array, mask: mx.array) -> mx.array:
    # argmax of no true value is 0: a text that is all prompt is pooled from its first token.
    return mx.take_along_axis(hidden, mx.argmax(mask, axis=1, keepdims=True), axis=1)[:, 0]


def _mean(hidden: mx.array, mask: mx.array) -> mx.array:
    ones = mask.astype(mx.float32)
    return _weighted(hidden, ones) / _count(ones)


def _mean_sqrt_len(hidden: mx.array, mask: mx.array) -> mx.array:
    ones = mask.astype(mx.float32)
    return _weighted(hidden, ones) / mx.sqrt(_count(ones))


def _weighted_mean(hidden: mx.array, mask: mx.array) -> mx.array:
    weights = mask * mx.arange(1, hidden.shape[1] + 1, dtype=mx.float32)[None, :, None]
    return _weighted(hidden, weights) / _count(weights)


def _max(hidden: mx.array, mask: mx.array) -> mx.array:
    return mx.where(mask, hidden, -mx.inf).max(axis=1)


def _last(hidden: mx.array, mask: mx.array) -> mx.array:
    positions = mx.arange(hidden.shape[1])[None, :, None]
    last = mx.where(mask, positions, 0).max(axis=1, keepdims=True)
    return mx.take_along_axis(mx.where(mask, hidden, 0), last, axis=1)[:, 0]


_POOLED: dict[PoolingMode, Callable[[mx.array, mx.array], mx.array]] = {
    "cls": _first,
    "lasttoken": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
}


def normalized(x: mx.array) -> mx.array:
    norms = mx.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / mx.maximum(norms, _SMALLEST_NORM)


def _load_dense(step: Dense, folder: Path, inputs: int) -> tuple[DenseLayer, int]:
    files = weights.weight_files(folder / step.folder)
    shapes = {tensor.name: tensor.shape for path in files for tensor in weights.read_header(path)}
    shape = shapes.get("linear.weight", ())
    if len(shape) != 2 or shape[1] != inputs:
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"{step.folder} does not take vectors of {inputs} dimensions"
        )
    layer = DenseLayer(inputs, shape[0], "linear.bias" in shapes, activation(step.activation))
    weights.load(layer, files, lambda name: name)
    return layer, shape[0]
