"""Quantizing an installed model: what is kept, what is written, how far the answers move."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlx_serve_common.conversion import Conversion, scheme
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import Manifest, ModelKind, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker import converting, packing, weights
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from mlx_serve_worker.quantizing import Wish, quantize_model
from tests.engine import (
    nano,
    test_fallback,
    tiny,
    tiny_decoders,
    tiny_encoders,
    tiny_judges,
    tiny_rerankers,
)
from tests.engine.models import Vectors, embed, load, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine

Build = Callable[[Path], object]


def built(module: Any, name: str) -> Any:
    return pytest.param(lambda folder: module.build(module.LAYOUTS[name], folder), id=name)


EMBEDDING = [
    *(
        built(tiny, name)
        for name in (
            "cls", "prompt", "prompt-left-out", "dense-tanh", "normalized-then-dense",
            "three-modes", "fp16", "bf16", "masked-lm", "sharded", "in-a-folder", "no-modules",
        )
    ),
    *(built(tiny_encoders, f"{name}-mean") for name in tiny_encoders.FAMILIES),
    *(built(tiny_decoders, name) for name in ("qwen3", "qwen2", "llama", "mistral")),
]  # fmt: skip
RERANKER = [
    built(tiny_rerankers, name)
    for name in ("bert", "bert-prompted", "deberta-v2", "modernbert", "xlm-roberta-two-labels")
] + [built(tiny_judges, name) for name in ("tied", "untied")]

KEPT = (
    "kind", "architecture", "implementation", "backend", "source", "revision", "dimensions",
    "max_tokens", "lower_case", "normalizer", "tokenizer", "transformer_folder", "pipeline", "head",
    "prompts", "default_prompt", "dtype",
)  # fmt: skip


def quiet(event: JobEvent) -> None:
    pass


def installed(tmp_path: Path, build: Build, kind: ModelKind | None = None) -> Store:
    build(tmp_path / "source")
    store = Store(tmp_path / "models")
    origin = Origin("bge-tiny", kind, source="org/bge-tiny", revision="c0ffee")
    install(tmp_path / "source", store, origin, "refuse", quiet)
    return store


def eight_bits(**more: Any) -> Wish:
    said = {"model": "bge-tiny", "mode": None, "bits": 8, "group_size": 32, "dtype": None} | more
    wanted = scheme(said.pop("mode"), said.pop("bits"), said.pop("group_size"))
    return Wish(conversion=Conversion(wanted, said.pop("dtype")), **said)


def quantized(store: Store, **wish: Any) -> Manifest:
    return quantize_model(store, eight_bits(**wish), quiet)


def assert_kept(store: Store, made: Manifest) -> None:
    original = read_manifest(store.models_dir / "bge-tiny")
    assert {fact: getattr(made, fact) for fact in KEPT} == {
        fact: getattr(original, fact) for fact in KEPT
    }
    assert made == read_manifest(store.models_dir / made.name)
    assert made.files.keys() >= {
        name for name in original.files if not name.endswith(".index.json")
    }
    for name, record in made.files.items():
        stored = (store.models_dir / made.name / name).stat()
        assert stored.st_size == record.size
        changed = name.endswith(("config.json", ".safetensors", ".index.json"))
        assert changed or record == original.files[name]
    assert made.converted_from == "bge-tiny"
    assert made.original_size == original.size_bytes
    assert made.quantized_size == made.size_bytes == sum(each.size for each in made.files.values())
    assert made.weights_bytes < original.weights_bytes


@pytest.mark.parametrize("build", EMBEDDING)
def test_embedding_model(build: Build, tmp_path: Path) -> None:
    store = installed(tmp_path, build)
    made = quantized(store)
    assert made.name == "bge-tiny-8bit"
    assert made.quantization == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert_kept(store, made)
    assert made.quality is not None
    assert made.quality.texts == 100
    assert (made.quality.min_cosine or 0) > 0.95
    assert (made.quality.mean_cosine or 0) > 0.99
    cosines = (_vectors(store, "bge-tiny") * _vectors(store, made.name)).sum(axis=1)
    assert cosines.min() > 0.95
    # Equal to the last digit would mean that nothing was quantized.
    assert cosines.min() < 1 - 1e-9


def _vectors(store: Store, name: str) -> Vectors:
    backend = load(store.models_dir / name)
    texts = [text for key, text in TEXTS.items() if key not in ("empty", "blanks")]
    vectors = embed(backend, prepare(backend, texts)).astype(np.float64)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize("build", RERANKER)
def test_reranker(build: Build, tmp_path: Path) -> None:
    store = installed(tmp_path, build, ModelKind.RERANKER)
    made = quantized(store)
    assert_kept(store, made)
    assert made.quality is not None
    assert (made.quality.rank_correlation or 0) > 0.97
    assert 0 < (made.quality.mean_score_diff or 0) < (made.quality.max_score_diff or 0) < 0.05
    stored = weights.read_header(store.models_dir / made.name / "model.safetensors")
    assert not [each.name for each in stored if "classifier" in each.name and "scales" in each.name]


@pytest.mark.parametrize(
    ("wish", "name", "facts"),
    [
        ({"bits": 4}, "bge-tiny-4bit", (32, 4, "affine")),
        ({"bits": None, "group_size": None, "mode": "mxfp4"}, "bge-tiny-mxfp4", (32, 4, "mxfp4")),
        ({"bits": 8, "group_size": None, "mode": "mxfp8"}, "bge-tiny-mxfp8", (32, 8, "mxfp8")),
        ({"bits": 4, "group_size": 16, "mode": "nvfp4"}, "bge-tiny-nvfp4", (16, 4, "nvfp4")),
        ({"name": "작은"}, "작은", (32, 8, "affine")),
    ],
)
def test_modes_and_names(
    wish: dict[str, Any], name: str, facts: tuple[int, int, str], tmp_path: Path
) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["mean"], folder))
    made = quantized(store, **wish)
    assert made.name == name
    expected = dict(zip(("group_size", "bits", "mode"), facts, strict=True))
    config = json.loads((store.models_dir / name / "config.json").read_bytes())
    assert made.quantization == config["quantization"] == config["quantization_config"] == expected
    original = json.loads((store.models_dir / "bge-tiny/config.json").read_bytes())
    assert config.items() >= original.items()
    quality = made.quality
    assert quality is not None
    assert 0.8 < (quality.min_cosine or 0) < (quality.mean_cosine or 0) < 1


def test_code_of_a_library_and_of_a_person(tmp_path: Path) -> None:
    store = installed(tmp_path / "library", test_fallback.mixed)
    made = quantized(store)
    assert made.implementation == "mlx_embeddings"
    assert made.quality is not None and (made.quality.mean_cosine or 0) > 0.98

    source = nano.build("nano_encoder", tmp_path / "source")
    store = Store(tmp_path / "models")
    origin = Origin("bge-tiny", custom_models=nano.EXAMPLES)
    install(source, store, origin, "refuse", quiet)
    made = quantized(store, custom_models=nano.EXAMPLES)
    assert made.implementation == "custom"
    assert made.quality is not None and (made.quality.mean_cosine or 0) > 0.98


def test_stored_names_are_those_of_the_repository(tmp_path: Path) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["sharded"], folder))
    made = quantized(store)
    before, after = (
        {
            each.name: each
            for path in weights.weight_files(store.models_dir / name)
            for each in weights.read_header(path)
        }
        for name in ("bge-tiny", made.name)
    )
    packed = {name.removesuffix(".scales") for name in after if name.endswith(".scales")}
    added = {f"{name}.{part}" for name in packed for part in ("scales", "biases")}
    assert after.keys() == before.keys() | added
    assert all(after[f"{name}.weight"].dtype == "U32" for name in packed)
    assert "embeddings.word_embeddings" in packed
    # 48 wide, which groups of 32 do not divide.
    assert "encoder.layer.0.output.dense" not in packed
    assert made.plain_layers == 2
    assert "pooler.dense" not in packed
    index = json.loads((store.models_dir / made.name / weights.INDEX_FILE).read_bytes())
    assert index["weight_map"] == {name: each.file.name for name, each in after.items()}


@pytest.mark.parametrize(
    ("wish", "code", "message"),
    [
        ({"group_size": None}, ErrorCode.INVALID_REQUEST, "try a smaller group size"),
        ({"bits": 5}, ErrorCode.INVALID_REQUEST, "choose 4 or 8"),
        ({"group_size": 16}, ErrorCode.INVALID_REQUEST, "choose 32, 64 or 128"),
        ({"mode": "mxfp4"}, ErrorCode.INVALID_REQUEST, "always has 4 bits"),
        ({"mode": "gguf"}, ErrorCode.INVALID_REQUEST, "no mode"),
        ({"name": "../x"}, ErrorCode.INVALID_REQUEST, "cannot be a model's name"),
        ({"name": "bge-tiny"}, ErrorCode.INVALID_REQUEST, "already"),
        ({"name": "BGE-Tiny"}, ErrorCode.INVALID_REQUEST, "only in spelling"),
        ({"model": "absent"}, ErrorCode.MODEL_NOT_FOUND, "absent"),
        ({"model": "../models/bge-tiny"}, ErrorCode.INVALID_REQUEST, "name"),
    ],
)
def test_refusals(wish: dict[str, Any], code: ErrorCode, message: str, tmp_path: Path) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["mean"], folder))
    before = _listing(store)
    with pytest.raises(ServeError, match=message) as caught:
        quantized(store, **wish)
    assert caught.value.code is code
    assert _listing(store) == before


def _listing(store: Store) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in store.models_dir.glob("[!.]*/**/*")
        if path.is_file()
    }


def test_neither_quantized_nor_changed_models_are_quantized(tmp_path: Path) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["mean"], folder))
    made = quantized(store)
    with pytest.raises(ServeError, match="convert its original"):
        quantized(store, model=made.name)
    (store.models_dir / "bge-tiny/vocab.txt").unlink(missing_ok=True)
    (store.models_dir / "bge-tiny/tokenizer.json").write_text("{}")
    with pytest.raises(ServeError, match="was changed"):
        quantized(store, bits=4)


def test_an_original_that_is_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["mean"], folder))
    pack = packing.pack

    def replacing(*arguments: Any) -> Any:
        packed = pack(*arguments)
        other = tiny.build(tiny.LAYOUTS["relu"], tmp_path / "other")
        install(other, store, Origin("bge-tiny"), "replace", quiet)
        return packed

    monkeypatch.setattr(packing, "pack", replacing)
    with pytest.raises(ServeError, match="replaced meanwhile"):
        quantized(store)
    assert not (store.models_dir / "bge-tiny-8bit").exists()


def test_a_quantized_model_that_fails_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["mean"], folder))

    def failing(*arguments: object) -> None:
        raise ServeError(ErrorCode.INVALID_MODEL, "fails its trial run")

    monkeypatch.setattr(converting, "try_out", failing)
    with pytest.raises(ServeError, match="trial"):
        quantized(store)
    assert [path.name for path in store.models_dir.glob("[!.]*/")] == ["bge-tiny"]


def test_progress(tmp_path: Path) -> None:
    store = installed(tmp_path, lambda folder: tiny.build(tiny.LAYOUTS["sharded"], folder))
    events: list[JobEvent] = []
    quantize_model(store, eight_bits(), events.append)
    stages = list(dict.fromkeys(event.status for event in events))
    assert stages == ["resolving", "verifying", "quantizing"]
    packed = [event for event in events if event.status == "quantizing"]
    assert [event.completed for event in packed] == sorted(event.completed or 0 for event in packed)
    assert len(packed) == 3
    assert all(msgspec.json.encode(event) for event in events)
