"""Model folders into the store: what is copied, what is refused, what a second attempt finds."""

import errno
import hashlib
import os
import shutil
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mlx_serve_common import durable
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.events import JobEvent
from mlx_serve_common.models import MANIFEST_FILE, Manifest, read_manifest
from mlx_serve_common.names import check_name
from mlx_serve_common.store import Store
from mlx_serve_worker import installation
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import IfInstalled, install
from tests.engine import safetensors_file, tiny
from tests.engine.models import embed, load, prepare

pytestmark = pytest.mark.engine


class Home(NamedTuple):
    source: Path
    models: Path
    events: list[JobEvent]

    def install(
        self,
        name: str = "tiny",
        if_installed: IfInstalled = "refuse",
        source_id: str | None = None,
    ) -> Manifest:
        origin = Origin(name, source=source_id)
        store = Store(self.models)
        return install(self.source, store, origin, if_installed, self.events.append)

    def refusal(self, name: str = "tiny", if_installed: IfInstalled = "refuse") -> ServeError:
        with pytest.raises(ServeError) as refused:
            self.install(name, if_installed)
        assert str(self.models.parent) not in refused.value.message
        return refused.value

    def installed(self) -> list[str]:
        return sorted(path.name for path in self.models.glob("[!.]*/"))

    def staged(self) -> list[Path]:
        staging = self.models / ".staging"
        return [path for path in staging.iterdir() if path.is_dir()] if staging.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    source = tiny.build(tiny.LAYOUTS["dense-tanh"], tmp_path / "source")
    return Home(source, tmp_path / "home/models", [])


def test_installed_model_is_whole_and_works(home: Home) -> None:
    manifest = home.install()
    folder = home.models / "tiny"
    assert read_manifest(folder) == manifest
    on_disk = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_FILE
    }
    assert on_disk.keys() == manifest.files.keys()
    for name, path in on_disk.items():
        content = path.read_bytes()
        assert content == (home.source / name).read_bytes()
        assert manifest.files[name].sha256 == hashlib.sha256(content).hexdigest()
    sizes = {name: path.stat().st_size for name, path in on_disk.items()}
    assert manifest.size_bytes == sum(sizes.values())
    weights = ("model.safetensors", "2_Dense/model.safetensors")
    assert manifest.weights_bytes == sum(sizes[name] for name in weights)
    backend = load(folder)
    assert embed(backend, prepare(backend, ["a"])).shape == (1, 24)
    assert home.staged() == []


def test_only_what_is_needed_is_copied(home: Home) -> None:
    unneeded = ["evil.py", "pytorch_model.bin", "README.md", "data.json", ".hidden", "onnx/m.onnx"]
    for name in unneeded:
        (home.source / name).parent.mkdir(exist_ok=True)
        (home.source / name).write_text("{}")
    home.install()
    assert not any((home.models / "tiny" / name).exists() for name in unneeded)


def test_progress_adds_up(home: Home) -> None:
    manifest = home.install()
    copying = [event for event in home.events if event.status == "copying"]
    assert [event.detail for event in copying] == list(manifest.files)
    assert {event.total for event in copying} == {manifest.size_bytes}
    assert copying[-1].completed == manifest.size_bytes
    assert [event.status for event in home.events if event.status != "copying"] == [
        "resolving",
        "verifying",
        "verifying",
    ]


def test_taken_name_is_refused_or_kept(home: Home) -> None:
    home.install(source_id="org/one")
    before = (home.models / "tiny" / MANIFEST_FILE).read_bytes()
    refused = home.refusal()
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert "--name" in refused.message
    home.install(if_installed="keep")
    home.install(if_installed="keep", source_id="org/one")
    with pytest.raises(ServeError, match="comes from org/one"):
        home.install(if_installed="keep", source_id="org/two")
    assert (home.models / "tiny" / MANIFEST_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Tiny", "tiny"),
        ("straße", "STRASSE"),
        ("café", "CAFÉ"),
        ("e\u0301", "É"),
        ("ﬁne", "fine"),
        ("가나", unicodedata.normalize("NFD", "가나") + "x"),
    ],
)
def test_names_that_could_be_mistaken(first: str, second: str, home: Home) -> None:
    home.install(first)
    if second.endswith("x"):
        home.install(second)
        return
    for if_installed in ("refuse", "keep", "replace"):
        message = home.refusal(second, if_installed).message
        assert "only in spelling" in message
    assert len(home.installed()) == 1


