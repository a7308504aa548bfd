"""What a conversation has left, kept apart and had again."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_worker import device
from mlx_serve_worker.chat.kept import Apart, AsItIs
from mlx_serve_worker.mlx_lm_runtime import trim_prompt_cache
from tests.engine.chat.conversing import layer_classes
from tests.engine.python import run_python

_GOING = """
import mlx.core as mx
import psutil
from mlx_serve_worker import device, mlx_lm_runtime
from mlx_serve_worker.chat.kept import Apart
from mlx_lm.models.cache import KVCache

device.configure()
rss = lambda: psutil.Process().memory_info().rss // 2**20

def conversation():
    layers = [KVCache() for _ in range(4)]
    for layer in layers:
        layer.update_and_fetch(*mx.random.normal((2, 1, 4, 1024, 64)))
    return layers

some, others = [], []
for _ in range(10):
    some.append(Apart(conversation()))
    others.append(Apart(conversation()))
before = rss()
some.clear()
print(before - rss(), sum(each.bytes for each in others) // 2**20)
"""

pytestmark = pytest.mark.engine

_KEPT = pytest.mark.parametrize("keep", [Apart, AsItIs])


def noise(length: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.random.normal((1, 2, length, 32)).astype(dtype)


def filled(layer: Any, length: int = 300, dtype: mx.Dtype = mx.float32) -> Any:
    layer.update_and_fetch(noise(length, dtype), noise(length, dtype))
    return layer


def layers() -> Iterator[Any]:
    cache = layer_classes()
    yield filled(cache.KVCache())
    yield filled(cache.KVCache(), dtype=mx.bfloat16)
    yield filled(cache.KVCache(), dtype=mx.float16)
    yield filled(cache.RotatingKVCache(max_size=64, keep=4))
    yield filled(cache.ChunkedKVCache(chunk_size=512))
    yield filled(cache.KVCache()).to_quantized(group_size=32, bits=4)
    yield cache.CacheList(filled(cache.KVCache()), filled(cache.RotatingKVCache(max_size=64)))
    yield cache.KVCache()
    states = cache.ArraysCache(3)
    states[0], states[1] = mx.arange(5), mx.zeros((0, 4))
    yield states


def parts(layer: Any) -> Any:
    """All that it is made of, to be compared."""
    if isinstance(layer, mx.array):
        return layer.dtype, layer.shape, np.asarray(mx.view(layer, mx.uint8)).tobytes()
    if isinstance(layer, list | tuple):
        return [parts(each) for each in layer]
    if hasattr(layer, "__dict__"):
        return type(layer), {name: parts(value) for name, value in vars(layer).items()}
    return layer


@_KEPT
def test_layers_of_every_class_come_back_bit_by_bit(keep: type[Apart | AsItIs]) -> None:
    whole = list(layers())
    before = parts(whole)
    kept = keep(whole)
    for _ in range(2):
        assert parts(kept.again()) == before


@_KEPT
def test_who_gets_them_may_go_on(keep: type[Apart | AsItIs]) -> None:
    layer = next(layers())
    before = parts(layer.state)
    kept = keep([layer])
    again = kept.again()
    trim_prompt_cache(again, 100)
    keys, _ = again[0].update_and_fetch(noise(5), noise(5))
    assert keys.shape[2] == 205
    assert parts(kept.again()[0].state) == before


def test_what_is_apart_is_known_by_its_size_and_mlx_does_not_hold_it() -> None:
    before = mx.get_active_memory()
    kept = Apart([filled(layer_classes().KVCache()) for _ in range(50)])
    assert kept.bytes >= 50 * 2 * noise(300).nbytes
    assert mx.get_active_memory() - before < kept.bytes / 10


@_KEPT
def test_layers_of_a_class_that_is_nobody_elses_come_back(keep: type[Apart | AsItIs]) -> None:
    class Own(layer_classes().KVCache):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.itself = self
            self.more = {"seen": mx.arange(3)}

    kept = keep([filled(Own())])
    [again] = kept.again()
    assert type(again) is Own and again.itself is again
    assert again.more["seen"].tolist() == [0, 1, 2]
    assert again.keys.shape == filled(Own()).keys.shape


@pytest.mark.skipif(device.current().fuses, reason="a GPU has memory of its own")
def test_what_is_given_up_goes_back_to_the_system_at_once() -> None:
    gone, kept = map(int, run_python(_GOING).split())
    assert gone > 0.9 * kept
