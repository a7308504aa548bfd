"""A tiny chat model of the architecture that the documentation adds as its worked example."""

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from tests.engine import nano
from tests.engine.tiny_chat import write_chat_repository


def build(folder: Path) -> Path:
    """As somebody would publish it."""
    write_chat_repository(folder, model_type="nano_chat", architectures=["NanoForCausalLM"])
    module = nano.example("nano_chat")
    config = json.loads((folder / "config.json").read_text())
    model = module.Model(module.ModelArgs.from_dict(config))
    key = mx.random.key(7)
    stored = {}
    for name, value in dict(tree_flatten(model.parameters())).items():
        key, own = mx.random.split(key)
        spread = 2 * value.shape[-1] ** -0.5
        stored[name.replace("model.", "backbone.")] = mx.random.normal(
            value.shape, scale=spread, key=own
        )
    mx.save_safetensors(str(folder / "model.safetensors"), stored)
    return folder
