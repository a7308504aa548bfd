"""A chat model's abilities, and what quantizing has cost it, in words."""

import msgspec
import pytest

from mlx_serve_common.models import (
    ChatFacts,
    GenerationDefaults,
    Manifest,
    ModelKind,
    Quality,
    Thinking,
)
from mlx_serve_gateway.cli.chat_facts import chat_lines
from mlx_serve_gateway.cli.quality import advice, quality_lines
from tests.unit.gateway.http.chat_models import ABLE, BARE, SIMPLE


def lines(**changes: object) -> dict[str, str]:
    return dict(chat_lines(msgspec.structs.replace(ABLE, **changes)))


def test_every_ability() -> None:
    told = lines(
        parameters=8_190_735_360,
        defaults=GenerationDefaults(temperature=0.6, top_k=20),
        kv_bytes_per_token=147_456,
    )
    assert told == {
        "parameters": "8,190,735,360",
        "chat template": "yes",
        "tools": "yes, written as json_tools",
        "thinking": "yes, unless enable_thinking is false",
        "defaults": "temperature 0.6, top_k 20",
        "conversation": "takes 147 kB of memory for each token",
    }


@pytest.mark.parametrize(
    ("facts", "name", "text"),
    [
        (SIMPLE, "tools", "no"),
        (SIMPLE, "thinking", "no"),
        (BARE, "chat template", "no: it only continues texts"),
        (
            msgspec.structs.replace(ABLE, thinking=Thinking("<think>", "</think>", None)),
            "thinking",
            "yes, always",
        ),
        (
            msgspec.structs.replace(ABLE, kv_bytes_per_token=None),
            "conversation",
            "takes an unknown amount of memory",
        ),
        (
            msgspec.structs.replace(ABLE, kv_bytes_per_token=1000, kv_bytes_fixed=2000),
            "conversation",
            "takes 1.0 kB of memory for each token and 2.0 kB",
        ),
    ],
)
def test_each_ability(facts: ChatFacts, name: str, text: str) -> None:
    assert dict(chat_lines(facts))[name] == text


def test_other_models_have_none() -> None:
    assert chat_lines(None) == []


@pytest.mark.parametrize(("divergence", "is_noted"), [(0.002, False), (0.2, True)])
def test_what_quantizing_has_cost(divergence: float, is_noted: bool) -> None:
    manifest = Manifest(
        name="tiny-4bit",
        kind=ModelKind.CHAT,
        architecture="qwen3",
        created_at="2026-01-01T00:00:00Z",
        chat=ABLE,
        converted_from="tiny",
        quantization={"bits": 4, "group_size": 64, "mode": "affine"},
        quality=Quality(texts=100, same_token=0.915, mean_divergence=divergence),
    )
    assert dict(quality_lines(manifest))["quality"] == (
        "the original's next token in 91.5%, divergence of its probabilities"
        f" {divergence:.4f} nats (100 texts)"
    )
    assert bool(advice(manifest)) is is_noted
