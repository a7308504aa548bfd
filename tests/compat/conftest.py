"""Two real gateways for everybody here: the starter model embeds, a stand-in chats."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_serve_common.models import ModelKind
from tests.engine import starter
from tests.process.gateways import Gateway, environment
from tests.process.homes import Home
from tests.store import ModelStore

MODEL = "all-MiniLM-L6-v2"
RERANKER = "reranker"
CHAT = "chatty"


@pytest.fixture(scope="session")
def starter_store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    source = starter.folder()
    assert source is not None, "scripts/test fetches the starter model; run that"
    store = ModelStore(tmp_path_factory.mktemp("starter") / "models")
    subprocess.run(
        [
            sys.executable, "-P", "-m", "mlx_serve_worker.job", "import",
            "--source", str(source), "--models-dir", str(store.models_dir),
            "--name", MODEL, "--source-id", f"sentence-transformers/{MODEL}",
        ],
        env=environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    # What clients send and read is the same for every reranker.
    store.add(RERANKER, ModelKind.RERANKER)
    return store


@pytest.fixture(scope="session")
def gateway(starter_store: ModelStore) -> Iterator[Gateway]:
    home = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    with Gateway(home, starter_store) as running:
        yield running
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def chat_gateway() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add(CHAT, ModelKind.CHAT)
        with Gateway(home.path, home.store) as gateway:
            yield gateway
