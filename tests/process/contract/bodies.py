"""Request bodies drawn from the schemas of the OpenAPI document, and bodies that nearly fit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Bodies = st.SearchStrategy[dict[str, Any]]

_TEXTS = st.sampled_from(["", "a b", "user", "5m", "가", "\ud83d", "\0"]) | st.text(max_size=8)
_LEAVES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS
)
_OBJECTS = st.dictionaries(_TEXTS, _LEAVES, max_size=3)
_ANYTHING = _LEAVES | _OBJECTS | st.lists(_LEAVES | _OBJECTS, max_size=3)


class Drawing:
    """From the schemas of one document."""

    def __init__(self, components: Mapping[str, Schema], models: Sequence[str]) -> None:
        self._components = components
        self._names = st.sampled_from(models)

    def bodies(self, schema: Schema, good: Sequence[dict[str, Any]]) -> Bodies:
        """Good ones with a few fields changed or added, and whatever else fits the schema."""
        properties = self._resolved(schema)["properties"]
        fields = [
            st.tuples(st.just(name), self._drawn(each) | self._drawn(each) | _ANYTHING)
            for name, each in {**properties, "unknown": {}}.items()
        ]
        changes = st.lists(st.one_of(fields), max_size=3).map(dict)
        changed = st.tuples(st.sampled_from(good), changes).map(lambda two: two[0] | two[1])
        return changed | changed | self._drawn(schema)

    def _resolved(self, schema: Schema) -> Schema:
        return self._components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def _drawn(self, schema: Schema) -> st.SearchStrategy[Any]:
        match schema:
            case {"$ref": _}:
                return self._drawn(self._resolved(schema))
            case {"anyOf": options}:
                return st.one_of([self._drawn(option) for option in options])
            case {"enum": values}:
                return st.sampled_from(values)
            case {"type": "object", "properties": properties}:
                return self._object(properties, schema.get("required", ()))
            case {"type": "object"}:
                return _OBJECTS
            case {"type": "array"}:
                most = min(schema.get("maxItems", 3), 3)
                least = schema.get("minItems", 0)
                return st.lists(self._drawn(schema.get("items", {})), min_size=least, max_size=most)
            case {"type": "integer"}:
                return st.integers(*_bounds(schema))
            case {"type": "number"}:
                lowest, highest = _bounds(schema)
                return st.floats(lowest, highest, allow_nan=False, allow_infinity=False)
            case {"type": "string"}:
                return _TEXTS
            case {"type": "boolean"}:
                return st.booleans()
            case {"type": "null"}:
                return st.none()
            case _:
                return _ANYTHING

    def _object(self, properties: Mapping[str, Schema], required: Sequence[str]) -> Bodies:
        drawn = {name: self._drawn(schema) for name, schema in properties.items()}
        always = {*required, "model"} & set(drawn)
        if "model" in drawn:
            drawn["model"] = self._names
        return st.fixed_dictionaries(
            {name: drawn[name] for name in sorted(always)},
            optional={name: drawn[name] for name in drawn if name not in always},
        )


def _bounds(schema: Schema) -> tuple[Any, Any]:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        lowest = math.nextafter(above, math.inf)
    if (below := schema.get("exclusiveMaximum")) is not None:
        highest = below - 1
    return lowest, highest
