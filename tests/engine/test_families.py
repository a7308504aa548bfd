"""What a well-known name decides where the repository's own files do not."""

import json
from pathlib import Path

import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Manifest, Normalize, Pooling
from mlx_serve_worker.families import _FAMILIES, card_prompts, family
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import tiny_encoders
from tests.engine.tiny_encoders import LAYOUTS

pytestmark = pytest.mark.engine

SENTENCE = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("name", "mode", "normalized", "query"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "mean", True, None),
        ("BAAI/bge-small-en-v1.5", "cls", True, SENTENCE),
        ("mlx-community/bge-small-en-v1.5-4bit", "cls", True, SENTENCE),
        ("BAAI/bge-m3", "cls", True, None),
        ("intfloat/e5-base-v2", "mean", True, "query: "),
        ("intfloat/multilingual-e5-small", "mean", True, "query: "),
        ("intfloat/e5-mistral-7b-instruct", "lasttoken", True, "Instruct: "),
        ("intfloat/multilingual-e5-large-instruct", "mean", True, "Instruct: "),
        ("thenlper/gte-small", "mean", True, None),
        ("Alibaba-NLP/gte-modernbert-base", "cls", True, None),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "lasttoken", True, "Instruct: "),
        ("Snowflake/snowflake-arctic-embed-m", "cls", True, SENTENCE),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "cls", True, "query: "),
        ("mixedbread-ai/mxbai-embed-large-v1", "cls", True, SENTENCE),
        ("nomic-ai/nomic-embed-text-v1.5", "mean", True, "search_query: "),
        ("nomic-ai/modernbert-embed-base", "mean", True, "search_query: "),
        ("jinaai/jina-embeddings-v2-base-en", "mean", True, None),
        ("Qwen/Qwen3-Embedding-0.6B", "lasttoken", True, "Instruct: "),
        ("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "mean", False, None),
        ("sentence-transformers/multi-qa-mpnet-base-dot-v1", "cls", False, None),
    ],
)
def test_known_names(name: str, mode: str, normalized: bool, query: str | None) -> None:
    found = family(name)
    assert found.pipeline == [Pooling([mode]), *([Normalize()] if normalized else [])]  # type: ignore[list-item]
    assert "no modules.json: the family" in found.decided_by
    prompts, reason = card_prompts(name)
    assert prompts.get("query", "").startswith(query or "")
    assert bool(prompts) == (query is not None) == ("model card" in reason)


def test_no_pattern_hides_a_later_one() -> None:
    for at, known in enumerate(_FAMILIES):
        sample = known.pattern.replace("*", "x")
        assert next(each for each in _FAMILIES if _fits(sample, each.pattern)) is known, at


def _fits(sample: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(sample, pattern)


def test_dense_layers_cannot_be_guessed() -> None:
    with pytest.raises(ServeError, match="Dense layers"):
        family("google/embeddinggemma-300m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_encoders.build(LAYOUTS["xlm-roberta-mean"], tmp_path)


def e5(folder: Path) -> Manifest:
    return inspect(folder, Origin("mine", source="intfloat/multilingual-e5-small")).manifest


def test_prompts_of_the_model_card_are_offered_but_not_applied(folder: Path) -> None:
    found = e5(folder)
    assert found.prompts == {"query": "query: ", "passage": "passage: "}
    assert found.default_prompt is None
    assert found.decided["prompts"].endswith("the model card of the family 'multilingual-e5'")


def test_what_the_repository_says_of_prompts_counts(folder: Path) -> None:
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "", "document": ""}}))
    assert e5(folder).prompts == {"query": "", "document": ""}
    # Otherwise the card's prompt would become the default one.
    path.write_text(json.dumps({"default_prompt_name": "query"}))
    assert e5(folder).prompts == {}
