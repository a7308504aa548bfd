"""Layers: who wins, where each value comes from, and errors that name the variable or flag."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mlx_serve_common.config import Config
from mlx_serve_common.config_layers import VARIABLES, LoadedConfig, load_config, variable_of
from mlx_serve_common.settings import KEYS, ConfigError, Setting


def load(
    home: Path,
    content: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Setting] | None = None,
) -> LoadedConfig:
    if content is not None:
        (home / "config.yaml").write_text(content)
    return load_config(home, environ=environ or {}, overrides=overrides or {})


def test_each_layer_wins_over_the_one_before(tmp_path: Path) -> None:
    file = "server: {port: 1}"
    environ = {"MLX_SERVE_PORT": "2"}
    flag = {"server.port": Setting(3, "--port")}
    steps = [
        (load(tmp_path), 8000, "default"),
        (load(tmp_path, file), 1, f"{tmp_path}/config.yaml:1"),
        (load(tmp_path, file, environ), 2, "MLX_SERVE_PORT"),
        (load(tmp_path, file, environ, flag), 3, "--port"),
    ]
    for loaded, port, origin in steps:
        assert loaded.config.server.port == port
        assert loaded.origins["server.port"] == origin


def test_layers_merge_key_by_key(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "server: {host: 127.0.0.1, port: 1}\nmodels: {preload: [a, b]}",
        {"MLX_SERVE_PRELOAD_MODELS": "c"},
        {"server.port": Setting(3, "--port")},
    )
    assert loaded.config.server.host == "127.0.0.1"
    assert loaded.config.server.port == 3
    assert loaded.config.models.preload == ("c",)
    assert loaded.config.cache == Config().cache
    assert loaded.origins["server.host"] == f"{tmp_path}/config.yaml:1"
    assert loaded.origins["cache.ttl_seconds"] == "default"
    assert list(loaded.origins) == list(KEYS)


def test_a_flag_that_was_not_given_is_no_layer(tmp_path: Path) -> None:
    loaded = load(tmp_path, "server: {port: 1}", {}, {"server.port": Setting(None, "--port")})
    assert loaded.config.server.port == 1


def test_documented_variables(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        environ={
            "MLX_SERVE_HOST": "::1",
            "MLX_SERVE_PORT": " 9000 ",
            "MLX_SERVE_MODELS_DIR": "/data/models",
            "MLX_SERVE_LOG_LEVEL": "debug",
            "MLX_SERVE_CACHE_MAX_EMBEDDING_MODELS": "5",
            "MLX_SERVE_CACHE_MAX_RERANKER_MODELS": "6",
            "MLX_SERVE_CACHE_TTL_SECONDS": "0.5",
            "MLX_SERVE_PRELOAD_MODELS": "a, org/b:latest,",
        },
    ).config
    assert (config.server.host, config.server.port) == ("::1", 9000)
    assert config.models.directory == "/data/models"
    assert config.logging.level == "DEBUG"
    assert config.cache.max_embedding_models == 5
    assert config.cache.max_reranker_models == 6
    assert config.cache.ttl_seconds == 0.5
    assert config.models.preload == ("a", "org/b:latest")


def test_variables_of_every_type(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        environ={
            "MLX_SERVE_MODELS_ALIASES": "small=BAAI/bge-small-en-v1.5, big = b",
            "MLX_SERVE_CACHE_MEMORY_BUDGET": "8GiB",
            "MLX_SERVE_CHAT_PROMPT_CACHE_BYTES": "auto",
            "MLX_SERVE_LIMITS_MAX_BODY_BYTES": "1048576",
            "MLX_SERVE_BATCH_MAX_BATCH_TOKENS": "4096",
            "MLX_SERVE_METRICS_ENABLED": "false",
            "MLX_SERVE_METRICS_PORT": "9100",
            "MLX_SERVE_LIMITS_TRUNCATE": "NONE",
            "MLX_SERVE_LOG_FORMAT": "json",
            "MLX_SERVE_ADMIN_KEY": "0123456789",
        },
    ).config
    assert config.models.aliases == {"small": "BAAI/bge-small-en-v1.5", "big": "b"}
    assert config.cache.memory_budget == 8 * 2**30
    assert config.chat.prompt_cache_bytes == "auto"
    assert config.limits.max_body_bytes == 1048576
    assert config.batch.max_batch_tokens == 4096
    assert (config.metrics.enabled, config.metrics.port) == (False, 9100)
    assert (config.limits.truncate, config.logging.format) == ("none", "json")
    assert config.server.admin_key == "0123456789"


def test_variable_names_are_regular_and_distinct() -> None:
    assert len(VARIABLES) == len(KEYS)
    assert variable_of("cache.max_chat_models") == "MLX_SERVE_CACHE_MAX_CHAT_MODELS"
    assert variable_of("server.allowed_hosts") == "MLX_SERVE_ALLOWED_HOSTS"
    assert "MLX_SERVE_HOME" not in VARIABLES


def test_empty_variables_count_as_not_set(tmp_path: Path) -> None:
    environ = {"MLX_SERVE_PORT": "", "MLX_SERVE_PRELOAD_MODELS": " "}
    loaded = load(tmp_path, "models: {preload: [a]}", environ)
    assert loaded.config.server.port == 8000
    assert loaded.config.models.preload == ("a",)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("MLX_SERVE_PORT", "abc", "server.port: expected a whole number, got 'abc'"),
        ("MLX_SERVE_PORT", "70000", "server.port: expected a whole number <= 65535, got '70000'"),
        ("MLX_SERVE_METRICS_ENABLED", "maybe", "metrics.enabled: expected true or false"),
        ("MLX_SERVE_CACHE_TTL_SECONDS", "-1", "cache.ttl_seconds: expected a number > 0.0"),
        ("MLX_SERVE_LOG_LEVEL", "LOUD", "logging.level: expected one of DEBUG, INFO"),
        ("MLX_SERVE_CACHE_MEMORY_BUDGET", "8G", "cache.memory_budget: expected bytes, or"),
        ("MLX_SERVE_MODELS_ALIASES", "a", "models.aliases: expected name=model"),
        ("MLX_SERVE_MODELS_ALIASES", "a=", "models.aliases.a: expected text of length >= 1"),
    ],
)
def test_wrong_variables_are_named(tmp_path: Path, variable: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={variable: text})
    assert str(caught.value).startswith(f"{variable}: {message}")
    assert (caught.value.source, caught.value.line) == (variable, None)


def test_admin_key_of_a_variable_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={"MLX_SERVE_ADMIN_KEY": "5ecret with spaces"})
    assert "5ecret" not in str(caught.value)


def test_wrong_flags_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, overrides={"server.port": Setting(70000, "--port")})
    assert (caught.value.source, caught.value.key) == ("--port", "server.port")
    with pytest.raises(ConfigError, match=r"^--set: server\.prot: unknown key; did you mean"):
        load(tmp_path, overrides={"server.prot": Setting(1, "--set")})


def test_a_wrong_value_is_reported_even_when_it_is_overridden(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:1: server\.port"):
        load(tmp_path, "server: {port: 70000}", {"MLX_SERVE_PORT": "1"})


def test_conflict_between_layers_names_a_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:2: metrics\.port: the main port"):
        load(tmp_path, "\nmetrics: {port: 9100}", {"MLX_SERVE_PORT": "9100"})
    with pytest.raises(ConfigError, match=r"^--max-inputs: limits\.max_inputs: "):
        load(tmp_path, "", overrides={"limits.max_inputs": Setting(5000, "--max-inputs")})


def test_unknown_variables_are_warnings(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        environ={
            "MLX_SERVE_SERVER_PORT": "1",
            "MLX_SERVE_HOME": "/somewhere",
            "MLX_SERVE_PORT": "2",
            "OTHER": "3",
        },
    )
    assert loaded.warnings == (
        "MLX_SERVE_SERVER_PORT is not a setting and is ignored; did you mean MLX_SERVE_PORT?",
    )


def test_warnings_of_the_file_are_passed_on(tmp_path: Path) -> None:
    loaded = load(tmp_path, "preload_models: [a]")
    assert loaded.config.models.preload == ("a",)
    assert any("preload_models is deprecated" in warning for warning in loaded.warnings)


def test_paths_are_absolute_and_below_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    assert load(tmp_path).config.models.directory == f"{tmp_path}/models"
    assert load(tmp_path).config.chat.custom_models == f"{tmp_path}/custom_models"
    directory = load(tmp_path, "models: {directory: big/store}").config.models.directory
    assert directory == f"{tmp_path}/big/store"
    directory = load(tmp_path, "models: {directory: ~/store}").config.models.directory
    assert directory == "/people/me/store"
    with pytest.raises(ConfigError, match=r"config\.yaml:1: models\.directory: ~no-such-user"):
        load(tmp_path, "models: {directory: ~no-such-user/m}")


def test_only_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    assert load(tmp_path).file is None
    with pytest.raises(ConfigError, match=r"mine\.yaml: cannot be read"):
        load_config(tmp_path, environ={}, file=tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("server: {port: 7}")
    loaded = load_config(tmp_path, environ={}, file=tmp_path / "mine.yaml")
    assert (loaded.config.server.port, loaded.file) == (7, tmp_path / "mine.yaml")


def test_a_dangling_link_is_not_taken_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
