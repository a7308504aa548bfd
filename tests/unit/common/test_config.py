"""The tree itself: defaults, bounds, size strings, keys that contradict each other."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import (
    Config,
    LimitsConfig,
    MetricsConfig,
    ServerConfig,
    conflicts,
    parse_size,
)
from mlx_serve_common.settings import KEYS

DOCUMENTED: dict[str, dict[str, Any]] = {
    "server": {
        "host": "0.0.0.0",
        "port": 8000,
        "control_plane": "loopback",
        "admin_key": None,
        "allowed_hosts": [],
        "allowed_origins": [],
    },
    "models": {
        "directory": "models",
        "preload": [],
        "pin": [],
        "aliases": {},
        "default_embedding": None,
        "default_reranker": None,
        "auto_download": True,
        "auto_download_timeout": 300,
        "auto_download_on_request": True,
    },
    "cache": {
        "max_embedding_models": 3,
        "max_reranker_models": 2,
        "max_chat_models": 1,
        "ttl_seconds": 1800,
        "memory_budget": "auto",
    },
    "batch": {
        "max_batch_size": 32,
        "max_wait_ms": 0,
        "max_batch_tokens": "auto",
        "calibrate": True,
        "computing_workers": "auto",
    },
    "limits": {
        "truncate": "right",
        "token_input": "cl100k_base",
        "max_inputs": 2048,
        "max_documents": 1024,
        "max_queue_items": 4096,
        "max_body_bytes": 8388608,
        "max_header_bytes": 32768,
        "max_connections": 1024,
        "max_requests": 512,
        "max_requests_per_peer": 64,
        "header_timeout": 5,
        "body_timeout": 30,
        "idle_timeout": 60,
        "request_timeout": 120,
        "load_timeout": 300,
        "batch_timeout": 30,
        "drain_timeout": 30,
    },
    "metrics": {"enabled": True, "port": None},
    "logging": {"level": "INFO", "format": "text"},
    "service": {"auto_start": False, "restart_on_failure": True, "restart_delay": 5},
    "chat": {
        "default_model": None,
        "default_for_unknown": False,
        "max_sequences": 32,
        "prefill_tokens": "auto",
        "spare": True,
        "prompt_cache_bytes": "auto",
        "custom_models": "custom_models",
    },
}


def one_key(name: str, value: Any) -> Config:
    section, _, leaf = name.partition(".")
    return msgspec.convert({section: {leaf: value}}, Config)


def test_defaults_are_the_documented_ones() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Config())) == DOCUMENTED
    assert msgspec.convert(DOCUMENTED, Config) == Config()


def test_defaults_satisfy_their_own_bounds_and_each_other() -> None:
    for key in KEYS.values():
        assert msgspec.convert(msgspec.to_builtins(key.default), key.type) == key.default
    assert list(conflicts(Config())) == []


def test_every_key_is_described_in_one_line() -> None:
    assert list(KEYS) == [
        f"{section}.{leaf}" for section in DOCUMENTED for leaf in DOCUMENTED[section]
    ]
    for key in KEYS.values():
        assert key.description and "\n" not in key.description, key.name


def test_json_schema_can_be_generated() -> None:
    definitions = msgspec.json.schema(Config)["$defs"]
    assert definitions["ServerConfig"]["properties"]["port"]["maximum"] == 65535
    assert definitions["ServerConfig"]["additionalProperties"] is False


def test_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().server.port = 1  # type: ignore[misc]


def test_kinds_of_keys_are_known() -> None:
    assert [key.name for key in KEYS.values() if key.is_secret] == ["server.admin_key"]
    assert [key.name for key in KEYS.values() if key.is_path] == [
        "models.directory",
        "chat.custom_models",
    ]
    assert [key.name for key in KEYS.values() if key.is_size] == [
        "cache.memory_budget",
        "limits.max_body_bytes",
        "limits.max_header_bytes",
        "chat.prompt_cache_bytes",
    ]
    assert KEYS["limits.truncate"].choices == ("right", "left", "none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server.port", 70000),
        ("server.port", -1),
        ("server.host", ""),
        ("server.admin_key", ""),
        ("server.admin_key", "short"),
        ("server.admin_key", "with spaces in it"),
        ("server.admin_key", "trailing-newline\n"),
        ("server.allowed_hosts", ["https://app.example"]),
        ("server.allowed_origins", ["*"]),
        ("server.allowed_origins", ["null"]),
        ("models.directory", ""),
        ("models.directory", "a\0b"),
        ("models.preload", ["a", ""]),
        ("models.preload", [" "]),
        ("models.pin", [""]),
        ("models.aliases", {"": "model"}),
        ("models.aliases", {"name": ""}),
        ("cache.max_chat_models", -1),
        ("cache.ttl_seconds", 0),
        ("cache.ttl_seconds", float("inf")),
        ("cache.ttl_seconds", float("nan")),
        ("cache.memory_budget", 0),
        ("cache.memory_budget", "half"),
        ("batch.max_batch_size", 0),
        ("batch.max_wait_ms", -1),
        ("batch.max_batch_tokens", 0),
        ("batch.max_batch_tokens", "many"),
        ("limits.truncate", "middle"),
        ("limits.max_inputs", 0),
        ("limits.max_body_bytes", 0),
        ("limits.drain_timeout", 0),
        ("metrics.port", 0),
        ("metrics.enabled", "true"),
        ("logging.level", "LOUD"),
        ("logging.format", "xml"),
        ("service.restart_delay", -1),
        ("chat.prompt_cache_bytes", -1),
        ("chat.prompt_size", 1),
    ],
)
def test_values_out_of_bounds_are_refused(name: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        one_key(name, value)


def test_values_at_the_border_are_accepted() -> None:
    assert one_key("server.port", 0).server.port == 0
    assert one_key("server.port", 65535).server.port == 65535
    assert one_key("cache.max_chat_models", 0).cache.max_chat_models == 0
    assert one_key("cache.ttl_seconds", 0.5).cache.ttl_seconds == 0.5
    assert one_key("chat.prompt_cache_bytes", 0).chat.prompt_cache_bytes == 0
    assert one_key("server.allowed_origins", ["app://obsidian.md"]).server.allowed_origins == (
        "app://obsidian.md",
    )
    assert one_key("models.preload", ["임베딩 모델"]).models.preload == ("임베딩 모델",)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("24GB", 24_000_000_000),
        ("8GiB", 8 * 2**30),
        ("1.5 GiB", 3 * 2**29),
        ("0.1MB", 100_000),
        (" 512mib ", 512 * 2**20),
        ("2kb", 2000),
        ("3TiB", 3 * 2**40),
    ],
)
def test_size_strings(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8G", "-1GB", "1e9", "8 GiBs", "8.GB", "auto", "٨GB"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="24GB or 8GiB"):
        parse_size(text)


def test_a_control_plane_behind_a_key_needs_one() -> None:
    locked = Config(server=ServerConfig(control_plane="key"))
    assert [names[0] for names, _ in conflicts(locked)] == ["server.control_plane"]
    keyed = ServerConfig(control_plane="key", admin_key="0123456789")
    assert list(conflicts(Config(server=keyed))) == []


def test_metrics_port_must_differ_from_the_main_port() -> None:
    config = Config(server=ServerConfig(port=9100), metrics=MetricsConfig(port=9100))
    assert [names[0] for names, _ in conflicts(config)] == ["metrics.port"]


def test_a_queue_must_hold_the_largest_request() -> None:
    config = Config(limits=LimitsConfig(max_inputs=100, max_queue_items=99))
    assert [names[0] for names, _ in conflicts(config)] == ["limits.max_queue_items"]
    assert list(conflicts(Config(limits=LimitsConfig(max_inputs=99, max_queue_items=99)))) == []
