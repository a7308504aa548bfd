"""One gateway over tiny models whose answers the reference has given, for everybody here."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_serve_common.store import Store
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from tests.engine import tiny
from tests.process.gateways import Gateway
from tests.store import ModelStore

LAYOUTS = {"plain": "mean", "raw": "not-normalized", "prompted": "prompt"}
"""The models, by the layouts that they were made from."""


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    models_dir = tmp_path_factory.mktemp("api") / "models"
    for name, layout in LAYOUTS.items():
        source = tiny.build(tiny.LAYOUTS[layout], tmp_path_factory.mktemp(name))
        origin = Origin(name, source=f"org/{name}")
        install(source, Store(models_dir), origin, "refuse", lambda event: None)
    return ModelStore(models_dir)


@pytest.fixture(scope="session")
def gateway(tiny_store: ModelStore) -> Iterator[Gateway]:
    home = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    with Gateway(home, tiny_store) as running:
        yield running
    shutil.rmtree(home)
