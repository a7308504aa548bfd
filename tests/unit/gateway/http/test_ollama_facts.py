"""Models in Ollama's words, complete and stable."""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.models import (
    ChatFacts,
    FileRecord,
    GenerationDefaults,
    InstalledModel,
    Manifest,
    ModelKind,
)
from mlx_serve_gateway.http import ollama_facts as facts
from tests.unit.gateway.http.chat_models import ABLE, BARE, SIMPLE

FILES = {"model.safetensors": FileRecord(10, "aa" * 32), "config.json": FileRecord(2, "bb" * 32)}


def manifest(**more: Any) -> Manifest:
    known: dict[str, Any] = {
        "name": "tiny",
        "kind": ModelKind.EMBEDDING,
        "architecture": "bert",
        "created_at": "2026-01-01T00:00:00Z",
        "files": FILES,
    }
    return Manifest(**(known | more))


def test_the_digest_is_that_of_the_files_in_any_order() -> None:
    digest = facts.digest(manifest())

    assert len(digest) == 64
    assert set(digest) <= set("0123456789abcdef")
    assert facts.digest(manifest(files=dict(reversed(FILES.items())), name="other")) == digest
    changed = FILES | {"config.json": FileRecord(2, "cc" * 32)}
    assert facts.digest(manifest(files=changed)) != digest
    moved = {"a": FILES["model.safetensors"], "config.json": FILES["config.json"]}
    assert facts.digest(manifest(files=moved)) != digest


@pytest.mark.parametrize(
    "created_at",
    ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T09:00:00+09:00"],
)
def test_times_have_a_zone(created_at: str) -> None:
    told = facts.modified_at(manifest(created_at=created_at))

    assert datetime.fromisoformat(told) == datetime.fromisoformat("2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("given", "size", "level"),
    [
        ({"dtype": "float32", "weights_bytes": 90_868_376}, "22.72M", "F32"),
        ({"dtype": "bfloat16", "weights_bytes": 16_381_470_720}, "8.191B", "BF16"),
        ({"dtype": "float16", "weights_bytes": 4_000}, "2K", "F16"),
        ({"dtype": "float32", "weights_bytes": 400}, "100", "F32"),
        ({"dtype": "float32"}, "", "F32"),
        ({"dtype": "float8", "weights_bytes": 9}, "", "float8"),
        ({}, "", ""),
        (
            {"dtype": "float16", "weights_bytes": 9, "quantization": {"bits": 4, "group_size": 64}},
            "",
            "4bit",
        ),
        ({"quantization": {"bits": 4, "mode": "mxfp4"}}, "", "mxfp4"),
    ],
)
def test_size_and_precision(given: dict[str, Any], size: str, level: str) -> None:
    details = facts.details(manifest(**given))

    assert (details.parameter_size, details.quantization_level) == (size, level)


def test_what_is_not_known_is_left_out_and_nothing_is_null() -> None:
    info = facts.model_info(InstalledModel(manifest(), Path("tiny")))

    assert info["general.architecture"] == "bert"
    assert None not in info.values()
    assert "bert.context_length" not in info


def test_what_clients_look_for() -> None:
    known = manifest(max_tokens=512, dimensions=384, dtype="float32", weights_bytes=400)
    info = facts.model_info(InstalledModel(known, Path("tiny")))

    assert info["bert.context_length"] == 512
    assert info["bert.embedding_length"] == 384
    assert info["general.parameter_count"] == 100


@pytest.mark.parametrize("kind", ModelKind)
def test_every_kind_can_do_something(kind: ModelKind) -> None:
    (capability,) = facts.capabilities(manifest(kind=kind))

    assert capability == {"chat": "completion", "reranker": "rerank"}.get(kind, kind)


def test_details_have_every_key_and_no_null() -> None:
    details = msgspec.to_builtins(facts.details(manifest()))

    assert set(details) == {
        "parent_model", "format", "family", "families", "parameter_size", "quantization_level",
    }  # fmt: skip
    assert None not in details.values()


@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        (ABLE, ["completion", "tools", "thinking"]),
        (msgspec.structs.replace(ABLE, tool_parser=None), ["completion", "thinking"]),
        (SIMPLE, ["completion"]),
        (BARE, ["completion"]),
    ],
)
def test_what_a_chat_model_can_do(chat: ChatFacts, expected: list[str]) -> None:
    assert facts.capabilities(manifest(kind=ModelKind.CHAT, chat=chat)) == expected


def test_how_a_chat_model_wants_to_be_asked() -> None:
    wanted = GenerationDefaults(temperature=0.6, top_k=20, repetition_penalty=1.05)
    chat = msgspec.structs.replace(ABLE, defaults=wanted)
    model = manifest(kind=ModelKind.CHAT, chat=chat)

    lines = [line.split() for line in facts.parameters(model).splitlines()]
    assert lines == [["temperature", "0.6"], ["top_k", "20"], ["repeat_penalty", "1.05"]]
    assert facts.template(model) == ABLE.template
    bare = manifest(kind=ModelKind.CHAT, chat=BARE)
    assert (facts.template(bare), facts.parameters(bare)) == ("", "")


def test_size_of_a_chat_model_is_known_although_it_is_quantized() -> None:
    chat = msgspec.structs.replace(ABLE, parameters=8_190_735_360, width=4096)
    quantization = {"bits": 4, "group_size": 64, "mode": "affine"}
    model = manifest(
        kind=ModelKind.CHAT,
        architecture="qwen3",
        chat=chat,
        quantization=quantization,
        max_tokens=9,
    )

    told = facts.details(model)
    assert (told.family, told.parameter_size, told.quantization_level) == (
        "qwen3",
        "8.191B",
        "4bit",
    )
    info = facts.model_info(InstalledModel(model, Path()))
    assert info["general.parameter_count"] == 8_190_735_360
    assert (info["qwen3.context_length"], info["qwen3.embedding_length"]) == (9, 4096)
