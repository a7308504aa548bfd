"""Tiny BERT models made from a seed: no download, no torch, the same bytes on every machine.

Each layout differs from the plain one in what its files say. The weights are large for their size,
so that a wrong activation, epsilon, pooling or mask shows in the third digit and not in the eighth.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from tests.engine import safetensors_file
from tests.engine.texts import TEXTS

WIDTH = 32
POSITIONS = 48
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TORCH = "torch.nn.modules."

Array = np.ndarray[Any, Any]
Json = dict[str, Any]


class Dense(NamedTuple):
    outputs: int
    activation: str = "activation.Tanh"
    bias: bool = True


@dataclass(frozen=True)
class Layout:
    """One way in which a repository can be laid out."""

    config: Json = field(default_factory=dict)
    modules: tuple[str, ...] | None = ("Pooling", "Normalize")
    pooling: Json = field(default_factory=lambda: {"pooling_mode_mean_tokens": True})
    dense: tuple[Dense, ...] = ()
    transformer: Json | None = field(
        default_factory=lambda: {"max_seq_length": 40, "do_lower_case": False}
    )
    transformer_folder: str = ""
    tokenizer: Json = field(default_factory=dict)
    tokenizer_config: Json = field(default_factory=dict)
    prompts: Json | None = None
    dtype: str = "F32"
    shards: int = 1
    prefix: str = ""
    pooler: bool = True
    legacy_norms: bool = False


def _prompted(**pooling: Any) -> Layout:
    return Layout(
        pooling={"include_prompt": False, **pooling},
        prompts={
            "prompts": {"query": "Represent the text: ", "document": ""},
            "default_prompt_name": "query",
        },
    )


LAYOUTS: dict[str, Layout] = {
    "mean": Layout(),
    "cls": Layout(pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}),
    "max": Layout(pooling={"pooling_mode_max_tokens": True}),
    "sqrt-len": Layout(modules=("Pooling",), pooling={"pooling_mode": "mean_sqrt_len_tokens"}),
    "weighted-mean": Layout(pooling={"pooling_mode_weightedmean_tokens": True}),
    "last-token": Layout(pooling={"pooling_mode": "lasttoken"}),
    "three-modes": Layout(pooling={"pooling_mode": ["mean", "cls", "max"]}),
    "four-switches": Layout(
        pooling={
            "pooling_mode_lasttoken": True,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": True,
            "pooling_mode_weightedmean_tokens": True,
        }
    ),
    "no-switch": Layout(pooling={"pooling_mode_mean_tokens": False}),
    "not-normalized": Layout(modules=("Pooling",)),
    "dense-tanh": Layout(modules=("Pooling", "Dense"), dense=(Dense(24),)),
    "dense-gelu-normalized": Layout(
        modules=("Pooling", "Dense", "Normalize"),
        dense=(Dense(24, "activation.GELU", bias=False),),
    ),
    "normalized-then-dense": Layout(
        modules=("Pooling", "Normalize", "Dense", "Dense"),
        dense=(Dense(48, "activation.ReLU"), Dense(8, "linear.Identity")),
    ),
    "fp16": Layout(dtype="F16"),
    "bf16": Layout(dtype="BF16", modules=("Pooling",)),
    "no-pooler": Layout(pooler=False),
    "masked-lm": Layout(prefix="bert.", legacy_norms=True, pooler=False),
    "sharded": Layout(shards=3),
    "gelu-new": Layout(config={"hidden_act": "gelu_new"}),
    "relu": Layout(config={"hidden_act": "relu"}),
    "silu": Layout(config={"hidden_act": "silu"}),
    "large-epsilon": Layout(config={"layer_norm_eps": 0.5}),
    "prompt": _prompted(include_prompt=True),
    "prompt-left-out": _prompted(),
    "prompt-left-out-modes": _prompted(
        pooling_mode=["cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"]
    ),
    "cased": Layout(tokenizer_config={"do_lower_case": False}),
    "lower-case-setting": Layout(
        tokenizer_config={"do_lower_case": False},
        transformer={"max_seq_length": 40, "do_lower_case": True},
    ),
    "tokenizer-contradicts": Layout(
        tokenizer={"lowercase": True, "strip_accents": True, "handle_chinese_chars": False},
        tokenizer_config={"do_lower_case": False, "strip_accents": False},
    ),
    "tokenizer-alone": Layout(
        tokenizer={"lowercase": False},
        tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True},
    ),
    "stored-truncation": Layout(tokenizer={"truncation": 8, "padding": 16}),
    "setting-over-tokenizer": Layout(
        transformer={"max_seq_length": 30}, tokenizer_config={"model_max_length": 12}
    ),
    "tokenizer-limit": Layout(transformer=None, tokenizer_config={"model_max_length": 12}),
    "positions-limit": Layout(transformer=None, tokenizer_config={"model_max_length": 10**30}),
    "new-settings": Layout(
        transformer={
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
        },
        pooling={"embedding_dimension": WIDTH, "pooling_mode": "cls", "include_prompt": True},
    ),
    "in-a-folder": Layout(transformer_folder="0_Transformer"),
    "no-modules": Layout(modules=None, transformer=None),
}

LOW_PRECISION = {"fp16": 1e-4, "bf16": 1e-3}
"""How far the cosine may be from 1 where the reference itself computes in half precision."""


def build(layout: Layout, folder: Path) -> Path:
    """Write a model of that layout into ``folder``."""
    transformer = folder / layout.transformer_folder
    transformer.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    config = _config(layout, len(vocabulary))
    _write_json(transformer / "config.json", config)
    _write_tokenizer(transformer, layout, vocabulary)
    _write_weights(transformer, layout, config)
    if layout.transformer is not None:
        _write_json(transformer / "sentence_bert_config.json", layout.transformer)
    if layout.prompts is not None:
        _write_json(folder / "config_sentence_transformers.json", layout.prompts)
    if layout.modules is not None:
        _write_modules(folder, layout, layout.modules)
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1))


def _config(layout: Layout, vocab_size: int) -> Json:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[layout.dtype],
        **layout.config,
    }


# --- tokenizer -----------------------------------------------------------------------------------


def _vocabulary() -> dict[str, int]:
    """Whole words of every second kind, and all characters: some words split, some do not."""
    words: set[str] = set()
    for lower_case in (True, False):
        normalizer = BertNormalizer(lowercase=lower_case)
        splitter = BertPreTokenizer()
        for text in [*TEXTS.values(), "Represent the text: query document"]:
            for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
                words.add(word)
    # Kept small by leaving one emoji and one letter unknown.
    characters = sorted({character for word in words for character in word} - {"🍮", "漢"})
    whole = [word for word in sorted(words) if 1 < len(word) <= 8 and zlib.crc32(word.encode()) % 2]
    pieces = [*_SPECIALS, *characters, *(f"##{character}" for character in characters), *whole]
    return {piece: index for index, piece in enumerate(pieces)}


def _write_tokenizer(folder: Path, layout: Layout, vocabulary: dict[str, int]) -> None:
    settings = dict(layout.tokenizer)
    truncation, padding = settings.pop("truncation", None), settings.pop("padding", None)
    agreeing = layout.tokenizer_config.get("do_lower_case", True)
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(**{"lowercase": agreeing, **settings})
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(_SPECIALS))
    if truncation is not None:
        tokenizer.enable_truncation(truncation)
    if padding is not None:
        tokenizer.enable_padding(length=padding)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": 512,
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
            **layout.tokenizer_config,
        },
    )


# --- weights -------------------------------------------------------------------------------------


class _Random:
    """RandomState, whose numbers are promised never to change, unlike those of Generator."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def matrix(self, rows: int, columns: int) -> Array:
        return np.asarray(self._state.standard_normal((rows, columns)) * 1.5 / np.sqrt(columns))

    def vector(self, size: int, around: float = 0.0) -> Array:
        return around + 0.2 * self._state.standard_normal(size)


