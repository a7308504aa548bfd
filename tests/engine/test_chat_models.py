"""Chat models in the store: installed, verified, quantized, and the same as mlx-lm's own."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.utils import load_model

from mlx_serve_common.conversion import Conversion, scheme
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Manifest, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker.chat_model import load_chat_model
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from mlx_serve_worker.models.language_model import LanguageModel
from mlx_serve_worker.quantizing import Wish, quantize_model
from mlx_serve_worker.reverification import reverify
from tests.engine import quantized
from tests.engine.tiny_chat import install_chat_model, write_chat_repository

pytestmark = pytest.mark.engine

IDS = [5, 17, 300, 301, 42, 7, 7, 9]


def logits(model: LanguageModel) -> mx.array:
    return model.logits(mx.array([IDS]), model.new_cache()).astype(mx.float32)


def logits_of_mlx_lm(folder: Path) -> mx.array:
    model, _ = load_model(folder)
    found: mx.array = model(mx.array([IDS])).astype(mx.float32)
    return found


def quantize(models: Path, name: str, bits: int) -> Manifest:
    wish = Wish(name, Conversion(scheme("affine", bits, 32)))
    return quantize_model(Store(models), wish, lambda event: None)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])
def test_installed_model_is_the_one_that_mlx_lm_loads(
    architecture: str, dtype: str, tmp_path: Path
) -> None:
    manifest = install_chat_model(tmp_path, "tiny", architecture, dtype=dtype, shards=2)
    verified = manifest.verified
    assert verified is not None and verified.passed
    assert (verified.finite, verified.template_ok) == (True, True)
    assert verified.batch_max_diff is not None and verified.step_max_diff is not None
    model, _ = load_chat_model(tmp_path / "tiny", None)
    assert mx.array_equal(logits(model), logits_of_mlx_lm(tmp_path / "tiny"))


def test_verification_in_full(tmp_path: Path) -> None:
    install_chat_model(tmp_path, "tiny")
    verified = reverify(tmp_path / "tiny", lambda event: None)
    assert verified.passed
    assert read_manifest(tmp_path / "tiny").verified == verified
    assert len(verified.not_checked) == 1


def test_model_without_a_template_is_installed(tmp_path: Path) -> None:
    verified = install_chat_model(tmp_path, "tiny", template=None).verified
    assert verified is not None
    assert (verified.passed, verified.template_ok) == (True, None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("numbers", "its logits are not finite"),
        ("template", "its chat template cannot put a conversation into words"),
    ],
)
def test_model_that_does_not_work_is_not_installed(
    spoil: str, message: str, tmp_path: Path
) -> None:
    template = "{{ raise_exception('never') }}" if spoil == "template" else ""
    source = write_chat_repository(tmp_path / "source", template=template)
    if spoil == "numbers":
        stored = quantized.read_weights(source)
        stored["model.norm.weight"] *= float("nan")
        mx.save_safetensors(str(source / "model.safetensors"), stored)
    with pytest.raises(ServeError, match=message):
        install(source, Store(tmp_path / "models"), Origin("tiny"), "refuse", lambda event: None)
    assert Store(tmp_path / "models").installed("tiny") is None


def test_quantized_model(tmp_path: Path) -> None:
    original = install_chat_model(tmp_path, "tiny")
    made = {bits: quantize(tmp_path, "tiny", bits) for bits in (8, 4)}
    fine, coarse = made[8], made[4]
    assert (fine.name, coarse.name) == ("tiny-8bit", "tiny-4bit")
    assert fine.chat == original.chat
    assert fine.quality is not None and coarse.quality is not None
    assert (fine.quality.texts, fine.quality.rank_correlation) == (100, None)
    assert (fine.quality.same_token or 0) > (coarse.quality.same_token or 1)
    assert 0 < (fine.quality.mean_divergence or 0) < (coarse.quality.mean_divergence or 0)
    assert fine.verified is not None and fine.verified.template_ok
    for file in ("tokenizer_config.json", "tokenizer.json", "generation_config.json"):
        assert fine.files[file] == original.files[file]
    model, _ = load_chat_model(tmp_path / "tiny-4bit", None)
    assert mx.array_equal(logits(model), logits_of_mlx_lm(tmp_path / "tiny-4bit"))


def test_layers_that_the_models_code_wants_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mlx-lm's mixtures of experts want eight bits for what chooses the experts."""
    from mlx_lm.models import qwen3

    def choose(path: str, layer: Any) -> bool | dict[str, int]:
        if path.endswith("k_proj"):
            return False
        return {"group_size": 64, "bits": 8} if path.endswith("v_proj") else True

    monkeypatch.setattr(qwen3.Model, "quant_predicate", staticmethod(choose), raising=False)
    install_chat_model(tmp_path, "tiny")
    made = quantize(tmp_path, "tiny", 4)
    assert made.quantization is not None and made.quantization["mixed"] is True
    stored = quantized.read_weights(tmp_path / "tiny-4bit")
    assert "model.layers.0.self_attn.k_proj.scales" not in stored
    # Of 64 numbers: 16 words of 32 bits at 8 bits, 8 words at 4 bits.
    assert stored["model.layers.0.self_attn.v_proj.weight"].shape == (64, 16)
    assert stored["model.layers.0.self_attn.q_proj.weight"].shape == (128, 8)
    model, _ = load_chat_model(tmp_path / "tiny-4bit", None)
    assert mx.array_equal(logits(model), logits_of_mlx_lm(tmp_path / "tiny-4bit"))


def test_large_model_is_quantized_in_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_serve_worker import packing

    monkeypatch.setattr(packing, "_FILE_BYTES", 20_000)
    install_chat_model(tmp_path, "tiny")
    made = quantize(tmp_path, "tiny", 8)
    weights = [name for name in made.files if name.endswith(".safetensors")]
    assert len(weights) > 2 and "model.safetensors.index.json" in made.files
    assert made.verified is not None and made.verified.passed


def test_other_type_takes_another_room(tmp_path: Path) -> None:
    original = install_chat_model(tmp_path, "tiny")
    wish = Wish("tiny", Conversion(dtype="bfloat16"))
    made = quantize_model(Store(tmp_path), wish, lambda event: None)
    assert original.chat is not None and made.chat is not None
    assert made.chat.kv_bytes_per_token == (original.chat.kv_bytes_per_token or 0) // 2
