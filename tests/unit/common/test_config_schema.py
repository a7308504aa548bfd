"""The schema for editors: every key, and everything that the server reads."""

import re
from typing import Any

import pytest

from mlx_serve_common.config import parse_size
from mlx_serve_common.config_schema import config_schema, schema_text
from mlx_serve_common.settings import KEYS, SECTIONS

SCHEMA = config_schema()


def accepted(name: str) -> dict[str, Any]:
    section, _, leaf = name.partition(".")
    reference = SCHEMA["properties"][section]["$ref"].rpartition("/")[2]
    found: dict[str, Any] = SCHEMA["$defs"][reference]["properties"][leaf]
    return found


def test_every_key_and_no_other() -> None:
    assert set(SCHEMA["properties"]) == {*SECTIONS, "preload_models"}
    named = {
        f"{section}.{leaf}"
        for section in SECTIONS
        for leaf in SCHEMA["$defs"][f"{section.capitalize()}Config"]["properties"]
    }
    assert named == set(KEYS)
    assert SCHEMA["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in SCHEMA["$defs"].values())


def test_every_key_says_what_it_is_for() -> None:
    for name, key in KEYS.items():
        assert accepted(name)["description"] == key.description


def test_a_section_without_keys_is_null() -> None:
    assert all(part["type"] == ["object", "null"] for part in SCHEMA["$defs"].values())


def test_the_old_name_is_marked() -> None:
    assert SCHEMA["properties"]["preload_models"]["deprecated"] is True
    assert SCHEMA["properties"]["preload_models"]["type"] == "array"


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.is_size])
@pytest.mark.parametrize("text", ["24GB", "1.5 GiB", "8mib", "4096", "100 b", "8G", "lots", "-1"])
def test_a_size_is_what_the_server_reads(name: str, text: str) -> None:
    told = accepted(name)
    pattern = next(part["pattern"] for part in (told, *told.get("anyOf", ())) if "pattern" in part)
    try:
        parse_size(text)
        is_read = True
    except ValueError:
        is_read = False
    assert bool(re.search(pattern, text)) is is_read


def test_the_text_is_the_schema() -> None:
    import msgspec

    assert msgspec.json.decode(schema_text()) == msgspec.json.decode(msgspec.json.encode(SCHEMA))