def _write_weights(folder: Path, layout: Layout, config: Json) -> None:
    tensors = {
        layout.prefix + _stored_name(name, layout): values
        for name, values in _encoder_tensors(config, layout.pooler)
    }
    if layout.prefix:
        tensors["cls.predictions.bias"] = np.zeros(config["vocab_size"])
    names = list(tensors)
    if layout.shards == 1:
        safetensors_file.write(folder / "model.safetensors", tensors, layout.dtype)
        return
    files: dict[str, str] = {}
    for shard in range(layout.shards):
        file = f"model-{shard + 1:05}-of-{layout.shards:05}.safetensors"
        own = {name: tensors[name] for name in names[shard :: layout.shards]}
        safetensors_file.write(folder / file, own, layout.dtype)
        files |= dict.fromkeys(own, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})


def _stored_name(name: str, layout: Layout) -> str:
    if layout.legacy_norms and "LayerNorm" in name:
        return name.replace(".weight", ".gamma").replace(".bias", ".beta")
    return name


def _encoder_tensors(config: Json, pooler: bool) -> Iterator[tuple[str, Array]]:
    random = _Random(20)
    width, inner = config["hidden_size"], config["intermediate_size"]

    def linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", random.matrix(outputs, inputs)
        yield f"{name}.bias", random.vector(outputs)

    def norm(name: str) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", random.vector(width, around=1.0)
        yield f"{name}.bias", random.vector(width)

    yield "embeddings.position_ids", np.arange(config["max_position_embeddings"])[None]
    for table, rows in (
        ("word_embeddings", config["vocab_size"]),
        ("position_embeddings", config["max_position_embeddings"]),
        ("token_type_embeddings", config["type_vocab_size"]),
    ):
        yield f"embeddings.{table}.weight", random.matrix(rows, width)
    yield from norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(config["num_hidden_layers"])):
        for part in ("query", "key", "value"):
            yield from linear(f"{layer}.attention.self.{part}", width, width)
        yield from linear(f"{layer}.attention.output.dense", width, width)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from linear(f"{layer}.intermediate.dense", width, inner)
        yield from linear(f"{layer}.output.dense", inner, width)
        yield from norm(f"{layer}.output.LayerNorm")
    if pooler:
        yield from linear("pooler.dense", width, width)


