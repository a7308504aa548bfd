"""Tiny decoders used as encoders, made from a seed: no download, no torch, the same bytes always.

Weights are large for their size, so that a wrong base, mask or token shows.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from tests.engine import byte_pairs, decoder_tensors, safetensors_file, texts

TEXTS = texts.TEXTS
WIDTH = 32
POSITIONS = 96
MAX_TOKENS = 64
START, END, PAD = "<|start|>", "<|endoftext|>", "<|pad|>"

Json = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """One way in which a repository can be laid out; a None in ``config`` takes a key away."""

    model_type: str
    config: Json = field(default_factory=dict)
    pooling: str = "lasttoken"
    include_prompt: bool = True
    normalize: bool = True
    before: str = ""
    after: str = END
    tokenizer: str = "words"
    """Split as Qwen does it, as other ``bytes``, or the pieces of a ``sentence``."""
    tokenizer_config: Json = field(default_factory=dict)
    prompts: Json | None = None
    dtype: str = "F32"
    prefix: str = ""
    shards: int = 1
    modules: bool = True
    max_seq_length: int | None = MAX_TOKENS
    scale: float = 2.0
    """Of the weights. Less where rounding would otherwise hide what is tested."""


def _class(name: str | None, **settings: Any) -> Json:
    return {"tokenizer_class": name, **settings}


def _sentence(model_type: str, name: str, **settings: Any) -> Layout:
    tokens = {"unk_token": "<unk>", "bos_token": START}
    return Layout(
        model_type,
        before=START,
        after="",
        tokenizer="sentence",
        tokenizer_config=_class(name, **tokens, **settings),
    )


_ROPE = {"rope_theta": 5000.0, "rope_type": "default"}
_ABSENT = {"rope_theta": None}
_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
_WINDOW = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
_NO_CAUSE = {"is_causal": False}
_PROMPTS = {"prompts": {"query": "Instruct: find\nQuery: "}, "default_prompt_name": "query"}

LAYOUTS: dict[str, Layout] = {
    "qwen3": Layout("qwen3"),
    "qwen3-class": Layout("qwen3", tokenizer_config=_class("Qwen2Tokenizer")),
    "qwen3-other-bytes": Layout("qwen3", tokenizer="bytes"),
    "qwen3-class-other-bytes": Layout(
        "qwen3", tokenizer="bytes", tokenizer_config=_class("Qwen2TokenizerFast")
    ),
    "qwen3-no-class": Layout("qwen3", tokenizer="bytes", tokenizer_config=_class(None)),
    "qwen3-new-rope": Layout("qwen3", {**_ABSENT, "rope_parameters": _ROPE}),
    "qwen3-no-rope": Layout("qwen3", _ABSENT),
    "qwen3-yarn": Layout("qwen3", {"rope_scaling": _YARN}),
    "qwen3-yarn-factor": Layout(
        "qwen3",
        {"rope_parameters": {**_ROPE, **_YARN, "rope_type": "yarn", "attention_factor": 1.3}},
    ),
    "qwen3-window": Layout("qwen3", _WINDOW),
    "qwen3-layer-types": Layout(
        "qwen3", {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
    ),
    "qwen3-both-ways": Layout("qwen3", _NO_CAUSE, "mean"),
    "qwen3-both-ways-window": Layout("qwen3", {**_NO_CAUSE, **_WINDOW}, "mean"),
    "qwen3-mean": Layout("qwen3", pooling="mean", normalize=False),
    "qwen3-prompt": Layout("qwen3", prompts=_PROMPTS),
    "qwen3-prompt-left-out": Layout(
        "qwen3", pooling="mean", include_prompt=False, prompts=_PROMPTS
    ),
    "qwen3-no-end": Layout("qwen3", before=START, after=""),
    "qwen3-fp16": Layout("qwen3", dtype="F16", scale=1.0),
    "qwen3-bf16": Layout("qwen3", dtype="BF16", scale=1.0),
    "qwen3-causal-lm": Layout("qwen3", prefix="model.", shards=2),
    "qwen3-no-modules": Layout("qwen3", prefix="model.", modules=False, max_seq_length=None),
    "qwen3-beyond-positions": Layout("qwen3", {"max_position_embeddings": 40}),
    "qwen2": Layout("qwen2"),
    "qwen2-other-bytes": Layout("qwen2", tokenizer="bytes"),
    "qwen2-new-rope": Layout("qwen2", {**_ABSENT, "rope_parameters": _ROPE}),
    "qwen2-both-ways": Layout("qwen2", _NO_CAUSE, "mean"),
    "qwen2-window": Layout("qwen2", _WINDOW),
    "llama": Layout("llama", before=START),
    "llama-mean": Layout("llama", pooling="mean", before=START, after=""),
    "llama-weighted-mean": Layout("llama", pooling="weightedmean", normalize=False),
    "llama-new-rope": Layout("llama", {**_ABSENT, "rope_parameters": {**_ROPE, **_LLAMA3}}),
    "llama-llama3": Layout("llama", {"rope_scaling": _LLAMA3}),
    "llama-linear": Layout("llama", {"rope_scaling": {"type": "linear", "factor": 2.5}}),
    "llama-dynamic": Layout("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    "llama-biases": Layout("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-size": Layout("llama", {"head_dim": 12}),
    "llama-one-group-each": Layout("llama", {"num_key_value_heads": None}),
    "llama-both-ways": Layout("llama", _NO_CAUSE, "mean", before=START, after=""),
    "llama-class-bytes": Layout("llama", tokenizer_config=_class("LlamaTokenizerFast")),
    "llama-sentence": Layout("llama", before=START, tokenizer="sentence"),
    "llama-class": _sentence("llama", "LlamaTokenizer"),
    "llama-class-legacy": _sentence("llama", "LlamaTokenizerFast", legacy=True),
    "llama-class-no-space": _sentence("llama", "LlamaTokenizer", add_prefix_space=False),
    "llama-class-null": _sentence("llama", "LlamaTokenizer", add_prefix_space=None, legacy=None),
    "mistral-class": _sentence("mistral", "LlamaTokenizer"),
    "mistral": Layout("mistral", {"sliding_window": 6}, before=START),
    "mistral-no-window": Layout("mistral", {"sliding_window": None}, before=START),
    "mistral-usual-window": Layout("mistral", {"head_dim": None}),
    "mistral-both-ways": Layout("mistral", {**_NO_CAUSE, "sliding_window": 6}, "mean"),
}

LOW_PRECISION = {"qwen3-fp16": 1e-4, "qwen3-bf16": 1e-3}
"""How far the cosine may be from 1 where the reference itself computes in half precision."""


def build(layout: Layout, folder: Path) -> Path:
    """Write a model of that layout into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(layout)
    config = _config(layout, tokenizer.get_vocab_size())
    _write_json(folder / "config.json", config)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 1000,
            "eos_token": END,
            "pad_token": PAD,
            "padding_side": "left",
            **layout.tokenizer_config,
        },
    )
    _write_weights(folder, layout, config)
    if layout.max_seq_length is not None:
        settings = {"max_seq_length": layout.max_seq_length, "do_lower_case": False}
        _write_json(folder / "sentence_bert_config.json", settings)
    if layout.prompts is not None:
        _write_json(folder / "config_sentence_transformers.json", layout.prompts)
    if layout.modules:
        _write_modules(folder, layout)
    return folder


