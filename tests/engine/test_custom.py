"""The worked examples of custom architectures: installed, loaded, computed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_common.events import decode_event
from mlx_serve_common.models import read_manifest
from mlx_serve_worker import custom_models
from mlx_serve_worker.backend_choice import make_backend
from mlx_serve_worker.backends.encoder import EncoderBackend
from tests.engine import nano, quantized, tiny_decoders
from tests.engine.models import embed, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano.EXAMPLES, tmp_path / "custom_models"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return nano.build("nano_encoder", tmp_path / "source")


@pytest.mark.parametrize("name", nano.PREFIXES)
def test_example_from_end_to_end(name: str, custom: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    arguments = {
        "source": nano.build(name, tmp_path / "source"),
        "models-dir": models,
        "name": "mine",
        "custom-models": custom,
    }
    job = subprocess.run(
        [sys.executable, "-P", "-m", "mlx_serve_worker.job", "import"]
        + [f"--{key}={value}" for key, value in arguments.items()],
        env={**os.environ, "PYTHONPATH": str(nano.ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    last = decode_event(job.stdout.splitlines()[-1])
    assert (last.error, last.status) == (None, "success"), job.stderr.decode()
    manifest = read_manifest(models / "mine")
    assert (manifest.implementation, manifest.architecture) == ("custom", name)
    assert manifest.decided["architecture"] == f"custom_models/{name}.py"
    backend = make_backend(models / "mine", custom)
    backend.load()
    assert isinstance(backend, EncoderBackend)
    found = nano.vectors(backend)
    assert found.shape == (len(TEXTS), tiny_decoders.WIDTH)


def test_encoder_computes_what_its_file_says(source: Path, custom: Path) -> None:
    nano.install(source, custom)
    backend = nano.load(source, custom)
    (item,) = prepare(backend, [TEXTS["english"]])
    tensors = {
        name.removeprefix("encoder."): np.asarray(value, np.float64)
        for name, value in quantized.read_weights(source).items()
    }
    found = embed(backend, [item])[0]
    np.testing.assert_allclose(found, _by_hand(tensors, item.token_ids), rtol=0, atol=1e-5)


def _by_hand(tensors: dict[str, Any], ids: list[int]) -> Any:
    def linear(name: str, x: Any) -> Any:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def heads(name: str, x: Any) -> Any:
        return linear(name, x).reshape(len(ids), 4, -1).swapaxes(0, 1)

    x = tensors["words.weight"][ids] + tensors["places.weight"][: len(ids)]
    for layer in ("layers.0", "layers.1"):
        seen = norm(f"{layer}.attention_norm", x)
        query, key, value = (
            heads(f"{layer}.attention.{part}_proj", seen) for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1]))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        x = x + linear(f"{layer}.attention.out_proj", mixed.swapaxes(0, 1).reshape(len(ids), -1))
        inner = linear(f"{layer}.expand", norm(f"{layer}.mlp_norm", x))
        x = x + linear(f"{layer}.contract", inner / (1 + np.exp(-inner)))
    pooled = norm("norm", x).mean(axis=0)
    return pooled / np.linalg.norm(pooled)


def test_nothing_is_left_out_by_chance(source: Path, custom: Path) -> None:
    path = custom / "nano_encoder.py"
    text = path.read_text().replace("return self.norm(x)", "return self.norm(self.dropout(x))")
    layer = "        self.dropout = nn.Dropout(0.5)\n        self.norm ="
    path.write_text(text.replace("        self.norm =", layer))
    nano.install(source, custom)
    nano.vectors(nano.load(source, custom))


def test_documentation_shows_the_example() -> None:
    text = (nano.ROOT / "docs/custom-models.md").read_text()
    for name in (*nano.PREFIXES, "nano_chat"):
        assert (nano.EXAMPLES / f"{name}.py").read_text() in text


@pytest.mark.parametrize("name", nano.PREFIXES)
def test_quantized_custom_model(name: str, custom: Path, tmp_path: Path) -> None:
    folder = nano.build(name, tmp_path / "source")
    nano.install(folder, custom)
    plain = nano.vectors(nano.load(folder, custom))
    eight = quantized.SCHEMES["affine8"]
    # What mlx-lm writes has gone through sanitize already.
    quantized.rename(folder, lambda stored: stored.removeprefix("transformer."))
    quantized.quantize(folder, lambda layer: eight)
    quantized.state(folder, eight)
    assert nano.install(folder, custom).quantization == eight.facts()
    assert ((nano.vectors(nano.load(folder, custom)) * plain).sum(axis=1)).min() > 0.99


def test_name_of_the_entry_point_group() -> None:
    assert custom_models.ENTRY_POINTS in (nano.ROOT / "docs/custom-models.md").read_text()
