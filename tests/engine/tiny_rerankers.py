"""Tiny cross-encoders made from a seed: no download, no torch, the same bytes on every machine."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine import reranker_tokenizers, safetensors_file, tiny_tokenizers
from tests.engine.reranker_tensors import tensors
from tests.engine.texts import TEXTS

Json = dict[str, Any]

MAX_TOKENS = 60
_WIDTH = 32
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

QUERIES = {
    "plain": "how many tokens does a good model count?",
    "other": "서울의 날씨는 어떻습니까, naïve 🍮?",
}
PAIRS = [(query, document) for query in QUERIES.values() for document in TEXTS.values()]
"""What every layout is compared on, against the golden logits in this order."""


@dataclass(frozen=True)
class Layout:
    """One way in which a cross-encoder can be laid out."""

    model_type: str
    labels: int = 1
    dtype: str = "F32"
    config: Json = field(default_factory=dict)
    tokenizer_config: Json = field(default_factory=dict)
    files: Json = field(default_factory=dict)
    """Further JSON files of the repository."""


_COMMON: Json = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_TOKENS,
    "layer_norm_eps": 1e-6,
}
_ROBERTA = {
    **_COMMON,
    "hidden_act": "gelu",
    "max_position_embeddings": MAX_TOKENS + 2,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_CONFIGS: dict[str, Json] = {
    "bert": {**_COMMON, "hidden_act": "gelu", "type_vocab_size": 2},
    "camembert": _ROBERTA,
    "deberta-v2": {
        **_COMMON,
        "hidden_act": "gelu",
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "max_relative_positions": -1,
        "position_biased_input": False,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "pooler_hidden_act": "gelu",
        "pooler_hidden_size": _WIDTH,
    },
    "distilbert": {
        "dim": _WIDTH,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "activation": "gelu",
        "max_position_embeddings": MAX_TOKENS,
    },
    "modernbert": {
        **_COMMON,
        "num_hidden_layers": 3,
        "hidden_activation": "gelu",
        "local_attention": 16,
        "global_attn_every_n_layers": 3,
        "norm_eps": 1e-5,
        "classifier_pooling": "cls",
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
    },
    "mpnet": {
        **_ROBERTA,
        "relative_attention_num_buckets": 32,
    },
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
_CLASSES = {
    "bert": "Bert",
    "camembert": "Camembert",
    "deberta-v2": "DebertaV2",
    "distilbert": "DistilBert",
    "modernbert": "ModernBert",
    "mpnet": "MPNet",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}

_SAVED: Json = {
    "modules.json": [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.base.modules.transformer.Transformer",
        }
    ],
    "sentence_bert_config.json": {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "scores",
    },
    "config_sentence_transformers.json": {
        "model_type": "CrossEncoder",
        "activation_fn": "torch.nn.modules.activation.Sigmoid",
        "default_prompt_name": None,
        "prompts": {},
    },
}
_PROMPTED: Json = {
    **_SAVED,
    "config_sentence_transformers.json": {
        "model_type": "CrossEncoder",
        "default_prompt_name": "query",
        "prompts": {"query": "a good query: "},
    },
}
_IDENTITY = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}
_OLD_IDENTITY = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}

LAYOUTS: dict[str, Layout] = {
    **{name: Layout(name) for name in _CONFIGS},
    **{f"{name}-two-labels": Layout(name, labels=2) for name in _CONFIGS},
    **{f"{name}-fp16": Layout(name, dtype="F16") for name in _CONFIGS},
    **{f"{name}-bf16": Layout(name, dtype="BF16") for name in _CONFIGS},
    "bert-identity": Layout("bert", config=_IDENTITY),
    "bert-old-identity": Layout("bert", config=_OLD_IDENTITY),
    "bert-saved": Layout("bert", files=_SAVED),
    "bert-prompted": Layout("bert", files=_PROMPTED),
    "bert-relu": Layout("bert", config={"hidden_act": "relu"}),
    "bert-untyped": Layout(
        "bert", tokenizer_config={"model_input_names": ["input_ids", "attention_mask"]}
    ),
    "bert-typed-as-it-is": Layout(
        "bert",
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
    ),
    "bert-no-types-as-it-is": Layout(
        "bert", tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"}
    ),
    "modernbert-mean": Layout("modernbert", config={"classifier_pooling": "mean"}),
    "modernbert-mean-two-labels": Layout(
        "modernbert", labels=2, config={"classifier_pooling": "mean"}
    ),
    "modernbert-biases": Layout(
        "modernbert",
        config={"classifier_bias": True, "norm_bias": True, "classifier_activation": "silu"},
    ),
    "deberta-v2-own-keys": Layout("deberta-v2", config={"share_att_key": False}),
    "deberta-v2-one-way": Layout("deberta-v2", config={"pos_att_type": "c2p"}),
    "deberta-v2-other-way": Layout(
        "deberta-v2", config={"pos_att_type": ["p2c"], "share_att_key": False}
    ),
    "deberta-v2-positions": Layout(
        "deberta-v2",
        config={"position_biased_input": True, "type_vocab_size": 2, "position_buckets": -1},
    ),
    "deberta-v2-as-it-is": Layout(
        "deberta-v2", tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"}
    ),
    "deberta-v2-tanh": Layout(
        "deberta-v2",
        config={"pooler_hidden_act": "tanh", "norm_rel_ebd": "none", "pos_att_type": "p2c|c2p"},
    ),
}


def build(layout: Layout, folder: Path) -> Path:
    """Write a model of that layout into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, settings = reranker_tokenizers.make(layout.model_type)
    tiny_tokenizers.write(folder, tokenizer, {**settings, **layout.tokenizer_config})
    config = {
        "architectures": [f"{_CLASSES[layout.model_type]}ForSequenceClassification"],
        "model_type": layout.model_type,
        "vocab_size": tokenizer.get_vocab_size(),
        "id2label": {str(index): f"LABEL_{index}" for index in range(layout.labels)},
        "label2id": {f"LABEL_{index}": index for index in range(layout.labels)},
        "pad_token_id": 0,
        "dtype": _DTYPES[layout.dtype],
        **_CONFIGS[layout.model_type],
        **layout.config,
    }
    _write_json(folder / "config.json", config)
    safetensors_file.write(folder / "model.safetensors", tensors(config), layout.dtype)
    for name, value in layout.files.items():
        _write_json(folder / name, value)
    return folder


def prompt(layout: Layout) -> str:
    """What the repository wants to be put before every query."""
    saved = layout.files.get("config_sentence_transformers.json", {})
    return str(saved.get("prompts", {}).get(saved.get("default_prompt_name"), ""))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1))
