"""Names to models: what resolves, what does not, and what a broken folder does to the others."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import MANIFEST_SCHEMA, ModelKind
from mlx_serve_gateway.registry import Registry
from tests.store import ModelStore

QWEN = "Qwen/Qwen3-Embedding-0.6B"


def registry(store: ModelStore, **aliases: str) -> Registry:
    return Registry(store.models_dir, aliases)


def error(registry: Registry, name: str) -> ServeError:
    with pytest.raises(ServeError) as raised:
        registry.find(name)
    return raised.value


@pytest.mark.parametrize(
    "name",
    [
        "Qwen3-Embedding-0.6B",
        QWEN,
        "Qwen3-Embedding-0.6B:latest",
        QWEN + ":latest",
        "qwen3-embedding-0.6b",
        "QWEN/QWEN3-EMBEDDING-0.6B",
        "qwen-embedding",
        "qwen-embedding:latest",
        "mine",
    ],
)
def test_a_model_is_found_by_every_name_it_has(store: ModelStore, name: str) -> None:
    model = store.add("Qwen3-Embedding-0.6B", source=QWEN)

    assert registry(store, mine=QWEN).find(name) == model


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":latest",
        "b",
        "a:8b",
        "../a",
        "a/..",
        "./a",
        "/",
        "a\0",
        "models/a",
        "a" * 513,
        "A" * 100_000,
        "\N{LATIN SMALL LETTER A WITH RING ABOVE}",
        "\ud800",
    ],
)
def test_any_other_name_is_not_found(store: ModelStore, name: str) -> None:
    store.add("a")
    told = error(registry(store), name)

    assert told.code is ErrorCode.MODEL_NOT_FOUND
    assert told.param == "model"
    assert len(told.message) < 300


def test_a_hostile_name_is_shown_harmlessly(store: ModelStore) -> None:
    told = error(registry(store), "\x1b[2J\nevil")

    assert "\x1b" not in told.message
    assert "\n" not in told.message


def test_the_exact_name_wins_over_another_in_other_case(store: ModelStore) -> None:
    upper, lower = store.add("Model"), store.add("model")
    found = registry(store)

    assert found.find("Model") == upper
    assert found.find("model") == lower
    assert error(found, "MODEL").code is ErrorCode.MODEL_NOT_FOUND


def test_a_repository_installed_twice_means_the_one_that_is_called_like_it(
    store: ModelStore,
) -> None:
    full, small = store.add("bge", source="BAAI/bge"), store.add("bge-4bit", source="BAAI/bge")
    found = registry(store)

    assert found.find("bge") == found.find("BAAI/bge") == full
    assert found.find("bge-4bit") == small


def test_a_repository_means_the_original_and_not_what_was_quantized(store: ModelStore) -> None:
    original = store.add("mine", source="BAAI/bge")
    quantized = msgspec.structs.replace(original.manifest, name="mine-4bit", converted_from="mine")
    store.add_raw("mine-4bit", msgspec.json.encode(quantized))
    assert registry(store).find("BAAI/bge") == original


def test_a_repository_that_could_mean_two_models_means_none(store: ModelStore) -> None:
    one, two = store.add("one", source="BAAI/bge"), store.add("two", source="BAAI/bge")
    found = registry(store)

    assert (found.find("one"), found.find("two")) == (one, two)
    assert error(found, "BAAI/bge").code is ErrorCode.MODEL_NOT_FOUND


def test_an_alias_of_a_missing_model_is_not_found(store: ModelStore) -> None:
    assert error(registry(store), "bge-small").code is ErrorCode.MODEL_NOT_FOUND


def test_the_wrong_kind_is_told(store: ModelStore) -> None:
    store.add("ranker", ModelKind.RERANKER)
    with pytest.raises(ServeError) as raised:
        registry(store).find_kind("ranker", ModelKind.EMBEDDING)

    assert raised.value.code is ErrorCode.MODEL_TYPE_MISMATCH
    assert "reranker" in raised.value.message
    assert "embedding" in raised.value.message


def test_without_a_name_the_only_model_is_meant(store: ModelStore) -> None:
    model = store.add("a")
    ranker = store.add("ranker", ModelKind.RERANKER)
    found = registry(store)

    assert found.find_or_only(None, ModelKind.EMBEDDING) == model
    assert found.find_or_only(None, ModelKind.RERANKER) == ranker
    for kind in (None, ModelKind.CHAT):
        with pytest.raises(ServeError) as raised:
            found.find_or_only(None, kind)
        assert raised.value.code is ErrorCode.INVALID_REQUEST


def manifest(**fields: object) -> bytes:
    whole = {
        "name": "broken",
        "kind": "embedding",
        "architecture": "fake",
        "created_at": "2026-01-01T00:00:00Z",
    }
    return msgspec.json.encode(whole | fields)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"[]", "damaged"),
        (manifest(kind="toaster"), "damaged"),
        (manifest(name=None), "damaged"),
        (manifest(created_at="yesterday"), "damaged"),
        (manifest(schema=MANIFEST_SCHEMA + 1), "newer"),
        (manifest(schema=MANIFEST_SCHEMA + 1, kind="oracle", pipeline=7), "newer"),
        (manifest(name="a"), "second model"),
    ],
)
def test_a_broken_folder_hides_no_other(store: ModelStore, content: bytes, told: str) -> None:
    model = store.add("a")
    store.add_raw("broken", content)
    found = registry(store)

    assert found.models() == [model]
    ((folder, reason),) = found.broken()
    assert folder == "broken"
    assert told in reason
    with pytest.raises(ServeError, match="cannot be used; `mlx-serve list` says why") as refused:
        found.find("broken")
    assert refused.value.code is ErrorCode.MODEL_NOT_FOUND


def test_a_folder_without_a_manifest_is_told(store: ModelStore) -> None:
    (store.models_dir / "empty").mkdir()

    assert registry(store).broken() == [("empty", "no manifest.json")]


def test_a_manifest_that_cannot_be_read_is_told(store: ModelStore) -> None:
    (store.models_dir / "odd" / "manifest.json").mkdir(parents=True)

    ((folder, reason),) = registry(store).broken()
    assert folder == "odd"
    assert "cannot be read" in reason


def test_what_is_no_model_folder_is_passed_over(store: ModelStore) -> None:
    model = store.add("a")
    (store.models_dir / ".staging-1").mkdir()
    (store.models_dir / "metadata.json").write_text("{}")
    (store.models_dir / "dangling").symlink_to(store.models_dir / "nowhere")
    found = registry(store)

    assert found.models() == [model]
    assert found.broken() == []


def test_a_missing_models_folder_is_an_empty_one(tmp_path: Path) -> None:
    found = Registry(tmp_path / "later", {})
    assert found.models() == []

    store = ModelStore(tmp_path / "later")
    model = store.add("a")
    assert found.find("a") == model


def test_changes_are_seen_even_within_one_tick_of_the_clock(store: ModelStore) -> None:
    found = registry(store)
    assert found.models() == []
    moment = store.models_dir.stat()

    for name in ("a", "b", "c"):
        model = store.add(name)
        # As on a file system with a coarse clock: the folder changed, its time did not.
        os.utime(store.models_dir, ns=(moment.st_atime_ns, moment.st_mtime_ns))
        assert found.find(name) == model


def test_a_removed_model_is_gone(store: ModelStore) -> None:
    model = store.add("a")
    found = registry(store)
    assert found.find("a") == model

    model.path.rename(store.models_dir / ".trash")
    assert error(found, "a").code is ErrorCode.MODEL_NOT_FOUND


def test_an_unchanged_folder_is_not_read_again(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("a")
    long_ago = 1_000_000_000_000_000_000
    os.utime(store.models_dir, ns=(long_ago, long_ago))
    found = registry(store)
    found.find("a")

    monkeypatch.setattr("mlx_serve_gateway.registry.read_manifest", None)
    assert found.find("a").name == "a"


def test_models_are_listed_by_name(store: ModelStore) -> None:
    for name in ("b", "c", "a"):
        store.add(name)

    assert [model.name for model in registry(store).models()] == ["a", "b", "c"]


@pytest.mark.parametrize("place", ["the folder", "a manifest"])
def test_a_process_without_descriptors_forgets_no_model(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    store.add("a")
    models = registry(store)
    models.find("a")
    store.add("b")

    def refused(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as broken:
        if place == "the folder":
            broken.setattr(Path, "iterdir", refused)
        else:
            broken.setattr(os, "open", refused)
        assert models.find("a").name == "a"
        assert models.broken() == []
    assert models.find("b").name == "b"
