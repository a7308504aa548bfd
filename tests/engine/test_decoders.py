"""Decoders used as encoders give the vectors of sentence-transformers, alone and in a batch."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest

from mlx_serve_common.models import MANIFEST_FILE, ModelKind
from mlx_serve_worker import device
from mlx_serve_worker.backends.encoder import EncoderBackend
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import tiny_decoders
from tests.engine.models import Golden, Vectors, embed, golden, load, manifested, prepare
from tests.engine.texts import TEXTS
from tests.engine.tiny_decoders import LAYOUTS, LOW_PRECISION, change_config

pytestmark = pytest.mark.engine

BATCH = 64


def expected(name: str) -> Golden:
    return golden("tiny_decoders.json", name)


def loaded(name: str, folder: Path) -> EncoderBackend:
    tiny_decoders.build(LAYOUTS[name], folder)
    manifest = inspect(folder, Origin("tiny", ModelKind.EMBEDDING)).manifest
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    return load(folder)


def assert_equal(name: str, vectors: Vectors, reference: Vectors) -> None:
    assert vectors.shape == reference.shape
    if name not in LOW_PRECISION:
        np.testing.assert_allclose(vectors, reference, rtol=0, atol=1e-5)
        return
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    assert ((vectors * reference).sum(axis=1) / norms).min() > 1 - LOW_PRECISION[name]


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_equals_the_reference(name: str, tmp_path: Path) -> None:
    backend = loaded(name, tmp_path)
    reference = expected(name)
    inputs = prepare(backend, TEXTS.values())

    assert [item.length for item in inputs] == reference.token_counts
    alone = np.concatenate([embed(backend, [item]) for item in inputs])
    assert_equal(name, alone, reference.vectors)
    mixed = np.random.RandomState(5).randint(len(inputs), size=BATCH)
    assert_equal(name, embed(backend, [inputs[at] for at in mixed]), reference.vectors[mixed])


SAME_BY_DESIGN = {
    "llama-class-bytes", "llama-class-legacy", "llama-class-null", "llama-dynamic",
    "mistral-class", "mistral-no-window", "qwen2-other-bytes", "qwen3-beyond-positions",
    "qwen3-causal-lm", "qwen3-class", "qwen3-class-other-bytes", "qwen3-no-class",
}  # fmt: skip


def test_layouts_differ_from_each_other() -> None:
    # Otherwise a setting that is not honoured could go unnoticed.
    names = [name for name in LAYOUTS if name not in SAME_BY_DESIGN]
    vectors = {name: expected(name).vectors for name in names}
    for one, other in itertools.combinations(names, 2):
        assert np.abs(vectors[one] - vectors[other]).max() > 5e-5, (one, other)


@pytest.mark.parametrize("name", LOW_PRECISION)
def test_half_precision_computed_as_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU, which keeps the stored type.
    half = msgspec.structs.replace(device.current(), computes_half=True)
    monkeypatch.setattr(device, "current", lambda: half)
    backend = loaded(name, tmp_path)
    vectors = embed(backend, prepare(backend, TEXTS.values()))
    assert_equal(name, vectors, expected(name).vectors)


# --- mistakes that others make have to show ------------------------------------------------------


def _left_padded(encoder: Any) -> Callable[[mx.array, mx.array | None], mx.array]:
    def call(token_ids: mx.array, mask: mx.array | None) -> mx.array:
        if mask is None:
            mask = mx.ones(token_ids.shape, mx.bool_)
        pads = token_ids.shape[1] - mask.sum(axis=1, keepdims=True)
        order = (mx.arange(token_ids.shape[1])[None, :] - pads) % token_ids.shape[1]
        hidden = encoder(mx.take_along_axis(token_ids, order, axis=1), None)
        back = (mx.arange(token_ids.shape[1])[None, :] + pads) % token_ids.shape[1]
        return mx.take_along_axis(hidden, back[..., None], axis=1)

    return call


def _one_token_early(encoder: Any) -> Callable[[mx.array, mx.array | None], mx.array]:
    def call(token_ids: mx.array, mask: mx.array | None) -> mx.array:
        hidden = encoder(token_ids, mask)
        return mx.concatenate([hidden[:, :1], hidden[:, :-1]], axis=1)

    return call


def _causal(encoder: Any) -> Any:
    encoder._bidirectional = False
    return encoder


def _without_window(encoder: Any) -> Any:
    encoder._windows = [None] * len(encoder.layers)
    return encoder


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("qwen3", _left_padded),
        ("qwen3", _one_token_early),
        ("qwen3-both-ways", _causal),
        ("qwen3-both-ways-window", _without_window),
        ("mistral", _without_window),
    ],
)
def test_mistake_is_noticed(name: str, mistake: Callable[[Any], Any], tmp_path: Path) -> None:
    backend = loaded(name, tmp_path)
    inputs = prepare(backend, TEXTS.values())
    backend._encoder = mistake(backend._encoder)
    assert np.abs(embed(backend, inputs) - expected(name).vectors).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("qwen3", {"rope_theta": 1_000_000.0}),
        ("qwen3-new-rope", {"rope_parameters": None, "rope_theta": 2000.0}),
        ("qwen3-yarn", {"rope_scaling": None}),
        ("llama-llama3", {"rope_scaling": None}),
        ("llama-linear", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("qwen2", {"rms_norm_eps": 1e-2}),
    ],
)
def test_setting_that_is_ignored_is_noticed(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    tiny_decoders.build(LAYOUTS[name], tmp_path)
    change_config(tmp_path, **changes)
    manifested(tmp_path)
    backend = load(tmp_path)
    vectors = embed(backend, prepare(backend, TEXTS.values()))
    assert np.abs(vectors - expected(name).vectors).max() > 1e-3


def test_missing_end_token_is_noticed(tmp_path: Path) -> None:
    tiny_decoders.build(LAYOUTS["qwen3"], tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    manifested(tmp_path)
    backend = load(tmp_path)
    inputs = prepare(backend, [TEXTS["english"]])
    assert inputs[0].length == expected("qwen3").token_counts[2] - 1
    assert np.abs(embed(backend, inputs) - expected("qwen3").vectors[2]).max() > 1e-3
