"""Architectures that only mlx-embeddings knows: its classes, our pooling, the same checks."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker import architectures, mlx_embeddings_models
from mlx_serve_worker.models.library import LibraryEncoder
from mlx_serve_worker.verification import try_out
from tests.engine import quantized, safetensors_file, tiny_decoders
from tests.engine.models import Vectors, embed, golden, load, manifested, prepare
from tests.engine.python import run_python
from tests.engine.texts import TEXTS
from tests.engine.tiny_decoders import LAYOUTS, Layout, change_config

pytestmark = pytest.mark.engine


def bidirectional(folder: Path, **changes: Any) -> Path:
    """The weights of a llama that looks both ways, called by the library's name for it."""
    tiny_decoders.build(LAYOUTS["llama-both-ways"], folder)
    change_config(folder, **({"model_type": "llama_bidirec", "is_causal": None} | changes))
    return folder


def mixed(folder: Path, **changes: Any) -> Path:
    """An LFM2, whose layers are convolutions and attention in turn, with weights as published."""
    tiny_decoders.build(Layout("qwen3", pooling="mean"), folder)
    lfm2 = {
        "model_type": "lfm2",
        "num_hidden_layers": 3,
        "layer_types": ["conv", "full_attention", "conv"],
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 48,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "head_dim": None,
    }
    change_config(folder, **(lfm2 | changes))
    config = tiny_decoders.read_config(folder)
    code = mlx_embeddings_models.find("lfm2")
    assert code is not None
    random = np.random.RandomState(7)
    tensors = {}
    for name, parameter in dict(tree_flatten(code.build(config).parameters())).items():
        if name.startswith("dense"):
            continue
        values = random.standard_normal(parameter.shape) / np.sqrt(parameter.shape[-1])
        if parameter.ndim == 1:
            values = 1 + 0.1 * values
        if name.endswith("conv.conv.weight"):
            values = values.transpose(0, 2, 1)
        tensors[name.removeprefix("model.")] = values
    safetensors_file.write(folder / "model.safetensors", tensors)
    return folder


def vectors(folder: Path) -> tuple[Vectors, Vectors]:
    backend = load(folder)
    inputs = prepare(backend, TEXTS.values())
    return embed(backend, inputs), np.concatenate([embed(backend, [item]) for item in inputs])


@pytest.mark.parametrize(
    "changes", [{}, {"rope_theta": None, "rope_parameters": {"rope_theta": 2000.0}}]
)
def test_library_class_under_our_pooling(changes: dict[str, Any], tmp_path: Path) -> None:
    manifest = manifested(bidirectional(tmp_path, **changes))
    assert manifest.implementation == "mlx_embeddings"
    assert manifest.decided["architecture"] == "mlx_embeddings"
    expected = golden("tiny_decoders.json", "llama-both-ways").vectors
    for found in vectors(tmp_path):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_values_are_reshaped_by_the_library(tmp_path: Path) -> None:
    manifest = manifested(mixed(tmp_path))
    assert (manifest.architecture, manifest.dimensions) == ("lfm2", tiny_decoders.WIDTH)
    together, alone = vectors(tmp_path)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("scheme", ["affine8", "mxfp8"])
def test_quantized(scheme: str, tmp_path: Path) -> None:
    chosen = quantized.SCHEMES[scheme]
    manifested(mixed(tmp_path))
    plain, _ = vectors(tmp_path)
    quantized.quantize(tmp_path, lambda layer: chosen)
    quantized.state(tmp_path, chosen)
    assert manifested(tmp_path).quantization == chosen.facts()
    together, alone = vectors(tmp_path)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert (together * plain).sum(axis=1).mean() > 0.98


def test_fault_of_the_library_is_caught_before_installing(tmp_path: Path) -> None:
    # It makes its mask in the type of the embedding, which is an integer once that is quantized.
    quantized.quantize(bidirectional(tmp_path), lambda layer: quantized.SCHEMES["affine8"])
    quantized.state(tmp_path, quantized.SCHEMES["affine8"])
    manifested(tmp_path)
    with pytest.raises(ServeError, match="another result in a batch than alone"):
        try_out(tmp_path)


# --- refused -------------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(ServeError) as refused:
        manifested(folder)
    assert refused.value.code is ErrorCode.INVALID_MODEL
    return refused.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "xlnet"}, "'xlnet' cannot be served; these can: bert, "),
        ({"model_type": "base"}, "'base' cannot be served"),
        ({"model_type": "siglip", "vision_config": {"a": 1}}, "also read images"),
        ({"rope_theta": None}, "no rope_theta"),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default"}}, "cannot use"),
        ({"vocab_size": 0}, "no usable vocab_size"),
        ({"num_attention_heads": "four"}, "config.json cannot be used by the model's code"),
        ({"hidden_size": 64}, "has the shape"),
    ],
)
def test_unfit_configuration(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in refusal(bidirectional(tmp_path, **changes))


def test_weights_that_are_missing(tmp_path: Path) -> None:
    folder = bidirectional(tmp_path)
    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    del tensors["layers.1.mlp.up_proj.weight"]
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    assert "lack 1 of" in refusal(folder)


def test_installed_model_whose_library_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifested(bidirectional(tmp_path))
    monkeypatch.setattr(mlx_embeddings_models, "find", lambda model_type: None)
    with pytest.raises(ServeError, match="cannot be served"):
        load(tmp_path)


class _Arguments:
    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> Any:
        return SimpleNamespace(hidden_size=4, vocab_size=9, max_position_embeddings=8)


class _Model(nn.Module):
    def __init__(self, arguments: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.embed = nn.Embedding(9, 4)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda model, ids, mask: model.embed(ids)[:, 1:], "gives (1, 1, 4) for two tokens"),
        (lambda model, ids, mask: None, "gives None for two tokens"),
        (lambda model, ids, mask: model.secret, "the model cannot be used by the model's code"),
    ],
)
def test_class_that_gives_something_else(forward: Any, message: str) -> None:
    module: Any = SimpleNamespace(Model=_Model, ModelArgs=_Arguments)
    with pytest.raises(ServeError, match=re.escape(message)) as refused:
        LibraryEncoder(module, {}, forward)
    assert "secret" not in refused.value.message


# --- imports -------------------------------------------------------------------------------------

_IMPORTS = """
import resource, sys
from pathlib import Path
from mlx_serve_common.wire import Embed
from mlx_serve_worker.backends.encoder import EncoderBackend
before = resource.getrlimit(resource.RLIMIT_NOFILE)
backend = EncoderBackend(Path(sys.argv[1]))
backend.load()
assert None not in backend.forward(backend.prepare(Embed([1], ["a"], "base64", "right")))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
heavy = {"transformers", "mlx_vlm", "mlx_lm.utils", "mlx_embeddings.utils", "huggingface_hub"}
print(sorted(heavy & sys.modules.keys()), "mlx_embeddings.models" in sys.modules)
"""


def test_worker_imports_the_model_class_and_nothing_heavy(tmp_path: Path) -> None:
    manifested(bidirectional(tmp_path))
    assert run_python(_IMPORTS, str(tmp_path)) == "[] True\n"


def test_architecture_of_ours_never_asks_the_library() -> None:
    assert architectures.choose("llama", None).implementation == "mlx_lm"
    assert architectures.choose("bert", None).implementation == "own"
