"""Which chat model a request is for: named, the only one, or the configured default."""

from typing import Any

import pytest

from mlx_serve_common.chat import Delta
from mlx_serve_common.config import ChatConfig, Config
from mlx_serve_common.models import ModelKind
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import finish
from tests.unit.gateway.http.computing import Gateway, Reply

PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def ask(
    store: ModelStore, path: str, model: str | None, *, for_unknown: bool = False, default: str = ""
) -> Reply:
    chat = ChatConfig(default_model=default or None, default_for_unknown=for_unknown)
    gateway = Gateway(store, Config(chat=chat))
    gateway.pool.says = [Delta("one", finish=finish())]
    return await gateway.post(path, PATHS[path] | ({} if model is None else {"model": model}))


async def test_the_only_one_need_not_be_named(store: ModelStore, path: str) -> None:
    store.add("m", ModelKind.CHAT)
    store.add("e")
    assert (await ask(store, path, None)).json["model"] == "m"


async def test_one_of_several_has_to_be_named(store: ModelStore, path: str) -> None:
    store.add("m", ModelKind.CHAT)
    store.add("n", ModelKind.CHAT)
    reply = await ask(store, path, None)
    assert (reply.status, reply.param) == (400, "model")
    assert (await ask(store, path, "n")).json["model"] == "n"


async def test_the_default_answers_who_names_none(store: ModelStore, path: str) -> None:
    store.add("m", ModelKind.CHAT, source="org/m")
    store.add("n", ModelKind.CHAT)
    assert (await ask(store, path, None, default="org/m")).json["model"] == "m"
    assert (await ask(store, path, "gpt-5", default="org/m")).code == "model_not_found"


async def test_it_may_stand_for_unknown_names(store: ModelStore, path: str) -> None:
    store.add("m", ModelKind.CHAT)
    store.add("e")
    reply = await ask(store, path, "gpt-5", default="m", for_unknown=True)
    assert reply.json["model"] == "m"
    wrong = await ask(store, path, "e", default="m", for_unknown=True)
    assert wrong.code == "model_type_mismatch"


async def test_but_not_where_another_could_be_meant(store: ModelStore, path: str) -> None:
    store.add("m", ModelKind.CHAT)
    store.add("n", ModelKind.CHAT)
    reply = await ask(store, path, "gpt-5", default="m", for_unknown=True)
    assert reply.code == "model_not_found"
