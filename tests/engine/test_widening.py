"""Weights stored in less than float32: on a CPU they are computed in it, and stay the numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import psutil
import pytest

from mlx_serve_common.config import CacheConfig, Config
from mlx_serve_worker import chat_model, device
from mlx_serve_worker.backends.encoder import EncoderBackend
from mlx_serve_worker.backends.reranker import RerankerBackend
from mlx_serve_worker.chat_model import load_chat_model
from mlx_serve_worker.reverification import reverify
from mlx_serve_worker.widening import is_affordable, speed_up, unpack, values
from tests.engine import quantized, rerankers, tiny_judges, tiny_rerankers
from tests.engine.models import embed, load, manifested, prepare
from tests.engine.quantized import SCHEMES, Scheme
from tests.engine.test_chat_models import logits, quantize
from tests.engine.test_quantized import build
from tests.engine.texts import TEXTS
from tests.engine.tiny_chat import install_chat_model
from tests.process.gateways import Gateway
from tests.process.homes import Home

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(device.current().fuses, reason="a GPU computes weights as they are stored"),
]

QUANTIZED = nn.QuantizedLinear | nn.QuantizedEmbedding


def is_wide(model: nn.Module) -> bool:
    layers: list[Any] = model.modules()  # type: ignore[no-untyped-call]
    return not any(isinstance(layer, QUANTIZED) for layer in layers)


class Layers(nn.Module):
    def __init__(self, scheme: Scheme, *, bias: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.embed = nn.Embedding(20, 64)
        self.rows = [nn.Linear(64, 32, bias=bias)]
        nn.quantize(self, scheme.group_size, scheme.bits, mode=scheme.mode)

    def __call__(self, ids: mx.array) -> Any:
        return self.rows[0](self.embed(ids).astype(mx.float32))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_layers_give_the_same_however_they_compute(scheme: str, bias: bool) -> None:
    model = Layers(SCHEMES[scheme], bias=bias)
    many, few = mx.arange(16)[None], mx.arange(3)[None]
    stored = [np.array(model(ids)) for ids in (many, few)]
    speed_up(model)
    packed = [np.array(model(ids)) for ids in (many, few)]
    unpack(model)
    assert is_wide(model)
    assert model.rows[0].weight.dtype == model.embed.weight.dtype == mx.float32
    unpacked = [np.array(model(ids)) for ids in (many, few)]
    for one, other, third in zip(stored, packed, unpacked, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())
        np.testing.assert_allclose(third, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_many_rows_are_not_multiplied_as_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Layers(SCHEMES["affine4"], bias=True)
    speed_up(model)
    asked: list[tuple[int, ...]] = []
    multiply: Any = mx.quantized_matmul

    def multiplied(x: mx.array, *given: Any, **named: Any) -> Any:
        asked.append(x.shape)
        return multiply(x, *given, **named)

    monkeypatch.setattr(mx, "quantized_matmul", multiplied)
    for count in (2, 7, 8, 100):
        model(mx.zeros((1, count), mx.int32))
    assert asked == [(1, 2, 64), (1, 7, 64)]


def test_what_computes_in_half_precision_is_given_it_back() -> None:
    model = Layers(SCHEMES["affine8"], bias=True)
    model.set_dtype(mx.bfloat16)
    speed_up(model)
    assert model.rows[0](mx.zeros((9, 64), mx.bfloat16)).dtype == mx.bfloat16


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["mean", "qwen3", "modernbert-mean"])
def test_vectors_stay_the_same(name: str, scheme: str, tmp_path: Path) -> None:
    chosen = SCHEMES[scheme]
    folder = build(name, tmp_path)
    quantized.quantize(folder, lambda layer: chosen)
    quantized.state(folder, chosen)
    manifested(folder)
    stored, wide = load(folder), EncoderBackend(folder, widens=True)
    wide.load()
    assert is_wide(wide._encoder)  # type: ignore[arg-type]
    one, other = (embed(each, prepare(each, TEXTS.values())) for each in (stored, wide))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("kind", ["cross-encoder", "judge"])
def test_scores_stay_the_same(kind: str, tmp_path: Path) -> None:
    if kind == "judge":
        folder = tiny_judges.build(tiny_judges.LAYOUTS["tied"], tmp_path)
    else:
        folder = tiny_rerankers.build(next(iter(tiny_rerankers.LAYOUTS.values())), tmp_path)
    quantized.quantize(folder, lambda layer: None if "classifier" in layer else SCHEMES["affine8"])
    quantized.state(folder, SCHEMES["affine8"])
    rerankers.manifested(folder)
    stored, wide = rerankers.load(folder), RerankerBackend(folder, widens=True)
    wide.load()
    assert is_wide(wide._scorer.model)
    one, other = (rerankers.raw(each, rerankers.all_pairs(each)) for each in (stored, wide))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 * np.abs(one).max())


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Path]:
    install_chat_model(tmp_path, "tiny", dtype="BF16")
    quantize(tmp_path, "tiny", 4)
    yield tmp_path


@pytest.mark.parametrize("name", ["tiny", "tiny-4bit"])
def test_a_chat_model_computes_in_float32(name: str, chat: Path) -> None:
    stored, _ = load_chat_model(chat / name, None)
    wide, _ = load_chat_model(chat / name, None, widens=True)
    assert is_wide(wide.model)
    assert wide.logits(mx.array([[5, 6]]), wide.new_cache()).dtype == mx.float32
    one, other = np.array(logits(stored)), np.array(logits(wide))
    np.testing.assert_allclose(other, one, rtol=0, atol=0.05 * np.abs(one).max())


def test_what_stays_in_half_precision_is_multiplied_in_float32(chat: Path) -> None:
    model, _ = load_chat_model(chat / "tiny", None)
    attention = model.model.model.layers[0].self_attn
    x = mx.random.normal((1, 3, 64)).astype(mx.bfloat16)
    y = attention.q_proj(x)
    assert attention.q_proj.weight.dtype == y.dtype == mx.bfloat16
    weights = values(attention.q_proj)
    assert weights.dtype == mx.float32
    exact = (x.astype(mx.float32) @ weights.T).astype(mx.bfloat16)
    assert mx.array_equal(y, exact)


def test_an_output_layer_of_its_own_is_unpacked(chat: Path) -> None:
    model, _ = load_chat_model(chat / "tiny-4bit", None)
    packed = model.model.model.embed_tokens
    rows = values(packed, mx.array([3, 1]))
    unpack(model.model)
    assert mx.array_equal(model.model.model.embed_tokens.weight[mx.array([3, 1])], rows)


def test_verification_computes_as_a_worker_will(
    chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = reverify(chat / "tiny", lambda event: None)
    assert verified.step_max_diff is not None and verified.step_max_diff < 1e-4
    monkeypatch.setattr(chat_model, "is_affordable", lambda manifest: False)
    as_stored = reverify(chat / "tiny", lambda event: None)
    assert as_stored.step_max_diff is not None and as_stored.step_max_diff > 1e-4


def test_there_has_to_be_memory_for_it(chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, manifest = load_chat_model(chat / "tiny-4bit", None)
    available = psutil.virtual_memory()._replace(available=manifest.weights_bytes * 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    assert not is_affordable(manifest)
    available = available._replace(available=manifest.weights_bytes * 10)
    assert is_affordable(manifest)


def test_a_server_has_it_done_where_it_has_set_the_memory_aside() -> None:
    """The same model, in a budget that has room for it as float32 and in one that has not."""
    loaded = {}
    with Home() as home:
        install_chat_model(home.store.models_dir, "tiny", dtype="BF16")
        weights = quantize(home.store.models_dir, "tiny", 4).weights_bytes
        for budget_mib in (400, 180):
            config = Config(cache=CacheConfig(memory_budget=budget_mib * 2**20))
            with Gateway(home.path, home.store, config) as gateway:
                body = b'{"model": "tiny-4bit", "prompt": "a", "max_tokens": 2}'
                assert gateway.ask("POST", "/v1/completions", body).status == 200
                (model,) = gateway.ask("GET", "/api/ps").json["models"]
                # What the model holds: the memory of a process is never twice the same.
                loaded[budget_mib] = model["size"]
    assert loaded[400] - loaded[180] > weights
