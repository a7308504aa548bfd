"""Tiny models of Qwen3-Reranker's kind, made from a seed: decoders with tokens for yes and no."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import NFC

from mlx_serve_worker.judge_prompt import AFTER, BEFORE, INSTRUCTION, QUESTION, SYSTEM
from tests.engine import safetensors_file
from tests.engine.texts import TEXTS
from tests.engine.tiny_rerankers import QUERIES

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

MAX_TOKENS = 200
OWN_INSTRUCTION = "Find texts about numbers {in} braces"
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_THOUGHTS = ("<think>", "</think>")
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

ASKED = ((None, QUERIES["plain"]), (OWN_INSTRUCTION, QUERIES["other"]))
PAIRS = [
    (instruction, query, document) for instruction, query in ASKED for document in TEXTS.values()
]
"""What every layout is compared on, against the golden values in this order."""


@dataclass(frozen=True)
class Layout:
    config: Json = field(default_factory=dict)
    dtype: str = "F32"
    files: Json = field(default_factory=dict)
    """Further files of the repository, as JSON unless they are text."""


def _saved(yes: int, no: int) -> Json:
    """As sentence-transformers writes it."""
    return {
        "modules.json": [
            {
                "idx": 0,
                "name": "0",
                "path": "",
                "type": "sentence_transformers.base.modules.transformer.Transformer",
            },
            {
                "idx": 1,
                "name": "1",
                "path": "1_LogitScore",
                "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
            },
        ],
        "1_LogitScore/config.json": {
            "true_token_id": yes,
            "false_token_id": no,
            "module_input_name": "causal_logits",
        },
        "sentence_bert_config.json": {
            "transformer_task": "text-generation",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "logits"},
                "message": {"method": "forward", "method_output_name": "logits", "format": "flat"},
            },
            "module_output_name": "causal_logits",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
        "config_sentence_transformers.json": {
            "model_type": "CrossEncoder",
            "activation_fn": "torch.nn.modules.activation.Sigmoid",
            "default_prompt_name": "search",
            "prompts": {"search": INSTRUCTION},
        },
        "chat_template.jinja": f"<|im_start|>system\n{SYSTEM}<|im_end|>\n",
    }


YES, NO = 3, 4
"""Ids of the tokens that decide, in this module's tokenizer."""

LAYOUTS: dict[str, Layout] = {
    "tied": Layout(),
    "untied": Layout({"tie_word_embeddings": False}),
    "bf16": Layout(dtype="BF16"),
    "fp16-untied": Layout({"tie_word_embeddings": False}, dtype="F16"),
    "new-rope": Layout(
        {"rope_theta": None, "rope_parameters": {"rope_theta": 3000.0, "rope_type": "default"}}
    ),
    "saved": Layout(files=_saved(YES, NO)),
}


def build(layout: Layout, folder: Path) -> Path:
    """Write a model of that layout into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config: Json = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "head_dim": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "hidden_act": "silu",
        "max_position_embeddings": MAX_TOKENS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 2000.0,
        "tie_word_embeddings": True,
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[layout.dtype],
        **layout.config,
    }
    config = {key: value for key, value in config.items() if value is not None}
    safetensors_file.write(folder / "model.safetensors", dict(_tensors(config)), layout.dtype)
    settings = {"tokenizer_class": "Qwen2Tokenizer", "pad_token": _SPECIALS[0]}
    files = {"config.json": config, "tokenizer_config.json": settings, **layout.files}
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        (folder / name).write_text(text)
    return folder


def _tokenizer() -> Tokenizer:
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = [*_SPECIALS, "yes", "no", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [("y", "e"), ("ye", "s"), ("n", "o")]
    pieces.append("ye")
    fixed = QUESTION.format(instruction=INSTRUCTION, query="")
    for text in (BEFORE, fixed, AFTER, *TEXTS.values()):
        for word, _ in splitter.pre_tokenize_str(text):
            for end in range(2, min(len(word), 12) + 1):
                if word[:end] not in pieces and len(pieces) < 800:
                    merges.append((word[: end - 1], word[end - 1]))
                    pieces.append(word[:end])
    tokenizer = Tokenizer(BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIALS))
    tokenizer.add_tokens(list(_THOUGHTS))
    return tokenizer


def _tensors(config: Json) -> Iterator[tuple[str, Array]]:
    # RandomState's numbers are promised never to change, unlike those of Generator.
    random = np.random.RandomState(50)
    width, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"] * size, config["num_key_value_heads"] * size

    def matrix(name: str, inputs: int, outputs: int) -> tuple[str, Array]:
        values = random.standard_normal((outputs, inputs)) * 1.4 / np.sqrt(inputs)
        return f"{name}.weight", np.asarray(values)

    def norm(name: str, size: int) -> tuple[str, Array]:
        return f"{name}.weight", np.asarray(1 + 0.2 * random.standard_normal(size))

    yield matrix("model.embed_tokens", width, config["vocab_size"])
    for layer in (f"model.layers.{index}" for index in range(config["num_hidden_layers"])):
        for part, outputs in (("q", heads), ("k", groups), ("v", groups)):
            yield matrix(f"{layer}.self_attn.{part}_proj", width, outputs)
        yield matrix(f"{layer}.self_attn.o_proj", heads, width)
        yield norm(f"{layer}.self_attn.q_norm", size)
        yield norm(f"{layer}.self_attn.k_norm", size)
        yield matrix(f"{layer}.mlp.gate_proj", width, inner)
        yield matrix(f"{layer}.mlp.up_proj", width, inner)
        yield matrix(f"{layer}.mlp.down_proj", inner, width)
        yield norm(f"{layer}.input_layernorm", width)
        yield norm(f"{layer}.post_attention_layernorm", width)
    yield norm("model.norm", width)
    if not config["tie_word_embeddings"]:
        yield matrix("lm_head", width, config["vocab_size"])
