"""Pulling a chat model: what comes along, and what is refused before its weights are fetched."""

import json
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from tests.engine.tiny_chat import chat_template, write_chat_repository
from tests.hub.repositories import HubRepository
from tests.process.pull.conftest import REPO, Home

pytestmark = [pytest.mark.process, pytest.mark.engine]


def publish(home: Home, folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    home.hub.add(HubRepository(REPO, files | {"README.md": b"unneeded"}))


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_pulled_chat_model(architecture: str, home: Home, tmp_path: Path) -> None:
    folder = write_chat_repository(tmp_path / "source", architecture, shards=2)
    publish(home, folder)
    manifest = home.pull()
    assert manifest.kind is ModelKind.CHAT
    assert set(manifest.files) == {path.name for path in folder.iterdir()}
    assert manifest.chat is not None and manifest.chat.template == chat_template(architecture)
    assert manifest.verified is not None and manifest.verified.passed


def test_chat_model_that_cannot_be_served_costs_no_weights(home: Home, tmp_path: Path) -> None:
    folder = write_chat_repository(tmp_path / "source")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "unheard_of"}
    (folder / "config.json").write_text(json.dumps(config))
    publish(home, folder)
    with pytest.raises(ServeError, match="'unheard_of' cannot be served") as refused:
        home.pull()
    assert refused.value.code is ErrorCode.INVALID_MODEL
    assert not home.hub.bytes_sent.get("model.safetensors")
