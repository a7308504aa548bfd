"""Repositories to manifests: what is read, what is refused, and how both are explained."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ModelKind, Normalize, Pooling, TextNormalizer
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import tiny

pytestmark = pytest.mark.engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.build(tiny.LAYOUTS["prompt-left-out"], tmp_path)


def manifest(folder: Path, **origin: Any) -> Manifest:
    return inspect(folder, Origin(**{"name": "tiny", **origin})).manifest


def refusal(folder: Path, **origin: Any) -> str:
    with pytest.raises(ServeError) as refused:
        manifest(folder, **origin)
    assert refused.value.code in (ErrorCode.INVALID_MODEL, ErrorCode.UNSAFE_MODEL)
    assert str(folder) not in refused.value.message
    return refused.value.message


def change(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object; None removes one."""
    value = json.loads(path.read_text()) if path.exists() else {}
    value |= changes
    path.write_text(json.dumps({key: new for key, new in value.items() if new is not None}))


def test_everything_the_repository_says(folder: Path) -> None:
    found = inspect(folder, Origin("my-name", source="org/repo", revision="abc"))
    assert found.manifest.name == "my-name"
    assert found.manifest.kind is ModelKind.EMBEDDING
    assert found.manifest.architecture == "bert"
    assert (found.manifest.source, found.manifest.revision) == ("org/repo", "abc")
    assert (found.manifest.dimensions, found.manifest.max_tokens) == (tiny.WIDTH, 40)
    assert found.manifest.pipeline == [Pooling(["mean"], include_prompt=False), Normalize()]
    assert found.manifest.prompts == {"query": "Represent the text: ", "document": ""}
    assert found.manifest.default_prompt == "query"
    assert found.manifest.normalizer == TextNormalizer(True, None, True)
    assert found.manifest.dtype == "float32"
    assert found.manifest.decided == {
        "kind": "modules.json",
        "architecture": "config.json: model_type",
        "pooling": "1_Pooling/config.json",
        "normalize": "modules.json",
        "max_tokens": "sentence_bert_config.json: max_seq_length",
        "normalizer": "tokenizer_config.json: BertTokenizer",
        "prompts": "config_sentence_transformers.json",
    }
    assert found.files == [
        "1_Pooling/config.json",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("layout", "limit", "rule"),
    [
        ("mean", 40, "sentence_bert_config.json: max_seq_length"),
        ("setting-over-tokenizer", 30, "sentence_bert_config.json: max_seq_length"),
        ("tokenizer-limit", 12, "tokenizer_config.json: model_max_length"),
        ("positions-limit", tiny.POSITIONS, "config.json: max_position_embeddings"),
        ("in-a-folder", 40, "0_Transformer/sentence_bert_config.json: max_seq_length"),
    ],
)
def test_longest_input(layout: str, limit: int, rule: str, tmp_path: Path) -> None:
    found = manifest(tiny.build(tiny.LAYOUTS[layout], tmp_path))
    assert (found.max_tokens, found.decided["max_tokens"]) == (limit, rule)


def test_setting_never_exceeds_the_positions(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=10**6)
    assert manifest(folder).max_tokens == tiny.POSITIONS


@pytest.mark.parametrize(
    ("name", "source", "pipeline", "rule"),
    [
        ("bge-small-en-v1.5", None, [Pooling(["cls"]), Normalize()], "family 'bge'"),
        ("mine", "BAAI/bge-base-en", [Pooling(["cls"]), Normalize()], "family 'bge'"),
        ("x", "intfloat/e5-small-v2", [Pooling(["mean"]), Normalize()], "family 'e5'"),
        ("x", "org/unknown", [Pooling(["mean"])], "the default, mean"),
    ],
)
def test_family_decides_where_no_modules_do(
    name: str, source: str | None, pipeline: list[Any], rule: str, tmp_path: Path
) -> None:
    found = manifest(tiny.build(tiny.LAYOUTS["no-modules"], tmp_path), name=name, source=source)
    assert found.pipeline == pipeline
    assert "no modules.json" in found.decided["pooling"]
    assert rule in found.decided["pooling"]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("config.json", {"auto_map": {"AutoModel": "modeling.Evil"}}, "auto_map"),
    ("config.json", {"model_file": "evil.py"}, "model_file"),
    ("config.json", {"nested": [{"model_file": "evil.py"}]}, "model_file"),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T", None]}}, "auto_map"),
    ("generation_config.json", {"model_file": "evil.py"}, "model_file"),
    ("1_Pooling/config.json", {"auto_map": {"x": "y"}}, "auto_map"),
    ("config.json", {"model_type": "xlnet"}, "'xlnet' cannot be served"),
    ("config.json", {"model_type": "../../evil"}, "no usable model_type"),
    ("config.json", {"model_type": None}, "no usable model_type"),
    ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantized by 'gptq'"),
    ("1_Pooling/config.json", {"pooling_mode": "attention"}, "not supported"),
    ("1_Pooling/config.json", {"pooling_mode": []}, "not supported"),
    ("1_Pooling/config.json", {"word_embedding_dimension": 31}, "31 dimensions"),
    ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
    ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length"),
    ("sentence_bert_config.json", {"max_seq_length": "512"}, "max_seq_length"),
    ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
    ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 9}}}, "processing"),
    ("sentence_bert_config.json", {"config_args": {"num_hidden_layers": 1}}, "config_args"),
    ("tokenizer_config.json", {"model_max_length": "x"}, ""),
    ("config_sentence_transformers.json", {"default_prompt_name": "nothing"}, "default prompt"),
    ("config_sentence_transformers.json", {"prompts": ["a"]}, "prompts"),
    ("config_sentence_transformers.json", {"prompts": {"query": 1}}, "no text"),
    ("config_sentence_transformers.json", {"prompts": {"q": "x" * 10**6}}, "characters"),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
    ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, "has no head for scores"),
]


