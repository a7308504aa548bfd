"""Tiny encoders of every architecture but BERT, made from a seed; BERT's layouts are in ``tiny``.

Weights are large for their size, so that a wrong window, angle, position or mask shows in the first
digits. A layout differs from the plain one of its architecture in what its files say.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine import safetensors_file, texts, tiny, tiny_tokenizers
from tests.engine.encoder_configs import CONFIGS, MAX_TOKENS, OLDER_NOMIC
from tests.engine.encoder_tensors import TENSORS
from tests.engine.tiny import Dense
from tests.engine.tokenizer_families import FAMILIES as FAMILIES

Json = dict[str, Any]

TEXTS = {
    **{key: texts.TEXTS[key] for key in ("short", "empty", "english", "korean", "emoji", "blanks")},
    "specials": "a <mask> and <s> the </s> end <pad> of [MASK] it",
    "long": texts.TEXTS["long"],
}


@dataclass(frozen=True)
class Layout(tiny.Layout):
    """``config`` adds keys to those of the architecture, or takes them away by None."""

    architecture: str = ""
    transformer: Json | None = field(default_factory=lambda: {"max_seq_length": MAX_TOKENS})
    form: str = ""
    """Which of its forms the tokenizer file has, where there are several."""
    unused: str = ""
    """A tensor that an embedding does not need."""


_CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
_E5 = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}
_NOMIC = {
    "prompts": {"query": "search_query: ", "document": "search_document: "},
    "default_prompt_name": "document",
}
_GEMMA = {
    "prompts": {"query": "task: search result | query: ", "document": "title: none | text: "},
    "default_prompt_name": None,
}
_ROPE = {"rope_type": "default", "rope_theta": 5000.0}
_NEAR = {"rope_type": "default", "rope_theta": 100.0}
_NEW_ROPE = {"full_attention": _ROPE, "sliding_attention": _NEAR}
_LINEAR = {"rope_type": "linear", "factor": 2.5, "rope_theta": 300.0}
_YARN = {
    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24, "rope_theta": 5000.0
}  # fmt: skip
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32, "rope_theta": 300.0,
}  # fmt: skip


def _layouts(architecture: str, **variants: Json) -> dict[str, Layout]:
    usual = {"mean": {}, "fp16": {"dtype": "F16"}, "bf16": {"dtype": "BF16"}}
    return {
        f"{architecture}-{name.replace('_', '-')}": Layout(architecture=architecture, **changes)
        for name, changes in {**usual, **variants}.items()
    }


LAYOUTS: dict[str, Layout] = {
    **_layouts(
        "roberta",
        cls={"pooling": _CLS},
        other_padding={"config": {"pad_token_id": 4, "max_position_embeddings": 67}},
        masked_lm={"prefix": "roberta.", "unused": "lm_head.layer_norm.weight"},
        prefix_space={"form": "prefix-space", "tokenizer_config": {"add_prefix_space": True}},
        all_positions={"transformer": {"max_seq_length": 64}},
        positions={"transformer": None},
        lower_case={"transformer": {"max_seq_length": MAX_TOKENS, "do_lower_case": True}},
    ),
    **_layouts(
        "xlm-roberta",
        cls={"pooling": _CLS, "form": "newer"},
        e5={"prompts": _E5, "form": "plain"},
        sharded={"shards": 2, "pooling": {"pooling_mode": "max"}},
        no_modules={
            "modules": None,
            "transformer": None,
            "tokenizer_config": {"model_max_length": 40},
        },
    ),
    **_layouts("camembert"),
    **_layouts(
        "distilbert",
        dense={"modules": ("Pooling", "Dense"), "dense": (Dense(24),), "pooling": _CLS},
        masked_lm={"prefix": "distilbert.", "unused": "vocab_layer_norm.weight"},
        relu={"config": {"activation": "relu"}},
    ),
    **_layouts(
        "mpnet",
        masked_lm={"prefix": "mpnet.", "unused": "lm_head.layer_norm.weight"},
        cased={"tokenizer_config": {"do_lower_case": False}},
        all_positions={"transformer": {"max_seq_length": 64}},
        positions={"transformer": None},
    ),
    **_layouts(
        "modernbert",
        cls={"pooling": _CLS, "modules": ("Pooling",)},
        new_rope={
            "config": {
                "global_rope_theta": None,
                "local_rope_theta": None,
                "rope_parameters": {**_NEW_ROPE, "sliding_attention": {**_NEAR, "rope_theta": 50}},
            }
        },
        layer_types={"config": {"layer_types": ["sliding_attention", "full_attention"] * 2}},
        every_second={"config": {"global_attn_every_n_layers": 2, "local_attention": 7}},
        biases={"config": {"norm_bias": True, "attention_bias": True, "mlp_bias": True}},
        masked_lm={"prefix": "model.", "unused": "head.dense.weight"},
        yarn={"config": {"rope_parameters": {"full_attention": _YARN, "sliding_attention": _NEAR}}},
        usual_angles={"config": {"global_rope_theta": None, "local_rope_theta": None}},
    ),
    **_layouts(
        "nomic_bert",
        prompts={"prompts": _NOMIC},
        linear={"config": {"rope_parameters": _LINEAR}},
        llama3={"config": {"rope_parameters": _LLAMA3}},
        usual_angles={"config": {"rope_parameters": None}},
        older_form={"config": OLDER_NOMIC},
        long={"transformer": {"max_seq_length": 120}, "config": {"max_position_embeddings": 50}},
    ),
    **_layouts(
        "gemma3_text",
        embedding={
            "modules": ("Pooling", "Dense", "Dense", "Normalize"),
            "dense": (
                Dense(56, "linear.Identity", bias=False),
                Dense(WIDTH := tiny.WIDTH, "linear.Identity", bias=False),
            ),
            "prompts": _GEMMA,
        },
        new_rope={
            "config": {
                "rope_theta": None,
                "rope_local_base_freq": None,
                "rope_parameters": _NEW_ROPE,
            }
        },
        linear={"config": {"rope_scaling": {"rope_type": "linear", "factor": 2.5}}},
        layer_types={"config": {"layer_types": ["full_attention", *["sliding_attention"] * 2]}},
        even_window={"config": {"sliding_window": 8}, "modules": ("Pooling",)},
        looking_back={
            "config": {"use_bidirectional_attention": None},
            "pooling": {"pooling_mode": "lasttoken"},
        },
        one_group={"config": {"num_key_value_heads": 1}, "prefix": "model."},
    ),
}
SAME = {
    "gemma3_text-new-rope": "gemma3_text-mean",
    "nomic_bert-older-form": "nomic_bert-mean",
    "roberta-masked-lm": "roberta-mean",
    "modernbert-masked-lm": "modernbert-mean",
    "distilbert-masked-lm": "distilbert-mean",
    "mpnet-masked-lm": "mpnet-mean",
    # The reference goes beyond its table here, and fails.
    "mpnet-positions": "mpnet-all-positions",
    "roberta-positions": "roberta-all-positions",
}
"""Layouts whose vectors are those of another one."""
LOW_PRECISION = {"fp16": 1e-4, "bf16": 1e-3}
"""How far the cosine may be from 1 where the reference itself computes in half precision."""


def build(layout: Layout, folder: Path) -> Path:
    """Write a model of that layout into ``folder``."""
    folder.mkdir(exist_ok=True)
    family = FAMILIES[layout.architecture]
    tokenizer = family.make(family.tokens, layout.form)
    config = {
        **CONFIGS[layout.architecture],
        "vocab_size": tokenizer.get_vocab_size(),
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[layout.dtype],
    }
    stated = {**config, **layout.config}
    _write_json(folder / "config.json", {k: v for k, v in stated.items() if v is not None})
    settings = {
        "tokenizer_class": family.class_name,
        "model_max_length": 512,
        "padding_side": "right",
        **dict(zip(family.names, family.tokens, strict=True)),
        **layout.tokenizer_config,
    }
    tiny_tokenizers.write(folder, tokenizer, settings)
    sizes = {**config, **{k: v for k, v in layout.config.items() if v is not None}}
    _write_weights(folder, layout, sizes)
    if layout.transformer is not None:
        _write_json(folder / "sentence_bert_config.json", layout.transformer)
    if layout.prompts is not None:
        _write_json(folder / "config_sentence_transformers.json", layout.prompts)
    if layout.modules is not None:
        tiny._write_modules(folder, layout, layout.modules)
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1))


def _write_weights(folder: Path, layout: Layout, sizes: Json) -> None:
    tensors = {layout.prefix + name: values for name, values in TENSORS[layout.architecture](sizes)}
    if layout.unused:
        tensors[layout.unused] = next(iter(tensors.values()))
    if layout.shards == 1:
        safetensors_file.write(folder / "model.safetensors", tensors, layout.dtype)
        return
    files: dict[str, str] = {}
    for shard in range(layout.shards):
        file = f"model-{shard + 1:05}-of-{layout.shards:05}.safetensors"
        own = {name: tensors[name] for name in list(tensors)[shard :: layout.shards]}
        safetensors_file.write(folder / file, own, layout.dtype)
        files |= dict.fromkeys(own, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})
