"""The file to begin with is valid as it stands, and says the defaults when it is uncommented."""

import re
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.config_example import example_text, yaml_text
from mlx_serve_common.config_layers import default_config, load_config, variable_of
from mlx_serve_common.config_schema import SCHEMA_FILE
from mlx_serve_common.settings import KEYS


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def test_it_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    loaded = load_config(tmp_path, environ={}, file=written(tmp_path, example_text()))
    assert loaded.config == default_config(tmp_path)
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.warnings == ()


def test_uncommented_it_says_every_default(tmp_path: Path) -> None:
    text = re.sub(r"^  # ", "  ", example_text(), flags=re.MULTILINE)
    loaded = load_config(tmp_path, environ={}, file=written(tmp_path, text))
    assert loaded.config == default_config(tmp_path)
    assert all(origin.startswith(str(tmp_path)) for origin in loaded.origins.values())


def test_it_explains_every_key_and_points_to_its_schema() -> None:
    text = example_text()
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA_FILE}\n")
    in_words = re.sub(r"\s+(## )?", " ", text)
    for name, key in KEYS.items():
        assert key.description in in_words
        assert variable_of(name) in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (8000, "8000"),
        ("0.0.0.0", "0.0.0.0"),
        ("no", "'no'"),
        (["한국어", "b"], "[한국어, b]"),
        ({"a": "b"}, "{a: b}"),
        (["x" * 200], f"[{'x' * 200}]"),
    ],
)
def test_values_are_written_on_one_line(value: Any, text: str) -> None:
    assert yaml_text(value) == text
