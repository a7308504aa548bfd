"""The worked example of a custom chat architecture: installed, computed, quantized, refused."""

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.chat import Plain, Sampling
from mlx_serve_common.conversion import Conversion, scheme
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_common.store import Store
from mlx_serve_worker.backends.generator import GeneratorBackend
from mlx_serve_worker.chat_model import load_chat_model
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from mlx_serve_worker.quantizing import Wish, quantize_model
from tests.engine import nano, nano_chat, quantized
from tests.engine.chat.conversing import begin
from tests.engine.tiny_chat import write_chat_repository

pytestmark = pytest.mark.engine

Array = np.ndarray[Any, Any]


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano.EXAMPLES, tmp_path / "custom_models"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return nano_chat.build(tmp_path / "source")


def installed(source: Path, custom: Path | None, name: str = "mine") -> Manifest:
    store = Store(source.parent / "models")
    return install(source, store, Origin(name, custom_models=custom), "refuse", lambda event: None)


def test_example_is_installed(source: Path, custom: Path) -> None:
    manifest = installed(source, custom)
    assert (manifest.implementation, manifest.architecture) == ("custom", "nano_chat")
    assert manifest.decided["architecture"] == "custom_models/nano_chat.py"
    assert manifest.verified is not None and manifest.verified.passed
    assert "your own code" in manifest.verified.not_checked[0]
    chat = manifest.chat
    assert chat is not None
    # One head of 16 numbers in each of two layers.
    assert (chat.does_tools, chat.kv_bytes_per_token) == (True, 2 * 16 * 2 * 4)


def test_example_computes_what_its_file_says(source: Path, custom: Path) -> None:
    installed(source, custom)
    model, _ = load_chat_model(source.parent / "models/mine", custom)
    ids = [5, 17, 300, 42, 7]
    found = np.array(model.logits(mx.array([ids]), model.new_cache())[0])
    np.testing.assert_allclose(found, _by_hand(source, ids), rtol=0, atol=1e-3)


def _by_hand(source: Path, ids: list[int]) -> Array:
    stored = {
        name.removeprefix("backbone."): np.asarray(value, np.float64)
        for name, value in quantized.read_weights(source).items()
    }

    def norm(name: str, x: Array) -> Array:
        size = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return np.asarray(x / size * stored[f"{name}.weight"])

    def rotated(x: Array) -> Array:
        half = x.shape[-1] // 2
        angles = np.arange(len(ids))[:, None] * 10000.0 ** (-np.arange(half) / half)
        one, other = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([one * cos - other * sin, one * sin + other * cos], -1)

    def sigmoid(x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    x = stored["embed_tokens.weight"][ids]
    for layer in ("layers.0", "layers.1"):

        def linear(name: str, x: Array, layer: str = layer) -> Array:
            return x @ stored[f"{layer}.{name}.weight"].T

        seen = norm(f"{layer}.attention_norm", x)
        queries = linear("attention.queries", seen).reshape(len(ids), 4, 16).swapaxes(0, 1)
        keys, values = np.split(linear("attention.key_value", seen), 2, -1)
        scores = rotated(queries) @ rotated(keys).T / 4
        scores[:, *np.triu_indices(len(ids), 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        attended = (weights / weights.sum(-1, keepdims=True)) @ values
        merged = attended.swapaxes(0, 1).reshape(len(ids), 64)
        x = x + linear("attention.out", sigmoid(linear("attention.gate", seen)) * merged)
        seen = linear("expand", norm(f"{layer}.mlp_norm", x))
        x = x + linear("contract", seen * sigmoid(seen))
    return np.asarray(norm("norm", x) @ stored["embed_tokens.weight"].T)


def test_example_is_quantized(source: Path, custom: Path) -> None:
    installed(source, custom)
    wish = Wish("mine", Conversion(scheme("affine", 8, None)), custom_models=custom)
    made = quantize_model(Store(source.parent / "models"), wish, lambda event: None)
    assert made.implementation == "custom"
    assert made.quality is not None and (made.quality.mean_divergence or 1) < 0.1


def test_without_its_file_it_is_refused(source: Path) -> None:
    with pytest.raises(ServeError, match="'nano_chat' cannot be served"):
        installed(source, None)


def test_what_mlx_lm_has_is_not_shadowed(custom: Path, tmp_path: Path) -> None:
    (custom / "nano_chat.py").rename(custom / "llama.py")
    source = write_chat_repository(tmp_path / "llama", "llama")
    with pytest.raises(ServeError, match=r"custom_models/llama\.py offers 'llama', .* built in"):
        installed(source, custom)


def test_file_in_the_models_folder_is_not_run(source: Path, custom: Path) -> None:
    (custom / "nano_chat.py").rename(source / "nano_chat.py")
    with pytest.raises(ServeError, match="'nano_chat' cannot be served"):
        installed(source, custom)


def test_module_without_a_model(source: Path, custom: Path) -> None:
    (custom / "nano_chat.py").write_text("ModelArgs = 1\n")
    with pytest.raises(ServeError, match="no Model and ModelArgs"):
        installed(source, custom)


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("offset=before", "offset=0", "when it is read token by token"),
        ("mask=mask", "mask=None", "another successor in a batch"),
    ],
)
def test_mistakes_that_verification_finds(
    written: str, instead: str, message: str, source: Path, custom: Path
) -> None:
    path = custom / "nano_chat.py"
    text = path.read_text()
    assert written in text
    path.write_text(text.replace(written, instead))
    with pytest.raises(ServeError, match=message):
        installed(source, custom)


def test_example_answers_alone_as_beside_others(source: Path, custom: Path) -> None:
    installed(source, custom)
    prompts = {1: "A short one", 2: "Another, which is quite a bit longer: " * 4, 3: "x"}
    together = _answers(source.parent / "models/mine", custom, prompts)
    for id, prompt in prompts.items():
        alone = _answers(source.parent / "models/mine", custom, {id: prompt})
        assert alone == {id: together[id]}


def _answers(folder: Path, custom: Path, prompts: dict[int, str]) -> dict[int, str]:
    backend = GeneratorBackend(folder, custom)
    backend.load()
    for id, prompt in prompts.items():
        begin(backend, id, Plain(prompt), Sampling(max_tokens=12, temperature=0.0))
    said = dict.fromkeys(prompts, "")
    while not backend.is_idle:
        step = backend.step()
        assert not step.failed
        for id, delta in step.said:
            said[id] += delta.text
    return said
