"""Models whose weights MLX has quantized: equal to the numbers that these weights stand for."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_worker.quantization import quantize
from mlx_serve_worker.widening import values
from tests.engine import quantized, tiny, tiny_decoders, tiny_encoders
from tests.engine.models import Vectors, embed, load, manifested, prepare
from tests.engine.quantized import SCHEMES, Scheme
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine

EIGHT, FOUR = SCHEMES["affine8"], SCHEMES["affine4"]


def build(name: str, folder: Path) -> Path:
    """A model whose matrices are wide enough for groups of 32."""
    folder.mkdir(exist_ok=True)
    if name in tiny_encoders.LAYOUTS:
        return tiny_encoders.build(tiny_encoders.LAYOUTS[name], folder)
    if name in tiny_decoders.LAYOUTS:
        return tiny_decoders.build(tiny_decoders.LAYOUTS[name], folder)
    return tiny.build(tiny.LAYOUTS[name], folder)


def vectors(folder: Path) -> tuple[Vectors, Vectors, Manifest]:
    """In one batch, one by one, and what is told of the model."""
    manifest = manifested(folder)
    backend = load(folder)
    inputs = prepare(backend, TEXTS.values())
    alone = np.concatenate([embed(backend, [item]) for item in inputs])
    return embed(backend, inputs), alone, manifest


def cosines(one: Vectors, other: Vectors) -> Vectors:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms)


# Least mean cosine with the plain model: the weights are random and large, so rounding shows.
SANE = {"affine8": 0.998, "mxfp8": 0.95, "affine4": 0.8, "nvfp4": 0.7, "mxfp4": 0.6}
MODELS = [
    "mean", "qwen3", "llama-mean", "mistral", "roberta-mean", "distilbert-mean", "mpnet-mean",
    "modernbert-mean", "nomic_bert-mean", "gemma3_text-mean",
]  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", MODELS)
def test_quantized_model(name: str, scheme: str, tmp_path: Path) -> None:
    chosen = SCHEMES[scheme]
    plain, _, _ = vectors(build(name, tmp_path / "plain"))
    folder = build(name, tmp_path / "quantized")
    quantized.quantize(folder, lambda layer: chosen)
    quantized.state(folder, chosen)
    found, alone, manifest = vectors(folder)
    shutil.copytree(folder, tmp_path / "restored")
    quantized.restore(tmp_path / "restored", lambda layer: chosen)
    restored, _, _ = vectors(tmp_path / "restored")

    assert manifest.quantization == chosen.facts()
    assert manifest.dtype == "float32"
    np.testing.assert_allclose(found, restored, rtol=0, atol=1e-4 * np.abs(restored).max())
    np.testing.assert_allclose(alone, found, rtol=0, atol=1e-5 * np.abs(found).max())
    assert SANE[scheme] < cosines(found, plain).mean() < 1 - 1e-6


@pytest.mark.parametrize(("dtype", "scales"), [("fp16", "F16"), ("bf16", "BF16")])
def test_scales_in_half_precision(dtype: str, scales: str, tmp_path: Path) -> None:
    folder = tiny_decoders.build(tiny_decoders.LAYOUTS[f"qwen3-{dtype}"], tmp_path)
    plain, _, _ = vectors(folder)
    quantized.quantize(folder, lambda layer: EIGHT)
    quantized.state(folder, EIGHT)
    found, alone, manifest = vectors(folder)
    assert manifest.dtype == {"F16": "float16", "BF16": "bfloat16"}[scales]
    np.testing.assert_allclose(alone, found, rtol=0, atol=1e-5)
    assert cosines(found, plain).min() > 0.99


def _mixed(layer: str) -> Scheme | None:
    if "embed_tokens" in layer:
        return EIGHT
    return None if "layers.1." in layer else FOUR


def test_layers_of_their_own(tmp_path: Path) -> None:
    folder = _language_model(tmp_path)
    quantized.quantize(folder, _mixed)
    of_layers = {"model.embed_tokens": EIGHT.facts(), "model.layers.1.mlp.up_proj": False}
    quantized.state(folder, FOUR, **of_layers)
    found, _, manifest = vectors(folder)
    assert manifest.quantization == {**FOUR.facts(), "mixed": True}
    quantized.restore(folder, _mixed)
    np.testing.assert_allclose(found, vectors(folder)[0], rtol=0, atol=1e-4)


def _language_model(folder: Path) -> Path:
    """Named as in a repository of a causal language model."""
    return tiny_decoders.build(tiny_decoders.Layout("qwen3", prefix="model."), folder)


def test_other_modes_of_single_layers(tmp_path: Path) -> None:
    def choice(layer: str) -> Scheme:
        return SCHEMES["mxfp4"] if layer.endswith("gate_proj") else SCHEMES["mxfp8"]

    folder = _language_model(tmp_path)
    quantized.quantize(folder, choice)
    gates = [f"model.layers.{layer}.mlp.gate_proj" for layer in range(2)]
    quantized.state(folder, SCHEMES["mxfp8"], **dict.fromkeys(gates, SCHEMES["mxfp4"].facts()))
    found, _, _ = vectors(folder)
    quantized.restore(folder, choice)
    np.testing.assert_allclose(found, vectors(folder)[0], rtol=0, atol=1e-4)


# --- what does not fit together ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (None, "is part of a layer that is not quantized here"),
        ({"bits": 8, "group_size": 32}, "has the shape"),
        ({"bits": 4, "group_size": 16}, "does not support"),
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, "is part of a layer that is not"),
        ({"bits": 4, "group_size": 32, "embed_tokens": False}, "is part of a layer that is not"),
        ({"bits": 4, "group_size": 32, "mode": "gguf"}, "cannot be read"),
        ({"bits": "4", "group_size": 32}, "cannot be read"),
        ({"bits": 4, "group_size": 32, "mode": ["affine"]}, "cannot be read"),
        ("4bit", "cannot be read"),
    ],
)
def test_statement_that_the_weights_contradict(stated: Any, message: str, tmp_path: Path) -> None:
    folder = build("qwen3", tmp_path)
    quantized.quantize(folder, lambda layer: FOUR)
    tiny_decoders.change_config(folder, quantization=stated)
    with pytest.raises(ServeError, match=re.escape(message)):
        manifested(folder)


@pytest.mark.parametrize(
    ("missing", "message"), [("scales", "not quantized here"), ("biases", "lack 1 of")]
)
def test_part_of_a_layer_that_is_missing(missing: str, message: str, tmp_path: Path) -> None:
    folder = build("qwen3", tmp_path)
    quantized.quantize(folder, lambda layer: FOUR)
    quantized.state(folder, FOUR)
    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    del tensors[f"layers.0.mlp.up_proj.{missing}"]
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    with pytest.raises(ServeError, match=message):
        manifested(folder)


def test_packed_values_of_another_type(tmp_path: Path) -> None:
    folder = build("qwen3", tmp_path)
    quantized.quantize(folder, lambda layer: FOUR)
    quantized.state(folder, FOUR)
    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    name = "layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].astype(mx.float32)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    with pytest.raises(ServeError, match="is stored as F32"):
        manifested(folder)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_formats_of_others_are_refused(method: str, tmp_path: Path) -> None:
    folder = build("qwen3", tmp_path)
    tiny_decoders.change_config(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(ServeError, match=f"quantized by '{method}'"):
        manifested(folder)


def test_statement_without_quantized_weights(tmp_path: Path) -> None:
    folder = build("qwen3", tmp_path)
    quantized.state(folder, FOUR)
    assert manifested(folder).quantization is None
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_of_a_layer(scheme: str, tmp_path: Path) -> None:
    from mlx_serve_worker.models import decoder
    from mlx_serve_worker.weights import load as load_weights

    folder = build("qwen3", tmp_path)
    chosen = SCHEMES[scheme]
    quantized.quantize(folder, lambda layer: chosen)
    quantized.state(folder, chosen)
    config = json.loads((folder / "config.json").read_text())
    files = [folder / "model.safetensors"]
    model = decoder.build(config)
    quantize(model, config, files, decoder.parameter_name)
    load_weights(model, files, decoder.parameter_name)
    found = values(model.embed_tokens, mx.array([3, 1]))
    assert found.dtype == mx.float32
    np.testing.assert_array_equal(np.array(found), np.array(model.embed_tokens(mx.array([3, 1]))))
