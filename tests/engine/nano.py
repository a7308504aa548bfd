"""Tiny models of the architectures that the documentation adds as its worked examples."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
from mlx.utils import tree_flatten

from mlx_serve_common.models import MANIFEST_FILE, Manifest
from mlx_serve_worker.backends.encoder import EncoderBackend
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import safetensors_file, tiny_decoders
from tests.engine.models import Vectors, embed, prepare
from tests.engine.texts import TEXTS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/custom_models"
PREFIXES = {"nano_encoder": "encoder.", "nano_decoder": "transformer."}


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name: str, folder: Path) -> Path:
    """A model as somebody would publish it for that example."""
    tiny_decoders.build(tiny_decoders.Layout("qwen3", pooling="mean"), folder)
    tiny_decoders.change_config(folder, model_type=name, architectures=["Nano"])
    config = tiny_decoders.read_config(folder)
    module = example(name)
    if name == "nano_encoder":
        model = module.build(config)
    else:
        model = module.Model(module.ModelArgs.from_dict(config))
    random = np.random.RandomState(11)
    tensors = {
        PREFIXES[name] + parameter: random.standard_normal(value.shape) / value.shape[-1] ** 0.5
        for parameter, value in dict(tree_flatten(model.parameters())).items()
    }
    tensors["pretraining_head.weight"] = np.ones((3, 3))
    safetensors_file.write(folder / "model.safetensors", tensors)
    return folder


def install(source: Path, custom: Path | None) -> Manifest:
    """Inspect, and leave the manifest there."""
    manifest = inspect(source, Origin("mine", custom_models=custom)).manifest
    (source / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    return manifest


def load(folder: Path, custom: Path | None) -> EncoderBackend:
    backend = EncoderBackend(folder, custom)
    backend.load()
    return backend


def vectors(backend: EncoderBackend) -> Vectors:
    inputs = prepare(backend, TEXTS.values())
    together = embed(backend, inputs)
    alone = np.concatenate([embed(backend, [item]) for item in inputs])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    return together
