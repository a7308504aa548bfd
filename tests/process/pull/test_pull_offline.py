"""Installing what huggingface_hub has downloaded before, when the hub cannot be asked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from mlx_serve_common.errors import ErrorCode
from tests.hub.repositories import HubRepository
from tests.process.pull.conftest import REPO, WEIGHTS, Home

pytestmark = [pytest.mark.process, pytest.mark.engine]


@pytest.fixture
def cached(home: Home) -> Path:
    """The repository's folder in the cache, filled by the real huggingface_hub."""
    script = "import huggingface_hub as h; h.snapshot_download('org/tiny')"
    done = subprocess.run([sys.executable, "-c", script], env=home.env, capture_output=True)
    assert done.returncode == 0, done.stderr
    home.hub.requests.clear()
    return home.cache / "models--org--tiny"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def commit(home: Home) -> str:
    return home.hub.repositories[REPO].commit


def test_offline(home: Home, cached: Path) -> None:
    events = home.run(HF_HUB_OFFLINE="1")
    assert (events[-1].status, events[-1].model) == ("success", "tiny"), events
    assert any("huggingface_hub's cache" in (event.detail or "") for event in events)
    assert home.hub.requests == []
    assert home.pull(f"{REPO}@{commit(home)}").revision == commit(home)
    home.assert_works()
    home.assert_nothing_left()


def test_a_hub_that_cannot_be_reached(
    home: Home, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    made = home.pull()
    assert (made.source, made.revision) == (REPO, commit(home))
    assert "huggingface_hub's cache" in " ".join(event.detail or "" for event in home.events)


def test_a_hub_that_can_be_asked_is(home: Home, cached: Path, tiny_files: dict[str, bytes]) -> None:
    newer = home.hub.add(HubRepository(REPO, tiny_files | {"extra.json": b"{}"}))
    assert home.pull().revision == newer.commit
    del home.hub.repositories[REPO]
    assert home.refusal(name="other").code is ErrorCode.MODEL_NOT_FOUND


@pytest.mark.usefixtures("offline")
class TestOffline:
    @pytest.mark.parametrize("revision", ["", "@main", "@commit"])
    def test_revisions_that_are_known(self, revision: str, home: Home, cached: Path) -> None:
        reference = REPO + revision.replace("commit", commit(home))
        assert home.pull(reference).revision == commit(home)

    @pytest.mark.parametrize("reference", [f"{REPO}@v1", f"{REPO}@" + "0" * 40, "org/other"])
    def test_what_is_not_known(self, reference: str, home: Home, cached: Path) -> None:
        refused = home.refusal(reference)
        assert refused.code is ErrorCode.UPSTREAM_ERROR
        assert "HF_HUB_OFFLINE is set" in refused.message
        home.assert_nothing_left()

    @pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
    def test_a_file_that_is_missing_or_damaged(self, name: str, home: Home, cached: Path) -> None:
        blob = (cached / "snapshots" / commit(home) / name).resolve()
        content = blob.read_bytes()
        for found in (None, b"x" * len(content)):
            blob.unlink()
            if found is not None:
                blob.write_bytes(found)
            refused = home.refusal()
            assert refused.code is ErrorCode.UPSTREAM_ERROR
            assert repr(name) in refused.message
            blob.touch()
        blob.write_bytes(content)
        home.pull()
        home.assert_nothing_left()

    @pytest.mark.parametrize("damage", ["{", '{"x":' + "[" * 100_000])
    def test_a_list_that_is_damaged(self, damage: str, home: Home, cached: Path) -> None:
        (tree,) = (cached / "trees").iterdir()
        tree.write_text(damage)
        assert home.pull().revision == commit(home)  # its links tell as well

    def test_a_list_that_leaves_the_folder(self, home: Home, cached: Path) -> None:
        (tree,) = (cached / "trees").iterdir()
        listed = json.loads(tree.read_bytes())
        listed["files"]["../../evil.json"] = listed["files"]["config.json"]
        tree.write_text(json.dumps(listed))
        assert home.refusal().code is ErrorCode.UNSAFE_MODEL


@pytest.mark.usefixtures("offline")
class TestOlderCache:
    """Without a list: what is there has to show that it is all."""

    @pytest.fixture(autouse=True)
    def older(self, cached: Path) -> None:
        shutil.rmtree(cached / "trees")

    def test_all_is_there(self, home: Home) -> None:
        assert home.pull().revision == commit(home)
        home.assert_works()

    @pytest.mark.parametrize("shown_by", ["", "README.md", ".no_exist"])
    def test_without_the_file_that_decides_how_vectors_are_made(
        self, shown_by: str, home: Home, cached: Path
    ) -> None:
        snapshot = cached / "snapshots" / commit(home)
        (snapshot / "modules.json").unlink()
        if shown_by == "README.md":
            (snapshot / "README.md").symlink_to((snapshot / "config.json").readlink())
        elif shown_by:
            (cached / ".no_exist" / commit(home)).mkdir(parents=True)
            (cached / ".no_exist" / commit(home) / "modules.json").touch()
        if shown_by:
            home.pull()
        else:
            assert home.refusal().code is ErrorCode.UPSTREAM_ERROR

    def test_what_is_loaded_in_part_is_no_model(self, home: Home, cached: Path) -> None:
        (cached / "snapshots" / commit(home) / WEIGHTS).unlink()
        refused = home.refusal()
        assert refused.code is ErrorCode.UPSTREAM_ERROR
        assert "what its cache has is not enough" in refused.message
