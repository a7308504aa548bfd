"""config.yaml: every way to be wrong names the line, nothing in it is executed or expanded."""

import os
import time
from pathlib import Path

import pytest

from mlx_serve_common.config_file import MAX_FILE_BYTES, read_config_file
from mlx_serve_common.settings import ConfigError, Layer


def written(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def read(folder: Path, content: str | bytes) -> Layer:
    return read_config_file(written(folder, content))[0]


@pytest.mark.parametrize("content", ["", "# only a comment\n", "server:\n  # port: 1\n", "---\n"])
def test_file_without_settings_is_fine(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == {}


def test_settings_know_their_line(tmp_path: Path) -> None:
    layer = read(tmp_path, "# mine\nserver:\n  port: 9000\nmodels: {preload: [a, b]}\n")
    assert layer["server.port"].value == 9000
    assert layer["server.port"].origin == f"{tmp_path}/config.yaml:3"
    assert layer["models.preload"].value == ("a", "b")
    assert layer["models.preload"].line == 4


def test_byte_order_mark_and_korean(tmp_path: Path) -> None:
    layer = read(tmp_path, "\ufeffmodels:\n  aliases: {임베딩: bge-small}\n")
    assert layer["models.aliases"].value == {"임베딩": "bge-small"}


@pytest.mark.parametrize(
    ("content", "line", "key", "words"),
    [
        ("server:\n  prot: 1", 2, "server.prot", "did you mean 'port'"),
        ("server:\n  ttl_seconds: 1", 2, "server.ttl_seconds", "'cache.ttl_seconds'"),
        ("\nport: 1", 2, "port", "'server.port'"),
        ("server:\n  zzzz: 1", 2, "server.zzzz", "the keys of server are host, port"),
        ("\n\nfrobnicate: 1", 3, "frobnicate", "the sections are server, models"),
        ("cahce:\n  ttl_seconds: 1", 1, "cahce", "did you mean 'cache'"),
        ("server:\n  8000: 1", 2, "server.8000", "unknown key"),
        ("server: 8000", 1, "server", "keys of the section"),
        ("\nserver:\n  port: 70000", 3, "server.port", "<= 65535, got 70000"),
        ("server:\n  port: yes", 2, "server.port", "a whole number, got true"),
        ("server:\n  port: '8000'", 2, "server.port", "a whole number, got '8000'"),
        ("server:\n  port:", 2, "server.port", "got null"),
        ("models:\n  preload: a", 2, "models.preload", "expected a list, got 'a'"),
        ("models:\n  preload:\n  - a\n  - 7", 4, "models.preload[1]", "expected text, got 7"),
        ("models:\n  aliases:\n    a: b\n    c: 3", 4, "models.aliases.c", "text, got 3"),
        ("models: {aliases: {1: b}}", 1, "models.aliases.1", "text, got 1"),
        ("limits:\n  truncate: up", 2, "limits.truncate", "one of right, left, none, got 'up'"),
        ("cache:\n  memory_budget: lots", 2, "cache.memory_budget", "24GB or 8GiB, got 'lots'"),
        ("batch: {max_batch_tokens: x}", 1, "batch.max_batch_tokens", "number or auto"),
        ("server:\n  allowed_origins: ['*']", 2, "server.allowed_origins[0]", "right form"),
    ],
)
def test_wrong_settings(tmp_path: Path, content: str, line: int, key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    error = caught.value
    assert (error.source, error.line, error.key) == (f"{tmp_path}/config.yaml", line, key)
    assert words in error.message
    assert str(error) == f"{tmp_path}/config.yaml:{line}: {key}: {error.message}"


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("server:\n  port: [1", 2, "expected ',' or ']'"),
        ("server:\n\tport: 1", 2, "cannot start any token"),
        ("server:\n  port: 1\n  port: 2", 3, "'port' is given twice, first on line 2"),
        ("server: {}\nmodels: {}\nserver: {}", 3, "'server' is given twice"),
        ("models:\n  aliases:\n    a: x\n    a: y", 4, "'a' is given twice"),
        ("- 1", 1, "expected sections"),
        ("just text", 1, "expected sections"),
        ("server:\n  port: 1\n---\nserver: {}", 3, "single document"),
        ("server: &all {port: 1}\nmodels: *all", 2, "aliases"),
        ("server:\n  ? [a]\n  : 1", 2, "a key must be a plain word"),
        ("server:\n  host: 2024-13-45", 2, "month must be in 1..12"),
        ("server:\n  port: !!int x", 2, "not a valid value"),
        (f"server:\n  port: {'9' * 5000}", 2, "not a valid value"),
        ("server:\n  host: !mine x", 2, "tag !mine is not allowed"),
        (b"server:\n  host: \xe9\n", 2, "not UTF-8"),
        ("server:\n  host: \x07", 2, "U+0007"),
    ],
)
def test_unusable_yaml(tmp_path: Path, content: str | bytes, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    assert caught.value.line == line
    assert words in caught.value.message


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "name:os.system"]
)
def test_python_tags_are_not_executed(tmp_path: Path, tag: str) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(ConfigError, match="python") as caught:
        read(tmp_path, f"server:\n  host: !!python/{tag} ['touch {canary}']\n")
    assert caught.value.line == 2
    assert not canary.exists()


