"""One gateway for everybody here: every test has models of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.gateways import Gateway
from tests.process.homes import Home
from tests.process.ollama.asking import serving
from tests.store import ModelStore


@pytest.fixture(scope="package")
def gateway() -> Iterator[Gateway]:
    with Home() as home, serving(home.path, home.store) as gateway:
        yield gateway


@pytest.fixture
def store(gateway: Gateway) -> ModelStore:
    return gateway.store


@pytest.fixture
def own_store(tmp_path: Path) -> ModelStore:
    """For a test with a gateway of its own."""
    return ModelStore(tmp_path / "models")


@pytest.fixture
def name() -> str:
    """Of a model that no other test has; its download waits until it may go on."""
    return f"waits-{secrets.token_hex(4)}"
