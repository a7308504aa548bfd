"""One gateway over fake models of every kind."""

from collections.abc import Iterator

import pytest

from mlx_serve_common.models import ModelKind
from tests.process.gateways import Gateway
from tests.process.homes import Home
from tests.unit.gateway.http.chat_models import ABLE


@pytest.fixture(scope="package")
def gateway() -> Iterator[Gateway]:
    with Home() as home:
        home.store.add("e")
        home.store.add("r", ModelKind.RERANKER)
        # Slow enough that its first words are out when it dies of a later one.
        home.store.add("c", ModelKind.CHAT, chat=ABLE, step_s=0.005)
        with Gateway(home.path, home.store) as running:
            yield running