@pytest.mark.parametrize("content", ["[" * 50_000, "{" * 50_000, "- " * 50_000])
def test_deep_nesting_is_refused_in_time(tmp_path: Path, content: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError):
        read(tmp_path, content)
    assert time.monotonic() - started < 10


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        read_config_file(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_config_file(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_config_file(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="larger than 128 KiB"):
        read(tmp_path, "#" * (MAX_FILE_BYTES + 1))
    assert read(tmp_path, "#" * MAX_FILE_BYTES) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Permission denied"):
        read_config_file(written(tmp_path, "", mode=0))


def test_the_admin_key_is_never_shown(tmp_path: Path) -> None:
    for value in ("5ecret", "'5ecret with spaces'", "[5ecret]", "{5ecret: 5ecret}"):
        with pytest.raises(ConfigError, match=r"server\.admin_key") as caught:
            read(tmp_path, f"server:\n  admin_key: {value}")
        assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        'server: {"po\\nrt\\e[2J": 1}',
        'server: {"a\\n": 1, "a\\n": 2}',
        "server: !<tag:x%0A%1B[2J> 1",
        'models: {aliases: {"a\\n\\e[2J": 1}}',
        'logging: {level: "a\\n\\e[2J"}',
    ],
)
def test_hostile_text_stays_on_one_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_shows_its_key_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    content = "server:\n  admin_key: 0123456789abcdef\n"
    with pytest.raises(ConfigError, match=r":2: server\.admin_key: .*chmod 600") as caught:
        read_config_file(written(tmp_path, content, mode))
    assert "0123" not in str(caught.value)
    assert read_config_file(written(tmp_path, content, 0o600))[1] == []


@pytest.mark.parametrize(
    ("mode", "content", "words"),
    [
        (0o664, "server: {port: 1}", None),
        (0o666, "server: {port: 1}", "chmod o-w"),
        (0o644, "server: {admin_key: null}", None),
    ],
)
def test_file_modes_that_expose(tmp_path: Path, mode: int, content: str, words: str | None) -> None:
    _, warnings = read_config_file(written(tmp_path, content, mode))
    assert len(warnings) == (words is not None)
    assert all(words and words in warning for warning in warnings)


def test_old_preload_key_is_read_with_a_warning(tmp_path: Path) -> None:
    layer, warnings = read_config_file(written(tmp_path, "\npreload_models: [a, b]\n"))
    assert layer["models.preload"].value == ("a", "b")
    assert layer["models.preload"].line == 2
    assert warnings == [
        f"{tmp_path}/config.yaml:2: preload_models is deprecated; write models.preload instead"
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_old_and_new_preload_key_together(tmp_path: Path, swapped: bool) -> None:
    lines = ["preload_models: [a]", "models: {preload: [b]}"]
    with pytest.raises(ConfigError, match=r":2: .*first on line 1; keep models\.preload"):
        read(tmp_path, "\n".join(reversed(lines) if swapped else lines))


def test_wrong_entry_under_the_old_preload_key_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "preload_models:\n- a\n- ''\n")
    assert (caught.value.line, caught.value.key) == (3, "models.preload[1]")
