"""What transformers says of the tiny chat models, for the golden file.

Needs torch: only scripts/golden imports this.
"""

import base64
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.engine.chat_conversations import CONVERSATIONS, KNOWN
from tests.engine.tiny_chat import write_chat_repository

ANSWER = 16
"""Tokens."""


def chats() -> dict[str, Any]:
    return {architecture: _of(architecture) for architecture in KNOWN}


def _of(architecture: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        folder = write_chat_repository(Path(made), architecture)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return {name: _said(model, tokenizer, name) for name in KNOWN[architecture]}


def _said(model: Any, tokenizer: Any, name: str) -> dict[str, Any]:
    """The prompt in words and ids, the logits at its end, and the likeliest answer."""
    variables = CONVERSATIONS[name]
    text = tokenizer.apply_chat_template(**_as_arguments(variables), tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer: list[int] = []
    first = None
    with torch.no_grad():
        for _ in range(ANSWER):
            logits = model(torch.tensor([ids + answer])).logits[0, -1].float()
            first = logits if first is None else first
            answer.append(int(logits.argmax()))
    assert first is not None
    values = base64.b64encode(first.numpy().astype("<f4").tobytes()).decode()
    return {"text": text, "ids": ids, "logits": values, "answer": answer}


def _as_arguments(variables: dict[str, Any]) -> dict[str, Any]:
    given = dict(variables)
    return {"conversation": given.pop("messages"), "add_generation_prompt": True, **given}
