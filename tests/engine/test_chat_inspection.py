"""A chat model's repository to its manifest: what it is, what it can do, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import GenerationDefaults, Manifest, ModelKind, Thinking
from mlx_serve_worker.inspection import Origin, appraise, inspect
from tests.engine import quantized, safetensors_file
from tests.engine.tiny_chat import CONTEXT, chat_template, write_chat_repository

pytestmark = pytest.mark.engine

Json = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_chat_repository(tmp_path / "source")


def found(folder: Path, kind: ModelKind | None = None) -> Manifest:
    return inspect(folder, Origin("tiny", kind)).manifest


def refusal(folder: Path, code: ErrorCode = ErrorCode.INVALID_MODEL) -> str:
    with pytest.raises(ServeError) as refused:
        found(folder)
    assert refused.value.code is code
    assert str(folder) not in refused.value.message
    return refused.value.message


def change(path: Path, **changes: Any) -> None:
    values = (json.loads(path.read_text()) if path.exists() else {}) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


# --- what it is ----------------------------------------------------------------------------------


def test_manifest_of_a_chat_model(folder: Path) -> None:
    manifest = found(folder)
    assert (manifest.kind, manifest.backend) == (ModelKind.CHAT, "generator")
    assert (manifest.architecture, manifest.implementation) == ("qwen3", "mlx_lm")
    assert (manifest.max_tokens, manifest.dtype, manifest.quantization) == (
        CONTEXT,
        "float32",
        None,
    )
    chat = manifest.chat
    assert chat is not None
    assert chat.template == chat_template("qwen3")
    assert chat.variables == ["add_generation_prompt", "enable_thinking", "messages", "tools"]
    assert chat.thinking == Thinking("<think>", "</think>", "enable_thinking")
    assert (chat.tool_parser, chat.does_tools, chat.thinks) == ("json_tools", True, True)
    assert chat.defaults == GenerationDefaults(temperature=0.6, top_p=0.95, top_k=20)
    assert (chat.ends, chat.vocabulary, chat.width) == ([416, 418], 425, 64)
    # Two layers, two heads of 32 numbers, keys and values, four bytes each.
    assert (chat.kv_bytes_per_token, chat.kv_bytes_fixed) == (2 * 2 * 32 * 2 * 4, 0)
    stored = quantized.read_weights(folder)
    assert chat.parameters == sum(value.size for value in stored.values())


def test_model_that_calls_tools_but_does_not_think(tmp_path: Path) -> None:
    chat = found(write_chat_repository(tmp_path, "qwen2", shards=3)).chat
    assert chat is not None
    assert (chat.does_tools, chat.thinks) == (True, False)
    assert chat.defaults.repetition_penalty == 1.05


def test_model_that_only_talks(tmp_path: Path) -> None:
    manifest = found(write_chat_repository(tmp_path, "llama", dtype="BF16"))
    chat = manifest.chat
    assert chat is not None
    assert (chat.has_template, chat.does_tools, chat.thinks) == (True, False, False)
    assert chat.defaults == GenerationDefaults()
    assert chat.ends == [418]
    assert (manifest.dtype, chat.kv_bytes_per_token) == ("bfloat16", 2 * 2 * 16 * 2 * 2)


def test_model_without_a_template_only_continues(tmp_path: Path) -> None:
    chat = found(write_chat_repository(tmp_path, template=None)).chat
    assert chat is not None
    assert (chat.has_template, chat.does_tools, chat.thinks) == (False, False, False)


def test_thinking_takes_a_template_that_knows_of_it(tmp_path: Path) -> None:
    """Its vocabulary alone says nothing: models of one family share it."""
    chat = found(write_chat_repository(tmp_path, template=chat_template("qwen2"))).chat
    assert chat is not None and chat.thinking is None
    opens = chat_template("llama") + "<think>"
    always = found(write_chat_repository(tmp_path, template=opens)).chat
    assert always is not None
    assert always.thinking == Thinking("<think>", "</think>", None)


def test_person_who_says_chat_is_believed_where_nothing_contradicts(folder: Path) -> None:
    change(folder / "config.json", architectures=None)
    assert found(folder, ModelKind.CHAT).kind is ModelKind.CHAT
    assert found(folder, ModelKind.CHAT).decided["kind"] == "given at install time"
    change(folder / "config.json", architectures=["Qwen3ForSequenceClassification"])
    with pytest.raises(ServeError, match=r"not of type chat: .* makes it reranker"):
        found(folder, ModelKind.CHAT)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("chat_template.jinja", "chat_template.jinja"),
        ("chat_template.json", "tokenizer_config.json: chat_template"),
    ],
)
def test_template_of_several_places(file: str, place: str, folder: Path) -> None:
    text = "{{ messages[0].content }}"
    (folder / file).write_text(text if file.endswith(".jinja") else json.dumps({"x": text}))
    manifest = found(folder)
    assert manifest.decided["template"] == place


def test_named_templates(folder: Path) -> None:
    named = [{"name": "rag", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]
    change(folder / "tokenizer_config.json", chat_template=named)
    chat = found(folder).chat
    assert chat is not None and chat.template == "{{ messages }}"


def test_ends_of_an_answer(folder: Path) -> None:
    change(folder / "generation_config.json", eos_token_id=None)
    change(folder / "config.json", eos_token_id=[1, 2])
    change(folder / "tokenizer_config.json", eos_token={"content": "<|im_start|>"})
    manifest = found(folder)
    assert manifest.chat is not None and manifest.chat.ends == [1, 2, 417]
    assert manifest.decided["ends"] == "config.json, tokenizer_config.json"


def test_sampling_that_the_publisher_turned_off(folder: Path) -> None:
    change(folder / "generation_config.json", do_sample=False, top_k=0, top_p=None)
    chat = found(folder).chat
    assert chat is not None and chat.defaults == GenerationDefaults(temperature=0.0)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, CONTEXT),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": CONTEXT
                }
            },
            4 * CONTEXT,
        ),
    ],
)  # fmt: skip
def test_context_of_stretched_positions(config: Json, length: int, folder: Path) -> None:
    change(folder / "config.json", **config)
    assert found(folder).max_tokens == length


def test_what_a_conversation_takes_where_layers_look_back_over_a_window(tmp_path: Path) -> None:
    layers = ["full_attention", "sliding_attention"]
    folder = write_chat_repository(tmp_path, "llama", layer_types=layers, sliding_window=128)
    chat = found(folder).chat
    assert chat is not None
    of_a_layer = 2 * 16 * 2 * 4
    assert (chat.kv_bytes_per_token, chat.kv_bytes_fixed) == (of_a_layer, 128 * of_a_layer)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("tokenizer_config.json", {"chat_template": "{% if %}"}, "is no template"),
        ("tokenizer_config.json", {"chat_template": "{{" + "(" * 30_000}, "is no template"),
        ("tokenizer_config.json", {"chat_template": "x" * 70_000}, "is no text of 64 KiB"),
        ("tokenizer_config.json", {"chat_template": 5}, "is no text of 64 KiB"),
        ("tokenizer_config.json", {"tool_parser_type": "..utils"}, "tool_parser_type"),
        ("tokenizer_config.json", {"chat_template_type": "os"}, "chat_template_type"),
        ("generation_config.json", {"temperature": -1}, "generation_config.json"),
        ("generation_config.json", {"top_p": "high"}, "generation_config.json"),
        ("generation_config.json", {"eos_token_id": ["x"]}, "eos_token_id"),
        ("config.json", {"max_position_embeddings": -1}, "impossible max_position_embeddings"),
    ],
)
def test_settings_that_make_no_sense(file: str, changes: Json, message: str, folder: Path) -> None:
    change(folder / file, **changes)
    assert message in refusal(folder)
    with pytest.raises(ServeError):
        appraise(folder, Origin("tiny"))


# --- architectures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_type", ["..utils", "utils", "base", "cache", "switch_layers", "os", "__init__"]
)
def test_name_that_is_no_model_of_mlx_lm(model_type: str, folder: Path) -> None:
    change(folder / "config.json", model_type=model_type)
    assert "mlx-lm does not know them" in refusal(folder)


def test_model_of_mlx_lm_that_needs_another_package(folder: Path) -> None:
    change(folder / "config.json", model_type="olmo")
    assert "'olmo' needs a package that is not installed" in refusal(folder)


def test_name_that_mlx_lm_knows_by_another(folder: Path, tmp_path: Path) -> None:
    source = write_chat_repository(tmp_path / "mistral", "llama", model_type="mistral")
    decided = found(source).decided["architecture"]
    assert decided == "config.json: model_type; mlx_lm.models.llama"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is more than"),
        ({"text_config": {"n_layers": 10**9}}, "n_layers is more than"),
        ({"layer_types": ["full_attention"] * 5000}, "layer_types has 5000 elements"),
        ({"num_attention_heads": 10**9}, "num_attention_heads is more than"),
        ({"vocab_size": 10**12}, "config.json cannot be used"),
        ({"vocab_size": 10**9}, "has the shape [425, 64], config.json says [1000000000, 64]"),
        ({"hidden_size": "wide"}, "config.json cannot be used"),
        ({"num_hidden_layers": 3}, "the weights lack 11 of 35 parameters"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized by 'awq'"),
    ],
)
def test_config_that_does_not_fit_the_weights(changes: Json, message: str, folder: Path) -> None:
    before = mx.get_peak_memory()
    change(folder / "config.json", **changes)
    assert message in refusal(folder)
    assert mx.get_peak_memory() - before < 64 * 1024**2


def test_code_of_the_repository(folder: Path) -> None:
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    assert "auto_map" in refusal(folder, ErrorCode.UNSAFE_MODEL)
    change(folder / "config.json", auto_map=None, model_file="mine.py")
    assert "model_file" in refusal(folder, ErrorCode.UNSAFE_MODEL)


# --- quantized repositories ----------------------------------------------------------------------


def _mixed(name: str) -> quantized.Scheme | None:
    if "embed" in name:
        return None
    return quantized.SCHEMES["affine8" if "v_proj" in name else "affine4"]


@pytest.mark.parametrize(
    ("choice", "stated", "facts"),
    [
        (lambda name: quantized.SCHEMES["affine4"], {}, {"bits": 4}),
        (lambda name: quantized.SCHEMES["mxfp4"], {}, {"mode": "mxfp4"}),
        (
            _mixed,
            {
                f"model.layers.{layer}.self_attn.v_proj": quantized.SCHEMES["affine8"].facts()
                for layer in range(2)
            },
            {"mixed": True},
        ),
    ],
    ids=["4bit", "mxfp4", "mixed"],
)
def test_weights_in_mlx_format(
    choice: Callable[[str], quantized.Scheme | None], stated: Json, facts: Json, folder: Path
) -> None:
    plain = found(folder).chat
    quantized.quantize(folder, choice)
    general = choice("model.layers.0.self_attn.q_proj")
    assert general is not None
    quantized.state(folder, general, **stated)
    manifest = found(folder)
    assert (manifest.quantization or {}).items() >= facts.items()
    assert manifest.chat is not None and plain is not None
    assert manifest.chat.parameters == plain.parameters


def test_experts_are_put_together_from_their_parts(tmp_path: Path) -> None:
    """Repositories have a tensor for each expert, mlx-lm one for all of them."""
    folder = write_chat_repository(tmp_path)
    sizes = {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
    }  # fmt: skip
    change(folder / "config.json", model_type="qwen3_moe", **sizes)
    from mlx_lm.models import qwen3_moe

    config = json.loads((folder / "config.json").read_text())
    of_mlx_lm: Any = qwen3_moe
    model = of_mlx_lm.Model(of_mlx_lm.ModelArgs.from_dict(config))
    stored = {}
    for name, value in dict(tree_flatten(model.parameters())).items():
        if "switch_mlp" in name:
            for expert in range(4):
                part = name.replace("switch_mlp", f"experts.{expert}")
                stored[part] = value[expert]
        else:
            stored[name] = value
    mx.save_safetensors(str(folder / "model.safetensors"), stored)
    manifest = found(folder)
    assert manifest.architecture == "qwen3_moe"
    assert "unused_weights" not in manifest.decided


def test_weights_of_something_else_are_told(folder: Path) -> None:
    import numpy as np

    safetensors_file.write(folder / "extra.safetensors", {"vision.weight": np.ones((2, 2))})
    (folder / "model.safetensors").rename(folder / "main.safetensors")
    assert found(folder).decided["unused_weights"] == "vision.weight"