def test_one_name_in_two_normal_forms_is_one(home: Home) -> None:
    home.install(unicodedata.normalize("NFD", "모델"))
    assert home.installed() == [unicodedata.normalize("NFC", "모델")]
    home.install("모델", "keep")


@pytest.mark.parametrize(
    "name", ["a", "Qwen3-Embedding-0.6B", "모델", "x" * 128, "a+b_c.d", "हिन्दी"]
)
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".a", "-rf", "a/b", "../a", "/a", "a\\b", "C:x", "a\0b", "a\nb", "a b",
        "a:latest", "x" * 129, "모" * 86, "\ud800", "a\u202eb", "\u200b", "a*", "~a",
    ],
)  # fmt: skip
def test_bad_names(name: str, home: Home) -> None:
    assert home.refusal(name).param == "name"
    assert not home.installed()


def test_replacing_leaves_only_the_new_one(home: Home) -> None:
    home.install()
    tiny.build(tiny.LAYOUTS["cls"], home.source)
    assert home.install(if_installed="replace").dimensions == tiny.WIDTH
    assert read_manifest(home.models / "tiny").dimensions == tiny.WIDTH
    assert (home.installed(), home.staged()) == (["tiny"], [])


def test_replacing_where_folders_cannot_be_swapped(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.install()
    tiny.build(tiny.LAYOUTS["cls"], home.source)
    monkeypatch.setattr("mlx_serve_common.store.exchange", lambda one, other: False)
    home.install(if_installed="replace")
    assert read_manifest(home.models / "tiny").dimensions == tiny.WIDTH
    assert home.staged() == []


def test_damaged_model_is_told_and_can_be_replaced(home: Home) -> None:
    home.install()
    (home.models / "tiny" / MANIFEST_FILE).write_text("{")
    for if_installed in ("refuse", "keep"):
        assert "is damaged" in home.refusal(if_installed=if_installed).message
    home.install(if_installed="replace")
    read_manifest(home.models / "tiny")


def test_unfit_source_leaves_nothing(home: Home) -> None:
    (home.source / "model.safetensors").write_bytes(b"\x80\x04pickle")
    assert home.refusal().code is ErrorCode.INVALID_MODEL
    assert (home.installed(), home.staged()) == ([], [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_model_without_finite_vectors_is_not_installed(value: float, home: Home) -> None:
    bias = {"linear.weight": np.zeros((24, 32)), "linear.bias": np.full(24, value)}
    path = home.source / "2_Dense/model.safetensors"
    # tanh(inf) is 1: only a sum of both signs stays infinite.
    config = home.source / "2_Dense/config.json"
    config.write_text(config.read_text().replace("activation.Tanh", "linear.Identity"))
    safetensors_file.write(path, bias)
    assert "not finite" in home.refusal().message
    assert (home.installed(), home.staged()) == ([], [])


def test_full_disk_is_seen_before_copying(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError) as full:
        home.install()
    assert full.value.errno == errno.ENOSPC
    assert home.staged() == []


def test_file_that_becomes_a_link_or_a_pipe_is_not_followed(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(home.source / "config.json")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises((OSError, ServeError)):
            installation._copy_file(tmp_path / name, target, 10**6, lambda copied: None)
        target.unlink(missing_ok=True)
    with pytest.raises(ServeError, match="larger than"):
        installation._copy_file(home.source / "config.json", target, 10, lambda copied: None)


def test_models_folder_may_be_reached_through_a_link(home: Home, tmp_path: Path) -> None:
    home.models.mkdir(parents=True)
    (tmp_path / "link").symlink_to(home.models)
    install(home.source, Store(tmp_path / "link"), Origin("tiny"), "refuse", home.events.append)
    assert home.installed() == ["tiny"]


def test_folders_are_swapped_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    assert durable.exchange(one, other)
    assert (one / "other").exists()
    assert (other / "one").exists()
    with pytest.raises(FileNotFoundError):
        durable.exchange(one, tmp_path / "missing")
