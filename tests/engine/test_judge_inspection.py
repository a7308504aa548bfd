"""What makes a language model a reranker, what its manifest says, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ModelKind, YesOrNo
from mlx_serve_worker.inspection import Origin, inspect
from mlx_serve_worker.judge_prompt import INSTRUCTION, MAX_TOKENS, SYSTEM
from tests.engine import tiny_judges
from tests.engine.tiny_judges import NO, YES

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
def judge(tmp_path: Path) -> Path:
    return tiny_judges.build(tiny_judges.LAYOUTS["tied"], tmp_path)


@pytest.fixture
def saved_judge(tmp_path: Path) -> Path:
    return tiny_judges.build(tiny_judges.LAYOUTS["saved"], tmp_path)


def test_manifest_of_a_judge(judge: Path) -> None:
    manifest = found(judge, kind=ModelKind.RERANKER)
    assert (manifest.kind, manifest.backend) == (ModelKind.RERANKER, "reranker")
    assert manifest.head == YesOrNo(YES, NO, INSTRUCTION)
    assert manifest.max_tokens == tiny_judges.MAX_TOKENS
    assert manifest.decided["kind"] == "given at install time"
    assert manifest.decided["instruction"] == "the model card"


def test_name_makes_a_language_model_a_reranker(judge: Path) -> None:
    manifest = found(judge, name="Qwen3-Reranker-0.6B")
    assert manifest.kind is ModelKind.RERANKER
    assert manifest.decided["kind"] == "the name 'Qwen3-Reranker-0.6B'"
    by_source = inspect(judge, Origin("x", None, "Qwen/Qwen3-Reranker-4B")).manifest
    assert by_source.decided["kind"] == "the name 'Qwen/Qwen3-Reranker-4B'"


def test_template_makes_a_language_model_a_reranker(judge: Path) -> None:
    assert found(judge).kind is ModelKind.CHAT
    change(judge / "tokenizer_config.json", chat_template=f"<|im_start|>system\n{SYSTEM}")
    assert found(judge).decided["kind"] == "the chat template of Qwen3-Reranker"
    change(judge / "tokenizer_config.json", chat_template=None)
    (judge / "chat_template.jinja").write_text(SYSTEM)
    assert found(judge).kind is ModelKind.RERANKER
    (judge / "chat_template.jinja").write_text(SYSTEM + " " * 64 * 1024)
    assert "chat_template.jinja is larger" in refusal(judge)


def test_judge_is_no_embedder(judge: Path) -> None:
    assert refusal(judge, name="Qwen3-Reranker-0.6B", kind=ModelKind.EMBEDDING) == (
        "this is not of type embedding: the name 'Qwen3-Reranker-0.6B' makes it reranker"
    )


def test_person_who_wants_to_chat_is_believed(judge: Path) -> None:
    manifest = found(judge, name="Qwen3-Reranker-0.6B", kind=ModelKind.CHAT)
    assert (manifest.kind, manifest.head) == (ModelKind.CHAT, None)


def test_longest_input_is_that_of_the_model_card(judge: Path) -> None:
    change(judge / "config.json", max_position_embeddings=40960)
    manifest = found(judge, kind=ModelKind.RERANKER)
    assert manifest.max_tokens == MAX_TOKENS == 8192
    assert manifest.decided["max_tokens"] == "the model card"


def test_saved_judge(saved_judge: Path) -> None:
    inspection = inspect(saved_judge, Origin("tiny"))
    manifest = inspection.manifest
    assert manifest.kind is ModelKind.RERANKER
    assert manifest.head == YesOrNo(YES, NO, INSTRUCTION)
    assert manifest.decided["instruction"] == "the default prompt"
    assert "1_LogitScore/config.json" in inspection.files
    config = saved_judge / "config_sentence_transformers.json"
    change(config, prompts={"search": "Find what is about fish"})
    assert found(saved_judge).head == YesOrNo(YES, NO, "Find what is about fish")


def test_judge_with_another_question_is_refused(saved_judge: Path) -> None:
    (saved_judge / "chat_template.jinja").write_text("Is {{ document }} about {{ query }}?")
    assert "does not ask the question of Qwen3-Reranker" in refusal(saved_judge)


def test_judge_with_other_answers_is_refused(saved_judge: Path) -> None:
    change(saved_judge / "1_LogitScore/config.json", true_token_id=17)
    assert 'does not score by the tokens "yes" and "no"' in refusal(saved_judge)


def test_tokenizer_without_the_answers_is_refused(judge: Path) -> None:
    path = judge / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"]["other"] = values["model"]["vocab"].pop("yes")
    values["model"]["merges"].remove(["ye", "s"])
    path.write_text(json.dumps(values))
    assert 'no token for "yes"' in refusal(judge, kind=ModelKind.RERANKER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "type 'llama'"),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "causal"),
        ({"is_causal": False}, "causal"),
        ({"vocab_size": 10**6}, "shape"),
    ],
)
def test_judge_of_another_kind_is_refused(
    changes: dict[str, Any], message: str, judge: Path
) -> None:
    change(judge / "config.json", **changes)
    assert message in refusal(judge, kind=ModelKind.RERANKER)


def test_head_of_its_own_must_be_there(judge: Path) -> None:
    change(judge / "config.json", tie_word_embeddings=False)
    assert "lm_head.weight" in refusal(judge, kind=ModelKind.RERANKER)
