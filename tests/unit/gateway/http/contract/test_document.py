"""The OpenAPI document: what tools need of it, and what is easily lost on the way."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mlx_serve_gateway.http.contract.document import openapi, openapi_text
from tests.store import ModelStore
from tests.unit.gateway.http.asgi import Client, http_scope, response_of
from tests.unit.gateway.http.computing import Gateway


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi()


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object, however deep."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from inside(each)
    elif isinstance(value, list):
        for each in value:
            yield from inside(each)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


async def test_it_is_served(store: ModelStore) -> None:
    scope = http_scope("/openapi.json", "GET", client=("192.168.1.77", 4000))
    answer = await response_of(Gateway(store).app, scope, Client().receive)
    assert answer["status"] == 200
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["body"].decode() == openapi_text()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = {each["$ref"] for each in inside(document) if "$ref" in each}
    parts = [reference.removeprefix("#/components/").split("/") for reference in references]
    assert [name for kind, name in parts if name not in document["components"][kind]] == []
    named = {(kind, name) for kind, name in parts}
    schemas = document["components"]["schemas"]
    assert {("schemas", name) for name in schemas} <= named


def test_names_are_simple(document: dict[str, Any]) -> None:
    """Two Structs of one name get their module's names, which are nobody's business."""
    for name in document["components"]["schemas"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name)


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document)]
    assert len(names) == len(set(names))


def test_unknown_fields_are_not_forbidden(document: dict[str, Any]) -> None:
    assert not [each for each in inside(document) if each.get("additionalProperties") is False]


def test_null_is_as_good_as_absent(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    strict = [
        f"{name}.{field}"
        for name in _bodies(document)
        for field, schema in schemas[name]["properties"].items()
        if field not in schemas[name].get("required", ())
        # {} takes anything.
        if schema != {"default": None}
        if {"type": "null"} not in schema.get("anyOf", ())
    ]
    assert strict == []


def _bodies(document: dict[str, Any]) -> Iterator[str]:
    for operation in operations(document):
        if "requestBody" in operation:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            yield reference.rpartition("/")[2]


def test_a_stream_says_what_its_items_are(document: dict[str, Any]) -> None:
    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert answers["application/json"]["schema"] == _ref("ChatCompletion")
    assert answers["text/event-stream"]["x-itemSchema"] == _ref("ChatCompletionChunk")


def test_what_is_for_owners_names_the_key(document: dict[str, Any]) -> None:
    guarded = document["paths"]["/api/ps"]["get"]
    assert guarded["security"] == [{}, {"adminKey": []}]
    assert "adminKey" in document["components"]["securitySchemes"]
    assert "security" not in document["paths"]["/api/tags"]["get"]


def test_errors_are_told_as_the_path_s_clients_read_them(document: dict[str, Any]) -> None:
    refusals = document["components"]["responses"]
    for path, name in (
        ("/v1/embeddings", "OpenAIError"),
        ("/api/embed", "OllamaError"),
        ("/v1/messages", "AnthropicError"),
    ):
        reference = document["paths"][path]["post"]["responses"]["429"]["$ref"]
        refusal = refusals[reference.rpartition("/")[2]]
        assert refusal["description"] == "`queue_full`"
        assert refusal["content"]["application/json"]["schema"] == _ref(name)


def test_it_is_json(document: dict[str, Any]) -> None:
    assert msgspec.json.decode(openapi_text()) == document


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
