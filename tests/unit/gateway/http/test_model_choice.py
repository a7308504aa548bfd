"""Which model answers a request that names none."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import Config, ModelsConfig
from mlx_serve_common.models import ModelKind
from tests.store import ModelStore
from tests.unit.gateway.http.computing import Gateway, Reply

KINDS = {
    "/embed": ModelKind.EMBEDDING,
    "/rerank": ModelKind.RERANKER,
    "/v1/rerank": ModelKind.RERANKER,
}
BODIES: dict[str, dict[str, Any]] = {
    "/embed": {"inputs": ["a"]},
    "/rerank": {"query": "q", "texts": ["a"]},
    "/v1/rerank": {"query": "q", "documents": ["a"]},
}


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Asked:
    """Of a server with two models of the kind, ``one`` and ``two``, and one of another kind."""

    def __init__(self, store: ModelStore, path: str, default: str | None) -> None:
        kind = KINDS[path]
        store.add("one", kind)
        store.add("two", kind, source="org/two")
        store.add("chat", ModelKind.CHAT)
        self.setting = f"default_{kind}"
        models = msgspec.structs.replace(ModelsConfig(), **{self.setting: default})
        self._gateway = Gateway(store, Config(models=models))
        self._path = path

    async def answer(self, **more: Any) -> Reply:
        return await self._gateway.post(self._path, BODIES[self._path] | more)

    @property
    def model(self) -> str:
        """Which has answered the last time."""
        return self._gateway.pool.leased[-1]


async def test_one_of_several_has_to_be_named(store: ModelStore, path: str) -> None:
    asked = Asked(store, path, None)
    refused = await asked.answer()
    assert (refused.status, refused.code) == (400, "invalid_request")
    assert f"(one, two), or set models.{asked.setting}" in refused.json["error"]["message"]
    assert (await asked.answer(model="two")).status == 200
    assert asked.model == "two"


@pytest.mark.parametrize("default", ["two", "org/two"])
async def test_the_default_answers_who_names_none(
    store: ModelStore, path: str, default: str
) -> None:
    asked = Asked(store, path, default)
    assert (await asked.answer()).status == 200
    assert asked.model == "two"
    assert (await asked.answer(model="one")).status == 200
    assert asked.model == "one"
    assert (await asked.answer(model="three")).status == 404


async def test_a_default_of_another_kind_is_told(store: ModelStore, path: str) -> None:
    assert (await Asked(store, path, "chat").answer()).code == "model_type_mismatch"
