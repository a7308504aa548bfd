"""What the files of an encoder may say: limits, refusals, and code that is named but never run."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_common.store import Store
from mlx_serve_worker.inspection import Origin, inspect
from mlx_serve_worker.installation import install
from mlx_serve_worker.models.attention import behind, nearby
from mlx_serve_worker.models.mpnet import bucket
from tests.engine import safetensors_file, tiny_encoders
from tests.engine.encoder_configs import CONFIGS, MAX_TOKENS
from tests.engine.encoder_tensors import TENSORS
from tests.engine.models import embed, golden, load, manifested, prepare
from tests.engine.tiny_encoders import LAYOUTS

pytestmark = pytest.mark.engine


def changed(name: str, folder: Path, **config: Any) -> Path:
    tiny_encoders.build(LAYOUTS[name], folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**read(path), **config}))
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def refusal(folder: Path) -> str:
    with pytest.raises(ServeError) as refused:
        inspect(folder, Origin("x"))
    assert refused.value.code in (ErrorCode.INVALID_MODEL, ErrorCode.UNSAFE_MODEL)
    return refused.value.message


def manifest(folder: Path) -> Manifest:
    return inspect(folder, Origin("x")).manifest


# --- lengths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        # The padding token's place, and those before it, are no places for text.
        ("roberta-positions", 66 - 2),
        ("mpnet-positions", 66 - 2),
        ("roberta-mean", MAX_TOKENS),
        # Places that are computed have no end: a setting may go beyond config.json.
        ("nomic_bert-long", 120),
        ("xlm-roberta-no-modules", 40),
    ],
)
def test_longest_input(name: str, limit: int, tmp_path: Path) -> None:
    assert manifest(tiny_encoders.build(LAYOUTS[name], tmp_path)).max_tokens == limit


@pytest.mark.parametrize("name", ["modernbert-mean", "gemma3_text-mean", "nomic_bert-mean"])
def test_without_a_setting_the_configuration_limits(name: str, tmp_path: Path) -> None:
    folder = changed(name, tmp_path, max_position_embeddings=33)
    (folder / "sentence_bert_config.json").unlink()
    assert manifest(folder).max_tokens == 33


def test_angles_that_depend_on_the_batch_are_never_computed(tmp_path: Path) -> None:
    folder = changed(
        "nomic_bert-older-form", tmp_path, rotary_scaling_factor=2, max_trained_positions=41
    )
    assert manifest(folder).max_tokens == 41


# --- settings that are not known -----------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("roberta-mean", {"pad_token_id": None}, "leaves no positions"),
    ("roberta-mean", {"pad_token_id": 65}, "leaves no positions"),
    ("roberta-mean", {"position_embedding_type": "relative_key"}, "relative_key"),
    ("roberta-mean", {"is_decoder": True}, "decoder"),
    ("roberta-mean", {"num_attention_heads": 5}, "5 heads"),
    ("roberta-mean", {"hidden_act": "mystery"}, "mystery"),
    ("distilbert-mean", {"dim": "32"}, "dim"),
    ("distilbert-mean", {"n_heads": 5}, "5 heads"),
    ("mpnet-mean", {"relative_attention_num_buckets": 16}, "buckets"),
    ("mpnet-mean", {"max_position_embeddings": 2}, "no positions"),
    ("modernbert-mean", {"layer_types": ["full_attention"]}, "1 of 4 layers"),
    ("modernbert-mean", {"layer_types": ["chunked_attention"] * 4}, "chunked_attention"),
    ("modernbert-mean", {"rope_parameters": {"full_attention": 3}}, "full_attention"),
    ("modernbert-mean", {"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
    ("nomic_bert-older-form", {"activation_function": "gelu"}, "activation_function"),
    ("nomic_bert-older-form", {"prenorm": True}, "prenorm"),
    ("nomic_bert-older-form", {"causal": True}, "causal"),
    ("nomic_bert-older-form", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction"),
    ("nomic_bert-older-form", {"rotary_emb_interleaved": True}, "interleaved"),
    ("nomic_bert-older-form", {"num_experts": 8}, "num_experts"),
    ("nomic_bert-older-form", {"qkv_proj_bias": True}, "lack"),
    ("nomic_bert-mean", {"head_dim": 12}, "head_dim"),
    ("gemma3_text-mean", {"attn_logit_softcapping": 50.0}, "softcapping"),
    ("gemma3_text-mean", {"num_key_value_heads": 3}, "3 groups"),
    ("gemma3_text-mean", {"layer_types": ["full_attention"]}, "1 of 3 layers"),
    ("gemma3_text-mean", {"head_dim": 13}, "13 dimensions cannot be rotated"),
    ("gemma3_text-mean", {"sliding_window": None}, "sliding_window"),
]


@pytest.mark.parametrize(("name", "config", "message"), REFUSED)
def test_unknown_settings_are_refused(
    name: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(changed(name, tmp_path, **config))


def test_older_nomic_settings_decide_sizes(tmp_path: Path) -> None:
    assert "shape" in refusal(changed("nomic_bert-older-form", tmp_path, n_inner=40))


def test_biases_of_older_nomic_files_are_added(tmp_path: Path) -> None:
    switched = {"qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True}
    folder = changed("nomic_bert-older-form", tmp_path, **switched)
    sizes = {**CONFIGS["nomic_bert"], "vocab_size": read(folder / "config.json")["vocab_size"]}
    tensors = dict(TENSORS["nomic_bert"](sizes))
    without = golden("tiny_encoders.json", "nomic_bert-mean").vectors
    for part, rows in (("attn.Wqkv", 96), ("attn.out_proj", 32), ("mlp.fc11", 48),
                       ("mlp.fc12", 48), ("mlp.fc2", 32)):  # fmt: skip
        for layer in range(2):
            tensors[f"encoder.layers.{layer}.{part}.bias"] = np.zeros(rows)
    for part in ("", "attn.Wqkv", "attn.out_proj", "mlp.fc11", "mlp.fc12", "mlp.fc2"):
        bias = tensors[f"encoder.layers.0.{part}.bias"] if part else np.zeros(1)
        bias[: len(bias) // 2] = 0.5
        safetensors_file.write(folder / "model.safetensors", tensors)
        manifested(folder)
        backend = load(folder)
        vectors = embed(backend, prepare(backend, tiny_encoders.TEXTS.values()))
        bias[:] = 0
        assert (np.abs(vectors - without).max() > 1e-3) == bool(part), part


# --- code that a repository names ----------------------------------------------------------------


@pytest.fixture
def booby_trapped(tmp_path: Path) -> Path:
    """A real repository of its kind has such files; these would tell if they were run."""
    folder = changed("nomic_bert-older-form", tmp_path / "source")
    for name in ("modeling_hf_nomic_bert", "configuration_hf_nomic_bert", "nomic_bert", "conftest"):
        code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        (folder / f"{name}.py").write_text(code)
    return folder


def test_code_that_is_written_anew_here_is_neither_run_nor_copied(
    booby_trapped: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    installed = install(booby_trapped, store, Origin("nomic"), "refuse", lambda _: None)
    backend = load(tmp_path / "store" / "nomic")
    embed(backend, prepare(backend, ["a"]))
    assert not (tmp_path / "ran").exists()
    assert not [*(tmp_path / "store").rglob("*.py")]
    assert "config.json: auto_map is not heeded" in installed.decided["code"]


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.NomicBertModelX"}}, "auto_map"),
        ("config.json", {"auto_map": {"AutoConfig": "a.NomicBertConfig"}}, "auto_map"),
        ("config.json", {"auto_map": ["a.NomicBertModel"]}, "auto_map"),
        ("config.json", {"model_type": "bert"}, "auto_map"),
        ("config.json", {"model_file": "evil.py"}, "model_file"),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "x.NomicBertModel"}}}, "auto"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T", None]}}, "auto_map"),
    ],
)
def test_any_other_code_is_refused(
    file: str, changes: dict[str, Any], message: str, booby_trapped: Path
) -> None:
    path = booby_trapped / file
    path.write_text(json.dumps({**read(path), **changes}))
    assert message in refusal(booby_trapped)


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [0, 1, 3, 6, 7, 20])
@pytest.mark.parametrize("lengths", [[8], [8, 8], [8, 1, 3, 5]])
def test_near_tokens(reach: int, lengths: list[int]) -> None:
    longest = max(lengths)
    real = mx.arange(longest)[None, :] < mx.array(lengths)[:, None]
    mask = nearby(longest, reach, real if min(lengths) < longest else None)
    seen = np.ones((len(lengths), longest, longest), bool)
    if mask is not None:
        seen = np.broadcast_to(np.array(mask), (len(lengths), 1, longest, longest))[:, 0]
    places = np.arange(longest)
    for text, length in enumerate(lengths):
        wanted = abs(places[:, None] - places[None]) <= reach
        np.testing.assert_array_equal(seen[text, :length, :length], wanted[:length, :length])
        assert not seen[text, :length, length:].any()
    # A row that sees nothing is what half-precision kernels make NaN of.
    assert seen.any(axis=-1).all()


def test_tokens_behind() -> None:
    assert np.array(behind(4, 1)).astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]
    assert np.array(behind(4, None)).sum() == 10


def test_ranges_of_distance() -> None:
    # The first distance of each range, as in the reference.
    firsts = [*range(8), 8, 12, 16, 23, 32, 46, 64, 91]
    for index, first in enumerate(firsts):
        assert bucket(-first) == index
        assert bucket(first) == (16 + index if first else 0)
        assert bucket(1 - first) == max(index - 1, 0) or first < 2
    assert bucket(-100_000) == 15
