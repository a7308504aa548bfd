"""The contract names what the application serves, to whom, and how it refuses: no more, no less."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.app import routes
from mlx_serve_gateway.http.contract.refusals import ENVELOPES, codes_of
from mlx_serve_gateway.http.contract.table import ENDPOINTS
from mlx_serve_gateway.http.errors import TABLE, error_body, error_family
from tests.store import ModelStore
from tests.unit.gateway.http.asgi import Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway
from tests.unit.gateway.http.contract.promised import PROMISED

DOCS = Path(__file__).parents[5] / "docs"
STRANGER = ("192.168.1.77", 4000)


def served(store: ModelStore) -> Iterator[tuple[str, str]]:
    for route in routes(Gateway(store).services):
        # Starlette adds HEAD to every GET, and we a slash to most paths.
        method = min(route.methods or ())
        yield method, route.path.replace(":path}", "}").rstrip("/") or "/"


def test_every_route_is_in_the_contract_and_nothing_else(store: ModelStore) -> None:
    assert sorted(PROMISED) == sorted(set(served(store)))


@pytest.mark.parametrize(("method", "path"), PROMISED)
async def test_it_is_for_whom_the_contract_says(method: str, path: str, store: ModelStore) -> None:
    scope = http_scope(re.sub(r"{\w+}", "x", path), method, client=STRANGER)
    answer = await response_of(Gateway(store).app, scope, Client().receive)
    assert (answer["status"] == 403) == (PROMISED[method, path].tier == "owner")


@pytest.mark.parametrize("path", sorted({path for _, path in PROMISED}))
def test_the_documentation_tells_of_it(path: str) -> None:
    shown = re.escape(re.sub(r"{\w+}$", "", path))
    assert re.search(rf"(?<!\w){shown}(?![\w/])", (DOCS / "api.md").read_text("utf-8"))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/tags", "/v1/messages"])
@pytest.mark.parametrize("code", ErrorCode)
def test_a_refusal_is_as_promised(code: ErrorCode, path: str) -> None:
    told: Any = error_body(ServeError(code, "why", param="p"), path)
    read = msgspec.convert(told, ENVELOPES[error_family(path)])
    assert msgspec.to_builtins(read) == msgspec.to_builtins(told)


def test_what_a_client_cannot_hear_is_not_promised() -> None:
    promised = {code for endpoint in ENDPOINTS for code in codes_of(endpoint)}
    assert set(TABLE) - promised == {ErrorCode.CANCELLED, ErrorCode.METHOD_NOT_ALLOWED}
