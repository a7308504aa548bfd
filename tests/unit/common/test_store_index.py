"""``metadata.json``: what people read, and nothing depends on."""

from pathlib import Path

import msgspec
import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import MANIFEST_FILE, Manifest, ModelKind, encode_manifest
from mlx_serve_common.names import INDEX_FILE, check_name
from mlx_serve_common.store import Store
from mlx_serve_common.store_changes import copy_model, remove_model
from tests.unit.common.test_store_changes import listed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "models")
    publish(store, "b")
    publish(store, "a")
    return store


def publish(store: Store, name: str) -> None:
    manifest = Manifest(
        name=name,
        kind=ModelKind.EMBEDDING,
        architecture="bert",
        created_at="2026-01-01T00:00:00Z",
        source=f"org/{name}",
    )
    with store.locked(name), store.staging() as staged:
        (staged / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
        store.publish(staged, name, replace=False)


def indexed(store: Store) -> list[tuple[str, str, str]]:
    index = msgspec.json.decode((store.models_dir / INDEX_FILE).read_bytes())
    return [(model["name"], model["type"], model["source"]) for model in index["models"]]


def test_it_follows_what_is_installed(store: Store) -> None:
    assert indexed(store) == [("a", "embedding", "org/a"), ("b", "embedding", "org/b")]
    copy_model(store.models_dir, "a", "c")
    remove_model(store.models_dir, "a")
    assert [name for name, *_ in indexed(store)] == ["b", "c"]
    (store.models_dir / "link").symlink_to(store.models_dir / "b")
    remove_model(store.models_dir, "link")
    assert listed(store.models_dir) == ["b", "c"]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"models": []}', b"\xff"])
def test_it_is_made_anew_from_the_manifests(content: bytes | None, store: Store) -> None:
    path = store.models_dir / INDEX_FILE
    right = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (store.models_dir / "broken").mkdir()
    store.write_index()
    assert path.read_bytes() == right


def test_what_is_right_is_left_alone(store: Store) -> None:
    before = (store.models_dir / INDEX_FILE).stat().st_ino, store.models_dir.stat().st_mtime_ns
    store.write_index()
    assert before == (
        (store.models_dir / INDEX_FILE).stat().st_ino,
        store.models_dir.stat().st_mtime_ns,
    )


def test_that_it_cannot_be_written_is_no_harm(store: Store) -> None:
    path = store.models_dir / INDEX_FILE
    path.unlink()
    (path / "in the way").mkdir(parents=True)
    publish(store, "c")
    remove_model(store.models_dir, "a")
    assert listed(store.models_dir) == ["b", "c", INDEX_FILE]


@pytest.mark.parametrize("name", [INDEX_FILE, "Metadata.JSON"])
def test_no_model_has_its_name(name: str) -> None:
    with pytest.raises(ServeError, match="list of the models"):
        check_name(name)
