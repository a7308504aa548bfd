"""What makes a repository a reranker, what its manifest says, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Classifier, Manifest, ModelKind
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import tiny, tiny_rerankers

pytestmark = pytest.mark.engine


def found(folder: Path, name: str = "tiny", kind: ModelKind | None = None) -> Manifest:
    return inspect(folder, Origin(name, kind)).manifest


def refusal(folder: Path, name: str = "tiny", kind: ModelKind | None = None) -> str:
    with pytest.raises(ServeError) as refused:
        found(folder, name, kind)
    assert refused.value.code is ErrorCode.INVALID_MODEL
    assert str(folder) not in refused.value.message
    return refused.value.message


def change(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert"], tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert-saved"], tmp_path)


# --- cross-encoders ------------------------------------------------------------------------------


def test_manifest_of_a_cross_encoder(bert: Path) -> None:
    manifest = found(bert)
    assert manifest.kind is ModelKind.RERANKER
    assert manifest.backend == "reranker"
    assert manifest.architecture == "bert"
    assert manifest.head == Classifier(1, token_types=True)
    assert (manifest.dimensions, manifest.pipeline, manifest.prompts) == (None, [], {})
    assert manifest.max_tokens == tiny_rerankers.MAX_TOKENS
    assert manifest.decided["kind"] == "config.json: BertForSequenceClassification"
    assert manifest.decided["score"] == "config.json: one label; the sigmoid of its logit"
    assert found(bert, kind=ModelKind.RERANKER).head == manifest.head


def test_files_of_a_saved_cross_encoder(saved: Path) -> None:
    inspection = inspect(saved, Origin("tiny"))
    assert inspection.manifest.decided["kind"] == "config_sentence_transformers.json: model_type"
    assert inspection.files == [
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("model_type", "limit"),
    [("bert", 60), ("modernbert", 60), ("roberta", 60), ("mpnet", 60), ("deberta-v2", 60)],
)
def test_longest_pair(model_type: str, limit: int, tmp_path: Path) -> None:
    folder = tiny_rerankers.build(tiny_rerankers.LAYOUTS[model_type], tmp_path)
    assert found(folder).max_tokens == limit
    change(folder / "tokenizer_config.json", model_max_length=20)
    assert found(folder).max_tokens == 20


def test_two_labels_are_no_and_yes(tmp_path: Path) -> None:
    folder = tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert-two-labels"], tmp_path)
    change(folder / "config.json", id2label={"0": "irrelevant", "1": "relevant"})
    manifest = found(folder)
    assert manifest.head == Classifier(2, token_types=True)
    assert manifest.decided["score"].endswith("the probability of label 1, 'relevant'")


def test_labels_that_are_not_named(bert: Path) -> None:
    change(bert / "config.json", id2label=None, label2id=None, num_labels=1)
    assert found(bert).head == Classifier(1, token_types=True)
    # Two, says the reference, where nothing is said; then the weights do not fit.
    change(bert / "config.json", num_labels=None)
    assert "'classifier.weight' has the shape [1, 32]" in refusal(bert)


@pytest.mark.parametrize(
    ("settings", "expected", "rule"),
    [
        ({}, True, "BertTokenizer"),
        ({"tokenizer_class": "BertTokenizerFast"}, True, "BertTokenizerFast"),
        ({"tokenizer_class": None}, True, "BertTokenizer"),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, False, "PreTrainedTokenizerFast"),
        (
            {"tokenizer_class": "X", "model_input_names": ["input_ids", "token_type_ids"]},
            True,
            "model_input_names",
        ),
        ({"model_input_names": ["input_ids"]}, False, "model_input_names"),
    ],
)
def test_who_tells_the_types_of_tokens(
    settings: dict[str, Any], expected: bool, rule: str, bert: Path
) -> None:
    change(bert / "tokenizer_config.json", **settings)
    manifest = found(bert)
    assert manifest.head == Classifier(1, token_types=expected)
    assert rule in manifest.decided["token_types"]


def test_number_of_labels_that_gives_no_score_is_refused(bert: Path) -> None:
    change(bert / "config.json", id2label={"0": "a", "1": "b", "2": "c"})
    assert "3 labels" in refusal(bert)


def test_head_that_is_missing_is_refused(bert: Path) -> None:
    change(bert / "config.json", architectures=["BertModel"])
    (bert / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    assert "BertModel has no head for scores" in refusal(bert)
    change(bert / "config.json", architectures=["RobertaForSequenceClassification"])
    change(bert / "config.json", model_type="gpt2")
    assert "rerankers of type 'gpt2' cannot be served" in refusal(bert)


def test_modules_after_the_classifier_are_refused(saved: Path) -> None:
    modules = json.loads((saved / "modules.json").read_text())
    kind = "sentence_transformers.models.Dense"
    modules.append({"idx": 1, "name": "1", "path": "1_Dense", "type": kind})
    (saved / "modules.json").write_text(json.dumps(modules))
    assert "Dense after the classifier" in refusal(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"transformer_task": "feature-extraction"},
        {"modality_config": {"text": {"method": "forward", "method_output_name": "other"}}},
        {"module_output_name": "token_embeddings"},
        {"processing_kwargs": {"text": {"max_length": 12}}},
        {"processing_kwargs": {"chat_template": {"x": 1}}},
    ],
)
def test_setting_that_would_change_scores_is_refused(changes: dict[str, Any], saved: Path) -> None:
    change(saved / "sentence_bert_config.json", **changes)
    assert refusal(saved).startswith("sentence_bert_config.json: ")


def test_settings_count_only_beside_modules(bert: Path) -> None:
    # The reference reads them through modules.json alone.
    (bert / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    prompts = {"prompts": {"query": "q: "}, "default_prompt_name": "query"}
    (bert / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    manifest = found(bert)
    assert manifest.max_tokens == tiny_rerankers.MAX_TOKENS
    assert (manifest.prompts, manifest.default_prompt) == ({}, None)


# --- what a person says about a model ------------------------------------------------------------


def test_embedder_is_no_reranker(tmp_path: Path) -> None:
    folder = tiny.build(tiny.LAYOUTS["mean"], tmp_path / "modules")
    assert refusal(folder, kind=ModelKind.RERANKER) == (
        "this is not of type reranker: modules.json makes it embedding"
    )
    folder = tiny.build(tiny.LAYOUTS["no-modules"], tmp_path / "plain")
    assert "config.json: BertModel makes it embedding" in refusal(folder, kind=ModelKind.RERANKER)
    # A name does not make a head.
    assert found(folder, name="my-reranker").kind is ModelKind.EMBEDDING


def test_reranker_is_no_embedder(bert: Path) -> None:
    assert refusal(bert, kind=ModelKind.EMBEDDING) == (
        "this is not of type embedding: config.json: BertForSequenceClassification makes it"
        " reranker"
    )
