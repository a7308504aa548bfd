"""Pulling a model: what is fetched, what it becomes, what a second pull finds."""

import hashlib
import shutil
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.models import MANIFEST_FILE, ModelKind
from mlx_serve_gateway.registry import Registry
from tests.engine import tiny
from tests.hub.repositories import HubRepository
from tests.hub.server import Hub
from tests.process.pull.conftest import REPO, WEIGHTS, Home

pytestmark = [pytest.mark.process, pytest.mark.engine]

UNNEEDED = ("README.md", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", "evil.py")


def test_pulled_model_is_listed_and_answers(home: Home) -> None:
    events = home.run()
    assert events[-1].model == "tiny"
    (listed,) = Registry(home.models, {}).models()
    repository = home.hub.repositories[REPO]
    assert (listed.name, listed.kind) == ("tiny", ModelKind.EMBEDDING)
    assert (listed.manifest.source, listed.manifest.revision) == (REPO, repository.commit)
    assert Registry(home.models, {}).find(REPO).name == "tiny"
    for name, record in listed.manifest.files.items():
        content = (listed.path / name).read_bytes()
        assert content == repository.files[name].content
        assert record.sha256 == hashlib.sha256(content).hexdigest()
    home.assert_works()
    home.assert_nothing_left()
    # Nothing else is asked of the hub, such as what huggingface_hub wants to know for itself.
    asked = {request.path for request in home.hub.asked("hub")}
    prefix = f"/{REPO}/resolve/{repository.commit}/"
    assert asked == {f"/api/models/{REPO}", *(prefix + name for name in repository.files)}


def test_progress_adds_up(home: Home) -> None:
    downloading = [event for event in home.run() if event.status == "downloading"]
    last = downloading[-1]
    assert last.completed == last.total
    assert {event.digest for event in downloading} == {last.digest}
    assert (last.digest or "").startswith("sha256:")
    counts = [event.completed or 0 for event in downloading]
    assert counts == sorted(counts)
    assert all((event.completed or 0) <= (event.total or 0) for event in downloading)


def test_only_what_is_needed_is_fetched_and_once(home: Home, tiny_files: dict[str, bytes]) -> None:
    home.hub.add(HubRepository(REPO, tiny_files | dict.fromkeys(UNNEEDED, b"unneeded")))
    home.pull()
    sent = {name: count for name, count in home.hub.bytes_sent.items() if name != "api"}
    assert sent == {name: len(content) for name, content in tiny_files.items()}
    assert not any((home.models / "tiny" / name).exists() for name in UNNEEDED)


@pytest.mark.parametrize("layout", ["dense-tanh", "sharded", "prompt"])
def test_every_part_of_a_model_comes_along(layout: str, home: Home, tmp_path: Path) -> None:
    source = tiny.build(tiny.LAYOUTS[layout], tmp_path / "source")
    home.hub.add(HubRepository.of_folder(REPO, source))
    manifest = home.pull()
    on_disk = {path.name for path in (home.models / "tiny").rglob("*") if path.is_file()}
    assert on_disk == {Path(name).name for name in manifest.files} | {MANIFEST_FILE}


def test_transformer_in_a_folder_of_its_own(home: Home, tmp_path: Path) -> None:
    from dataclasses import replace

    layout = replace(tiny.LAYOUTS["sharded"], transformer_folder="0_Transformer")
    source = tiny.build(layout, tmp_path / "source")
    # Not the model's, though it lies where most have theirs.
    (source / "other.safetensors").write_bytes(b"x" * 1000)
    home.hub.add(HubRepository.of_folder(REPO, source))
    assert home.pull().transformer_folder == "0_Transformer"
    assert home.hub.bytes_sent["other.safetensors"] == 0


def test_single_file_beside_shards(home: Home, tiny_files: dict[str, bytes]) -> None:
    other = {"consolidated.safetensors": b"x" * 1000, "model-00001-of-00001.safetensors": b"y"}
    home.hub.add(HubRepository(REPO, tiny_files | other))
    home.pull()
    assert all(home.hub.bytes_sent[name] == 0 for name in other)


def test_second_pull_asks_the_hub_nothing(home: Home) -> None:
    home.pull()
    asked = len(home.hub.requests)
    last = home.run(HF_HUB_OFFLINE="1")[-1]
    assert (last.model, last.detail) == ("tiny", "tiny is installed already")
    home.pull("ORG/Tiny")
    assert len(home.hub.requests) == asked
    assert home.installed() == ["tiny"]


def test_revisions(home: Home, tiny_files: dict[str, bytes]) -> None:
    commit = home.hub.repositories[REPO].commit
    home.hub.repositories[REPO].tags["v1"] = commit
    assert home.pull(f"{REPO}@v1").revision == commit
    home.pull(f"{REPO}@{commit}")
    home.pull(f"{REPO}@main")
    newer = home.hub.add(HubRepository(REPO, tiny_files | {"extra.json": b"{}"}))
    home.pull()  # it is installed, and nobody asked for something newer
    refused = home.refusal(f"{REPO}@main")
    assert refused.code is ErrorCode.INVALID_REQUEST
    assert commit[:12] in refused.message
    assert home.pull(f"{REPO}@main", name="newer").revision == newer.commit
    assert home.refusal(f"{REPO}@nonsense", name="x").code is ErrorCode.MODEL_NOT_FOUND


def test_replacing_fetches_what_is_newer(home: Home, tiny_files: dict[str, bytes]) -> None:
    home.pull()
    newer = home.hub.add(HubRepository(REPO, tiny_files | {"extra.json": b"{}"}))
    assert home.pull(replace=True).revision == newer.commit
    (home.models / "tiny" / MANIFEST_FILE).write_text("{")
    assert "is damaged" in home.refusal().message
    home.pull(replace=True)
    home.assert_works()
    home.assert_nothing_left()


def test_names(home: Home, tiny_files: dict[str, bytes]) -> None:
    home.hub.add(HubRepository("other/Tiny", tiny_files))
    home.pull()
    for wish in ({}, {"name": "tiny"}, {"name": "tiny", "replace": True}, {"name": "TINY"}):
        asked = len(home.hub.requests)
        refused = home.refusal("other/Tiny", **wish)
        assert refused.code is ErrorCode.INVALID_REQUEST
        assert "--name" in refused.message
        assert len(home.hub.requests) == asked
    home.pull("other/Tiny", name="another")
    assert home.installed() == ["another", "tiny"]
    assert home.refusal("other/Tiny", name="../x").param == "name"


def test_type_is_what_it_has_to_be(home: Home) -> None:
    refused = home.refusal(kind=ModelKind.RERANKER)
    assert (refused.code, "not of type reranker" in refused.message) == (
        ErrorCode.INVALID_MODEL,
        True,
    )
    # Its settings showed that: the weights never moved.
    assert home.hub.bytes_sent[WEIGHTS] == 0
    home.assert_nothing_left()
    home.pull(kind=ModelKind.EMBEDDING)
    assert "is of type embedding" in home.refusal(kind=ModelKind.RERANKER).message


@pytest.mark.parametrize(
    "reference",
    [
        "tiny", "a/b/c", "../../etc", "..%2f", "a/../../b", "/abs", "C:\\x", "a\0b/c", "-rf/x", ".",
        "org/" + "x" * 300, "org/tiny@", "org/tiny@-x", "org/tiny@a..b", "org/a--b", "org//tiny",
        "https://example.org/org/tiny", "org/tiny\n", "org/ti ny", "", "@main",
    ],
)  # fmt: skip
def test_what_is_no_repository(reference: str, home: Home) -> None:
    refused = home.refusal(reference)
    assert (refused.code, refused.param) == (ErrorCode.INVALID_REQUEST, "model")
    assert home.hub.requests == []


class TestCache:
    """What huggingface_hub has downloaded before."""

    def fill(self, home: Home, name: str, content: bytes) -> None:
        file = home.hub.repositories[REPO].files[name]
        blob = home.cache / "models--org--tiny" / "blobs" / file.etag
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)

    def test_files_are_taken_from_there(self, home: Home, tiny_files: dict[str, bytes]) -> None:
        for name in (WEIGHTS, "config.json"):
            self.fill(home, name, tiny_files[name])
        home.pull()
        assert home.hub.bytes_sent[WEIGHTS] == home.hub.bytes_sent["config.json"] == 0
        home.assert_works()

    @pytest.mark.parametrize("change", [b"", b"x", b"longer" * 100_000])
    def test_only_if_they_are_what_they_should_be(
        self, change: bytes, home: Home, tiny_files: dict[str, bytes]
    ) -> None:
        content = tiny_files[WEIGHTS]
        self.fill(home, WEIGHTS, change + content[len(change) :] if change else content[:-1])
        home.pull()
        assert home.hub.bytes_sent[WEIGHTS] == len(content)
        home.assert_works()

    def test_as_the_hub_itself_leaves_them(self, home: Home, hub: Hub) -> None:
        """Downloaded by the real huggingface_hub, which so vouches for the stand-in as well."""
        import subprocess
        import sys

        script = "import huggingface_hub as h; print(h.snapshot_download('org/tiny'))"
        done = subprocess.run(
            [sys.executable, "-c", script], env=home.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        snapshot = Path(done.stdout.strip())
        content = hub.repositories[REPO].content()
        assert {name: (snapshot / name).read_bytes() for name in content} == content
        hub.bytes_sent.clear()
        home.pull()
        assert hub.file_bytes() == 0
        shutil.rmtree(home.cache)
        home.assert_works()