def read_config(folder: Path) -> Json:
    config: Json = json.loads((folder / "config.json").read_text())
    return config


def change_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes one."""
    config = read_config(folder) | changes
    config = {key: value for key, value in config.items() if value is not None}
    _write_json(folder / "config.json", config)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1))


def _config(layout: Layout, vocab_size: int) -> Json:
    class_name = layout.model_type.capitalize() + ("ForCausalLM" if layout.prefix else "Model")
    config: Json = {
        "architectures": [class_name],
        "model_type": layout.model_type,
        "vocab_size": vocab_size,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "hidden_act": "silu",
        "max_position_embeddings": POSITIONS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 2000.0,
        "tie_word_embeddings": False,
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[layout.dtype],
    }
    if layout.model_type == "qwen3":
        config["head_dim"] = 16
    config |= layout.config
    needless = {key for key, value in config.items() if value is None} - {"sliding_window"}
    return {key: value for key, value in config.items() if key not in needless}


# --- tokenizer -----------------------------------------------------------------------------------


def _tokenizer(layout: Layout) -> Tokenizer:
    tokenizer = byte_pairs.MADE[layout.tokenizer]((START, END, PAD))
    around = [token for token in (layout.before, layout.after) if token]
    # Even where it adds nothing: a tokenizer without one may be given one by the reference.
    tokenizer.post_processor = TemplateProcessing(
        single=" ".join(part for part in (layout.before, "$A", layout.after) if part),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in around],
    )
    return tokenizer


# --- weights -------------------------------------------------------------------------------------


def _write_weights(folder: Path, layout: Layout, config: Json) -> None:
    tensors = {
        layout.prefix + name: values
        for name, values in decoder_tensors.tensors(config, layout.scale)
    }
    if layout.prefix:
        tensors["lm_head.weight"] = np.ones((config["vocab_size"], WIDTH))
    if layout.shards == 1:
        safetensors_file.write(folder / "model.safetensors", tensors, layout.dtype)
        return
    names = list(tensors)
    files: dict[str, str] = {}
    for shard in range(layout.shards):
        file = f"model-{shard + 1:05}-of-{layout.shards:05}.safetensors"
        own = {name: tensors[name] for name in names[shard :: layout.shards]}
        safetensors_file.write(folder / file, own, layout.dtype)
        files |= dict.fromkeys(own, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})


# --- modules -------------------------------------------------------------------------------------


def _write_modules(folder: Path, layout: Layout) -> None:
    paths = ["", "1_Pooling", "2_Normalize"][: 3 if layout.normalize else 2]
    names = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{names[index]}",
        }
        for index, path in enumerate(paths)
    ]
    _write_json(folder / "modules.json", modules)
    _write_json(
        folder / "1_Pooling/config.json",
        {
            "word_embedding_dimension": WIDTH,
            f"pooling_mode_{_SWITCHES[layout.pooling]}": True,
            "include_prompt": layout.include_prompt,
        },
    )


_SWITCHES = {
    "lasttoken": "lasttoken",
    "mean": "mean_tokens",
    "weightedmean": "weightedmean_tokens",
}