# --- modules -------------------------------------------------------------------------------------


def _write_modules(folder: Path, layout: Layout, names: tuple[str, ...]) -> None:
    modules = [_module(0, "Transformer", layout.transformer_folder)]
    dense = iter(layout.dense)
    width = WIDTH
    for index, name in enumerate(names, start=1):
        path = f"{index}_{name}"
        modules.append(_module(index, name, path))
        if name == "Pooling":
            config = {"word_embedding_dimension": WIDTH, **layout.pooling}
            if "embedding_dimension" in config:
                del config["word_embedding_dimension"]
            _write_json(folder / path / "config.json", config)
            width = WIDTH * _mode_count(layout.pooling)
        elif name == "Dense":
            layer = next(dense)
            _write_dense(folder / path, layer, width, seed=index)
            width = layer.outputs
    _write_json(folder / "modules.json", modules)


def _mode_count(pooling: Json) -> int:
    if isinstance(modes := pooling.get("pooling_mode"), list):
        return len(modes)
    switches = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    return max(len(switches), 1)


def _module(index: int, name: str, path: str) -> Json:
    return {
        "idx": index,
        "name": str(index),
        "path": path,
        "type": f"sentence_transformers.models.{name}",
    }


def _write_dense(folder: Path, layer: Dense, inputs: int, seed: int) -> None:
    _write_json(
        folder / "config.json",
        {
            "in_features": inputs,
            "out_features": layer.outputs,
            "bias": layer.bias,
            "activation_function": _TORCH + layer.activation,
        },
    )
    random = _Random(seed)
    tensors = {"linear.weight": random.matrix(layer.outputs, inputs)}
    if layer.bias:
        tensors["linear.bias"] = random.vector(layer.outputs)
    safetensors_file.write(folder / "model.safetensors", tensors)
