"""The tiny chat models against transformers: their prompts, logits and likeliest answers."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_worker.chat.template import ChatTemplate
from mlx_serve_worker.chat_model import load_chat_model
from mlx_serve_worker.models.language_model import LanguageModel
from mlx_serve_worker.tokenizer_file import load_tokenizer
from tests.engine.chat_conversations import CONVERSATIONS, KNOWN
from tests.engine.tiny_chat import install_chat_model

pytestmark = pytest.mark.engine

CASES = [(architecture, name) for architecture in KNOWN for name in KNOWN[architecture]]


@cache
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (Path(__file__).parent / "golden/tiny_chat.json").read_text()
    )
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for architecture in KNOWN:
        install_chat_model(folder, architecture, architecture)
    return folder


@pytest.mark.parametrize(("architecture", "name"), CASES)
def test_prompt(architecture: str, name: str, models: Path) -> None:
    expected = golden()[architecture][name]
    _, manifest = load_chat_model(models / architecture, None)
    facts = manifest.chat
    assert facts is not None and facts.template is not None
    template = ChatTemplate(facts.template, facts.tokens)
    text = template.render(**CONVERSATIONS[name], add_generation_prompt=True)
    assert text == expected["text"]
    tokenizer = load_tokenizer(models / architecture, manifest)
    assert tokenizer.encode(text, add_special_tokens=False).ids == expected["ids"]


@pytest.mark.parametrize(("architecture", "name"), CASES)
def test_answer(architecture: str, name: str, models: Path) -> None:
    expected = golden()[architecture][name]
    model, _ = load_chat_model(models / architecture, None)
    logits = np.frombuffer(base64.b64decode(expected["logits"]), "<f4")
    memory = model.new_cache()
    first = model.logits(mx.array([expected["ids"]]), memory)[0, -1]
    np.testing.assert_allclose(np.array(first), logits, rtol=0, atol=2e-4)
    assert _answer(model, memory, first, len(expected["answer"])) == expected["answer"]


def _answer(model: LanguageModel, memory: list[Any], logits: mx.array, length: int) -> list[int]:
    said: list[int] = []
    for _ in range(length):
        said += np.array(mx.argmax(logits, keepdims=True)).tolist()
        logits = model.logits(mx.array([said[-1:]]), memory)[0, -1]
    return said
