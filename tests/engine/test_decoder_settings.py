"""Decoders used as encoders: what their files may say, what is told of it, what is refused."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind, Normalize, Pooling
from mlx_serve_worker.inspection import Origin, inspect
from mlx_serve_worker.models import decoder, rope
from tests.engine import tiny_decoders
from tests.engine.models import embed, golden, load, manifested, prepare
from tests.engine.texts import TEXTS
from tests.engine.tiny_decoders import LAYOUTS, Layout, change_config

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("name", "key", "told"),
    [
        ("qwen3", "rope", "config.json: rope_theta"),
        ("qwen3-new-rope", "rope", "config.json: rope_parameters"),
        ("qwen3-no-rope", "rope", "no rope_theta: 10000, as the reference takes it"),
        ("qwen3-both-ways", "attention", "config.json: is_causal"),
        ("mistral-usual-window", "window", "no sliding_window: 4096, as the reference takes it"),
    ],
)
def test_choices_are_told(name: str, key: str, told: str, tmp_path: Path) -> None:
    manifest = manifested(tiny_decoders.build(LAYOUTS[name], tmp_path))
    assert manifest.decided[key] == told
    assert manifest.implementation == "mlx_lm"


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3", {"attention_bias": True}, "attention_bias"),
    ("qwen2", {"head_dim": 4}, "head_dim of 4"),
    ("llama", {"hidden_act": "gelu"}, "'gelu'"),
    ("llama", {"num_attention_heads": 3}, "3 heads"),
    ("mistral", {"num_key_value_heads": None}, "num_key_value_heads is missing"),
    ("llama", {"hidden_size": None}, "hidden_size"),
    ("llama", {"vocab_size": -1}, "vocab_size"),
    ("llama", {"max_position_embeddings": "many"}, "max_position_embeddings"),
    ("llama", {"is_causal": True, "use_bidirectional_attention": True}, "contradict"),
    ("qwen3", {"layer_types": ["full_attention"]}, "1 of 2 layers"),
    ("qwen3", {"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
    ("qwen3", {"layer_types": ["sliding_attention"] * 2}, "without a sliding_window"),
    ("llama", {"layer_types": ["sliding_attention"] * 2}, "without a sliding_window"),
    ("qwen3", {"rope_scaling": {"type": "longrope"}}, "'longrope'"),
    ("qwen3", {"rope_scaling": {"type": "mrope", "mrope_section": [1]}}, "'mrope'"),
    ("qwen3", {"rope_scaling": {"type": "linear"}}, "lacks factor"),
    ("qwen3", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "lacks low_freq_factor"),
    ("qwen3", {"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": False}}, "truncate"),
    ("qwen3", {"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "differ between"),
    ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("qwen3", {"rope_theta": -1.0}, "rope_theta"),
    ("qwen3", {"rope_theta": "1e6"}, "rope_theta"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_unfit_configuration_is_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tiny_decoders.build(LAYOUTS[name], tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ServeError, match=re.escape(message)) as refused:
        manifested(tmp_path)
    assert refused.value.code is ErrorCode.INVALID_MODEL


def test_other_way_to_say_both_ways(tmp_path: Path) -> None:
    tiny_decoders.build(LAYOUTS["qwen3-both-ways"], tmp_path)
    change_config(tmp_path, is_causal=None, use_bidirectional_attention=True)
    manifest = manifested(tmp_path)
    assert manifest.decided["attention"] == "config.json: use_bidirectional_attention"
    backend = load(tmp_path)
    vectors = embed(backend, prepare(backend, TEXTS.values()))
    expected = golden("tiny_decoders.json", "qwen3-both-ways").vectors
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


def test_usual_settings_are_those_of_the_reference() -> None:
    config = {"model_type": "qwen3", "max_position_embeddings": 8}
    assert rope.read_rope(config).theta == 10_000
    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    parsed = decoder._read({**config, **sizes, "num_hidden_layers": 1, "num_key_value_heads": 1})
    assert (parsed.head_size, parsed.windows, parsed.bidirectional) == (128, [None], False)
    mistral = msgspec.structs.replace(parsed, model_type="mistral")
    assert (mistral.head_size, mistral.windows) == (4, [4096])
    assert msgspec.structs.replace(mistral, sliding_window=None).windows == [None]


def test_class_joins_letters_and_accents(tmp_path: Path) -> None:
    manifested(tiny_decoders.build(LAYOUTS["qwen3-class-other-bytes"], tmp_path))
    apart, joined = prepare(load(tmp_path), ["cre\u0300me", "cr\u00e8me"])
    assert apart.token_ids == joined.token_ids


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        # As transformers 5.23 gives them.
        ("llama-class", [516, 370, 0, 286]),
        ("llama-class-legacy", [516, 370, 0, 371]),
        ("llama-class-no-space", [516, 285, 0, 286]),
    ],
)
def test_blanks_after_special_tokens(name: str, ids: list[int], tmp_path: Path) -> None:
    manifested(tiny_decoders.build(LAYOUTS[name], tmp_path))
    (prepared,) = prepare(load(tmp_path), ["a<unk>b"])
    assert prepared.token_ids == ids


@pytest.mark.parametrize(
    ("origin", "pipeline", "rule"),
    [
        (Origin("x", ModelKind.EMBEDDING), [Pooling(["lasttoken"])], "the default, lasttoken"),
        (
            Origin("Qwen3-Embedding-0.6B-4bit"),
            [Pooling(["lasttoken"]), Normalize()],
            "family 'qwen3-embedding'",
        ),
        (
            Origin("x", source="intfloat/e5-mistral-7b-instruct"),
            [Pooling(["lasttoken"]), Normalize()],
            "family 'e5-mistral'",
        ),
    ],
)
def test_language_model_without_modules(
    origin: Origin, pipeline: list[Any], rule: str, tmp_path: Path
) -> None:
    manifest = inspect(tiny_decoders.build(LAYOUTS["qwen3-no-modules"], tmp_path), origin).manifest
    assert (manifest.kind, manifest.pipeline) == (ModelKind.EMBEDDING, pipeline)
    assert rule in manifest.decided["pooling"]


def test_language_model_that_nobody_calls_an_encoder_is_none(tmp_path: Path) -> None:
    folder = tiny_decoders.build(LAYOUTS["qwen3-no-modules"], tmp_path)
    for origin in (Origin("x"), Origin("Qwen3-Embedding-0.6B", ModelKind.CHAT)):
        assert inspect(folder, origin).manifest.kind is ModelKind.CHAT


def test_language_model_that_looks_both_ways_is_averaged(tmp_path: Path) -> None:
    layout = Layout("qwen3", {"is_causal": False}, prefix="model.", modules=False)
    folder = tiny_decoders.build(layout, tmp_path)
    manifest = inspect(folder, Origin("x", ModelKind.EMBEDDING)).manifest
    assert manifest.pipeline == [Pooling(["mean"])]
