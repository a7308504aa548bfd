"""Removing and copying models on disk: whole or not at all, and never beyond a model's folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlx_serve_common import durable, store_changes
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import (
    MANIFEST_FILE,
    FileRecord,
    Manifest,
    ModelKind,
    encode_manifest,
    read_manifest,
)
from mlx_serve_common.store import Store, sweep_staging
from mlx_serve_common.store_changes import copy_model, remove_model

FILES = {"model.safetensors": b"weights", "1_Dense/config.json": b"{}"}


def manifest(name: str) -> Manifest:
    return Manifest(
        name=name,
        kind=ModelKind.EMBEDDING,
        architecture="bert",
        created_at="2020-01-01T00:00:00Z",
        source="org/a",
        prompts={"query": "q: "},
        files={file: FileRecord(len(data), "0" * 64) for file, data in FILES.items()},
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def a(models: Path) -> Path:
    return add(models, "a")


def add(models: Path, name: str) -> Path:
    folder = models / name
    for file, data in FILES.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    (folder / "stray.py").write_text("not ours")
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest(name)))
    return folder


def listed(models: Path) -> list[str]:
    return sorted(path.name for path in models.glob("[!.]*/"))


def staged(models: Path) -> list[str]:
    return [path.name for path in (models / ".staging").iterdir() if path.name != ".lock"]


# --- remove --------------------------------------------------------------------------------------


def test_remove(models: Path) -> None:
    add(models, "b")
    remove_model(models, "a")
    assert listed(models) == ["b"]
    assert staged(models) == []
    with pytest.raises(ServeError, match="'a' not found") as caught:
        remove_model(models, "a")
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


@pytest.mark.parametrize("name", ["", ".", "..", ".staging", "../models/a", "a/1_Dense", "a\0"])
def test_no_name_leaves_the_models_folder(name: str, models: Path) -> None:
    with pytest.raises(ServeError) as caught:
        remove_model(models, name)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    with pytest.raises(ServeError):
        copy_model(models, name, "b")
    with pytest.raises(ServeError):
        copy_model(models, "a", name)
    assert listed(models) == ["a"]
    assert (models / "a/1_Dense/config.json").exists()


def test_nothing_is_made_for_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServeError):
        remove_model(tmp_path / "absent", "a")
    with pytest.raises(ServeError):
        copy_model(tmp_path / "absent", "a", "b")
    assert not (tmp_path / "absent").exists()


def test_damaged_model_is_removed(a: Path, models: Path) -> None:
    (a / MANIFEST_FILE).write_text("{")
    remove_model(models, "a")
    assert listed(models) == []


def test_links_are_removed_and_not_followed(a: Path, models: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    a.rename(outside)
    a.symlink_to(outside)
    remove_model(models, "a")
    assert listed(models) == []
    assert (outside / "model.safetensors").exists()
    assert not (models / ".staging").exists(), "a link has nothing to delete"
    b = add(models, "b")
    (b / "link").symlink_to(outside)
    remove_model(models, "b")
    assert (outside / "model.safetensors").exists()


def test_a_file_is_no_model(models: Path) -> None:
    (models / "notes.txt").write_text("mine")
    with pytest.raises(ServeError):
        remove_model(models, "notes.txt")
    assert (models / "notes.txt").exists()


def test_removing_needs_no_room(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(models).locked("a"), Store(models).staging():
        pass  # as installing it has left them

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(
        os, "mkdir", lambda path, *mode: full() if not Path(path).exists() else None
    )
    remove_model(models, "a")
    assert listed(models) == []


_DYING = """
import os, signal, sys
from pathlib import Path
from mlx_serve_common import store, store_changes

name, count = sys.argv[2], int(sys.argv[3])
target = {"rename": (Path, "rename"), "sync": (store, "sync"), "rmtree": (os, "unlink")}[name]
original = getattr(*target)