@pytest.mark.parametrize(("file", "changes", "message"), REFUSED)
def test_unfit_settings_are_refused(
    file: str, changes: dict[str, Any], message: str, folder: Path
) -> None:
    if changes == {"model_max_length": "x"}:
        (folder / "sentence_bert_config.json").unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    change(folder / file, **changes)
    assert message in refusal(folder)


def _dense(**config: Any) -> dict[str, Any]:
    return {"in_features": 32, "out_features": 8, **config}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_dense(in_features=31), "maps 31"),
        (_dense(out_features="8"), "maps 32"),
        (_dense(use_residual=True), "use_residual"),
        (_dense(activation_function="mypackage.Evil"), "mypackage.Evil"),
        (_dense(module_input_name="token_embeddings"), "module_input_name"),
    ],
)
def test_unfit_dense_layers_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tiny.build(tiny.LAYOUTS["dense-tanh"], tmp_path)
    change(folder / "2_Dense/config.json", **changes)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "JSON list"),
        ([], "begin with a Transformer"),
        (["Pooling"], "begin with a Transformer"),
        (["Transformer"], "no Pooling"),
        (["Transformer", "Normalize"], "before a Pooling"),
        (["Transformer", "Pooling", "Pooling"], "Pooling after"),
        (["Transformer", "Pooling", "LayerNorm"], "'LayerNorm'"),
        (["Transformer", "evil_package.Pooling"], "code of its own"),
        (["Transformer", "Pooling:../1_Pooling"], "not allowed"),
        (["Transformer", "Pooling:/etc"], "not allowed"),
        (["Transformer:..", "Pooling"], "not allowed"),
    ],
)
def test_unfit_modules_are_refused(modules: Any, message: str, folder: Path) -> None:
    entries: Any = modules
    if isinstance(modules, list):
        entries = [_module(spelled) for spelled in modules]
    (folder / "modules.json").write_text(json.dumps(entries))
    assert message in refusal(folder)


def _module(spelled: str) -> dict[str, str]:
    name, _, path = spelled.partition(":")
    default = {"Transformer": "", "Pooling": "1_Pooling"}.get(name, "2_Normalize")
    prefix = "" if "." in name else "sentence_transformers.models."
    return {"type": prefix + name, "path": path or default}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["pytorch_model.bin"], "pytorch_model.bin"),
        (["model.pkl", "x.txt"], "model.pkl"),
        (["model.gguf"], "GGUF"),
        (["adapter_config.json", "adapter.bin"], "adapter"),
        ([], "no weights"),
    ],
)
def test_repository_without_safetensors(files: list[str], message: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in files:
        (folder / name).write_bytes(b"{}")
    assert message in refusal(folder)


def test_pickle_beside_safetensors_is_not_touched(folder: Path) -> None:
    for name in ("pytorch_model.bin", "evil.py", "model.onnx"):
        (folder / name).write_bytes(b"\x80")
    assert not re.search(r"\.(bin|py|onnx)", " ".join(inspect(folder, Origin("x")).files))


def test_tokens_may_have_any_name(folder: Path) -> None:
    change(folder / "vocab.json", auto_map={"not": "code"}, model_file="a token")
    manifest(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_needed_files(name: str, folder: Path) -> None:
    moved = folder / "moved"
    (folder / name).rename(moved)
    assert name.rpartition(".")[2] in refusal(folder)
    (folder / name).symlink_to(moved)
    assert f"{name} is a link" in refusal(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"{name} is not a regular file" in refusal(folder)


def test_module_folder_that_is_a_link(folder: Path) -> None:
    (folder / "1_Pooling").rename(folder / "real")
    (folder / "1_Pooling").symlink_to("real")
    assert "1_Pooling/config.json is a link" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a":' * 10_000, "\ud800"])
def test_broken_json(text: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "config.json" in refusal(folder)


def test_source_that_is_no_folder(tmp_path: Path) -> None:
    assert "not a folder" in refusal(tmp_path / "missing")


@pytest.mark.parametrize(
    ("architectures", "message"),
    [
        (["BertForSequenceClassification"], "the weights lack"),
        (["BertLMHeadModel"], "chat models of type 'bert' cannot be served"),
    ],
)
def test_type_is_guessed_and_contradiction_refused(
    architectures: list[str], message: str, tmp_path: Path
) -> None:
    folder = tiny.build(tiny.LAYOUTS["no-modules"], tmp_path)
    assert manifest(folder, kind=ModelKind.EMBEDDING).kind is ModelKind.EMBEDDING
    assert "chat models of type 'bert'" in refusal(folder, kind=ModelKind.CHAT)
    change(folder / "config.json", architectures=architectures)
    assert message in refusal(folder)
    assert "not of type embedding" in refusal(folder, kind=ModelKind.EMBEDDING)
