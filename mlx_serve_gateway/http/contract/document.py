"""The contract as an OpenAPI document.

Invariants: a function of the code alone; every schema is made from the Structs of the endpoints,
and none of them forbids a field that it does not know.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from inspect import cleandoc
from itertools import groupby
from typing import Any

import msgspec

from mlx_serve_common import VERSION
from mlx_serve_gateway.http.contract.endpoint import JSON, NDJSON, SSE, Answer, Endpoint
from mlx_serve_gateway.http.contract.refusals import ENVELOPES, codes_of
from mlx_serve_gateway.http.contract.table import ENDPOINTS
from mlx_serve_gateway.http.errors import TABLE, ErrorFamily, error_family

Written = dict[str, Any]
Schemas = Mapping[Any, Written]
"""By type."""

_ABOUT = (
    'Unknown fields are ignored and null means "not set". Paths work with a trailing slash too. '
    "docs/api.md says what the fields mean."
)
_ADMIN_KEY = "server.admin_key; the machine that the server runs on needs none"


def openapi_text() -> str:
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def openapi() -> Written:
    schemas, components = _schemas()
    paths: dict[str, Written] = {}
    for endpoint in ENDPOINTS:
        for path in endpoint.paths:
            operation = _operation(endpoint, path, schemas)
            paths.setdefault(path, {})[endpoint.method.lower()] = operation
    key = {"type": "http", "scheme": "bearer", "description": _ADMIN_KEY}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mlx-serve",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": _refusals(schemas),
            "securitySchemes": {"adminKey": key},
        },
    }


def _schemas() -> tuple[Schemas, Written]:
    """Of each type that an endpoint names, and of what these are made of."""
    types = dict.fromkeys(each for endpoint in ENDPOINTS for each in _types(endpoint))
    types |= dict.fromkeys(ENVELOPES.values())
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        if "description" in component:
            # Before 0.23 msgspec left a docstring indented as it stands in the code.
            component["description"] = cleandoc(component["description"])
    return dict(zip(types, schemas, strict=True)), dict(sorted(components.items()))


def _types(endpoint: Endpoint) -> Iterator[Any]:
    named = [endpoint.body, *(answer.type for answer in endpoint.answers)]
    yield from (each for each in named if each is not None)
    yield from (query.type for query in endpoint.queries)


def _operation(endpoint: Endpoint, path: str, schemas: Schemas) -> Written:
    name = re.sub(r"\W+", "_", f"{endpoint.method.lower()}{path}").strip("_")
    operation: Written = {"operationId": name, "tags": [endpoint.tag], "summary": endpoint.summary}
    if endpoint.tier == "owner":
        operation["security"] = [{}, {"adminKey": []}]
    if parameters := list(_parameters(endpoint, path, schemas)):
        operation["parameters"] = parameters
    if endpoint.body is not None:
        content = {JSON: {"schema": schemas[endpoint.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    refused = {str(status): _refusal(path, status) for status in _statuses(endpoint)}
    return operation | {"responses": dict(_answers(endpoint, schemas)) | refused}


def _parameters(endpoint: Endpoint, path: str, schemas: Schemas) -> Iterator[Written]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for query in endpoint.queries:
        schema = schemas[query.type]
        yield {"name": query.name, "in": "query", "description": query.summary, "schema": schema}


# --- answers -------------------------------------------------------------------------------------


def _answers(endpoint: Endpoint, schemas: Schemas) -> Iterator[tuple[str, Written]]:
    for status, alike in groupby(endpoint.answers, key=lambda answer: answer.status):
        told: Written = {"description": HTTPStatus(status).phrase}
        if content := _content(alike, schemas):
            told["content"] = content
        yield str(status), told


def _content(answers: Iterable[Answer], schemas: Schemas) -> Written:
    by_medium: dict[str, list[Written]] = {}
    for answer in answers:
        if answer.type is not None:
            by_medium.setdefault(answer.media_type, []).append(schemas[answer.type])
    return {media_type: _medium(media_type, told) for media_type, told in by_medium.items()}


def _medium(media_type: str, told: list[Written]) -> Written:
    schema = told[0] if len(told) == 1 else {"anyOf": told}
    if media_type not in (NDJSON, SSE):
        return {"schema": schema}
    # OpenAPI 3.2 says itemSchema for what a line or an event holds; 3.1 has no word for it.
    return {"schema": {"type": "string"}, "x-itemSchema": schema}


# --- refusals ------------------------------------------------------------------------------------


def _statuses(endpoint: Endpoint) -> list[int]:
    return sorted({TABLE[code][0] for code in codes_of(endpoint)})


def _refusal(path: str, status: int) -> Written:
    return {"$ref": f"#/components/responses/{_name(error_family(path), status)}"}


def _refusals(schemas: Schemas) -> Written:
    """What a refusal looks like, for each way of telling it and each status."""
    used = {
        (error_family(path), status)
        for endpoint in ENDPOINTS
        for path in endpoint.paths
        for status in _statuses(endpoint)
    }
    return {
        _name(family, status): {
            "description": ", ".join(f"`{code}`" for code in TABLE if TABLE[code][0] == status),
            "content": {JSON: {"schema": schemas[ENVELOPES[family]]}},
        }
        for family, status in sorted(used)
    }


def _name(family: ErrorFamily, status: int) -> str:
    return f"{family}-{status}"
