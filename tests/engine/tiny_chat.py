"""Tiny chat models made from a seed: no download, no torch, the same bytes on every machine.

``qwen3`` reasons and calls tools, ``qwen2`` calls tools, ``llama`` does neither and brings no
generation defaults. They say nothing sensible, but always the same.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from tests.engine import byte_pairs, decoder_tensors, safetensors_file

if TYPE_CHECKING:
    from mlx_serve_common.models import Manifest

Json = dict[str, Any]

CONTEXT = 4096
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (END_OF_TEXT, START, END)
THOUGHTS = ("<think>", "</think>")
CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

_TEMPLATES = Path(__file__).parent / "chat_templates"
_TOKENS = {"qwen3": (*CALLS, *THOUGHTS), "qwen2": CALLS, "llama": ()}
_CLASSES = {
    "qwen3": "Qwen2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "llama": "PreTrainedTokenizerFast",
}
_GENERATION: dict[str, Json] = {
    "qwen3": {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
    "qwen2": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.05},
}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SCALE = 2.0


def chat_template(architecture: str) -> str:
    return (_TEMPLATES / f"{architecture}.jinja").read_text()


def write_chat_repository(
    folder: Path,
    architecture: str = "qwen3",
    seed: int = 0,
    *,
    template: str | None = "",
    dtype: str = "F32",
    shards: int = 1,
    **config: Any,
) -> Path:
    """Write a model as somebody would publish it.

    ``template`` is the chat template, "" for the architecture's own, None for none; ``config``
    changes keys of config.json, None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = chat_tokenizer(architecture)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = _config(architecture, tokenizer, dtype) | config
    settings = {key: value for key, value in settings.items() if value is not None}
    _write_json(folder / "config.json", settings)
    _write_template(
        folder, architecture, chat_template(architecture) if template == "" else template
    )
    if defaults := _GENERATION.get(architecture):
        ends = [tokenizer.token_to_id(token) for token in (END, END_OF_TEXT)]
        _write_json(folder / "generation_config.json", {"eos_token_id": ends, **defaults})
    _write_weights(folder, settings, seed, dtype, shards)
    return folder


def install_chat_model(
    models_dir: Path, name: str, architecture: str = "qwen3", seed: int = 0, **overrides: Any
) -> "Manifest":
    """Write such a model and import it into a store, as a job does."""
    # Here, because golden values are made where there is no MLX.
    from mlx_serve_common.store import Store
    from mlx_serve_worker.inspection import Origin
    from mlx_serve_worker.installation import install

    with tempfile.TemporaryDirectory() as made:
        source = write_chat_repository(Path(made), architecture, seed, **overrides)
        return install(source, Store(models_dir), Origin(name), "refuse", lambda event: None)


def chat_tokenizer(architecture: str) -> Tokenizer:
    made = byte_pairs.MADE["words"](SPECIALS)
    made.add_tokens(list(_TOKENS[architecture]))
    return made


def _config(architecture: str, tokenizer: Tokenizer, dtype: str) -> Json:
    config: Json = {
        "architectures": [f"{architecture.capitalize()}ForCausalLM"],
        "model_type": architecture,
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": architecture != "llama",
        "eos_token_id": tokenizer.token_to_id(END),
        "bos_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "dtype": _DTYPES[dtype],
    }
    return config | ({"head_dim": 32} if architecture == "qwen3" else {})


def _write_template(folder: Path, architecture: str, template: str | None) -> None:
    """Where the publishers of each kind put it."""
    settings: Json = {
        "tokenizer_class": _CLASSES[architecture],
        "model_max_length": 131072,
        "eos_token": END,
        "pad_token": END_OF_TEXT,
    }
    if template is not None and architecture == "llama":
        (folder / "chat_template.jinja").write_text(template)
    elif template is not None:
        settings["chat_template"] = template
    _write_json(folder / "tokenizer_config.json", settings)


def _write_weights(folder: Path, config: Json, seed: int, dtype: str, shards: int) -> None:
    tensors = {
        f"model.{name}": values for name, values in decoder_tensors.tensors(config, _SCALE, seed)
    }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"][::-1]
    if shards == 1:
        safetensors_file.write(folder / "model.safetensors", tensors, dtype)
        return
    files: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        own = {name: tensors[name] for name in list(tensors)[shard::shards]}
        safetensors_file.write(folder / file, own, dtype)
        files |= dict.fromkeys(own, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1))