def dying(*arguments, **options):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(*target, dying)
store_changes.remove_model(Path(sys.argv[1]), "a")
"""


@pytest.mark.parametrize(
    ("point", "count", "is_listed"),
    [("rename", 0, True), ("sync", 0, False), ("rmtree", 0, False), ("rmtree", 2, False)],
)
def test_death_while_removing(point: str, count: int, is_listed: bool, models: Path) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _DYING, str(models), point, str(count)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=30,
    )
    assert died.returncode == -9
    assert listed(models) == (["a"] if is_listed else [])
    if is_listed:
        read_manifest(models / "a")
        assert (models / "a/model.safetensors").read_bytes() == b"weights"
    with Store(models).staging():
        assert len(staged(models)) == 1, "the next process sweeps away what is left"


def test_what_killed_processes_left_is_swept_and_nothing_else(models: Path) -> None:
    sweep_staging(models)
    assert not (models / ".staging").exists()
    with Store(models).staging() as at_work:
        withdrawn = Store(models).withdraw("a")
        (models / ".staging" / "abandoned").mkdir()
        sweep_staging(models)
        assert at_work.is_dir()
        assert staged(models) == [at_work.name]
    assert not withdrawn.exists()


def test_sweeping_beside_who_removes(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is listed may be gone by the time it is looked at."""
    withdrawn = Store(models).withdraw("a")
    is_dir = Path.is_dir

    def is_dir_no_longer(path: Path) -> bool:
        found = is_dir(path)
        if path == withdrawn:
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(Path, "is_dir", is_dir_no_longer)
    sweep_staging(models)
    assert staged(models) == []


# --- copy ----------------------------------------------------------------------------------------


def test_copy(a: Path, models: Path) -> None:
    made = copy_model(models, "a", "b")
    assert listed(models) == ["a", "b"]
    assert staged(models) == []
    assert made == read_manifest(models / "b")
    assert made.created_at > "2026"
    assert msgspec.structs.replace(made, name="a", created_at=manifest("a").created_at) == (
        read_manifest(a)
    )
    for file, data in FILES.items():
        assert (models / "b" / file).read_bytes() == data
        assert (models / "b" / file).stat().st_ino == (a / file).stat().st_ino
    assert not (models / "b/stray.py").exists()
    remove_model(models, "a")
    assert (models / "b/model.safetensors").read_bytes() == b"weights"


def test_copy_where_there_are_no_links(
    models: Path, monkeypatch: pytest.MonkeyPatch, a: Path
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    copy_model(models, "a", "b")
    assert (models / "b/model.safetensors").read_bytes() == b"weights"
    assert (models / "b/model.safetensors").stat().st_ino != (a / "model.safetensors").stat().st_ino


@pytest.mark.parametrize("name", ["a", "A", "\uff41"])
def test_a_taken_name_is_refused(name: str, models: Path) -> None:
    with pytest.raises(ServeError, match="a model named 'a' already") as caught:
        copy_model(models, "a", name)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert listed(models) == ["a"]


def _missing(a: Path, outside: Path) -> None:
    (a / "model.safetensors").unlink()


def _linked(a: Path, outside: Path) -> None:
    outside.write_bytes(b"secrets")
    _missing(a, outside)
    (a / "model.safetensors").symlink_to(outside)


def _linked_folder(a: Path, outside: Path) -> None:
    shutil.move(a / "1_Dense", outside)
    (a / "1_Dense").symlink_to(outside)


def _changed(a: Path, outside: Path) -> None:
    (a / "model.safetensors").write_bytes(b"more than before")


def _without_manifest(a: Path, outside: Path) -> None:
    (a / MANIFEST_FILE).unlink()


def _climbing(a: Path, outside: Path) -> None:
    outside.write_bytes(b"secrets")
    told = msgspec.structs.replace(manifest("a"), files={"../../outside": FileRecord(7, "")})
    (a / MANIFEST_FILE).write_bytes(encode_manifest(told))


@pytest.mark.parametrize(
    "damage", [_missing, _linked, _linked_folder, _changed, _without_manifest, _climbing]
)
def test_damaged_model_is_not_copied(damage: object, a: Path, models: Path, tmp_path: Path) -> None:
    assert callable(damage)
    damage(a, tmp_path / "outside")
    with pytest.raises(ServeError) as caught:
        copy_model(models, "a", "b")
    assert caught.value.code is ErrorCode.INVALID_MODEL
    assert listed(models) == ["a"]
    assert staged(models) == [] if (models / ".staging").exists() else True


def test_a_source_that_is_replaced_meanwhile(
    a: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = add(models, ".other")
    (other / MANIFEST_FILE).write_bytes(encode_manifest(manifest("other")))
    link = store_changes.link_file
    swapped: list[bool] = []

    def swapping(source: Path, target: Path, file: str, size: int) -> None:
        link(source, target, file, size)
        if not swapped:
            swapped.append(durable.exchange(a, other) or bool(a.rename(models / ".x")))

    monkeypatch.setattr(store_changes, "link_file", swapping)
    with pytest.raises(ServeError):
        copy_model(models, "a", "b")
    assert "b" not in listed(models)
