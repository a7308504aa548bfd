"""The admin key in its own file: read where it is one person's secret, refused elsewhere."""

import os
from pathlib import Path

import pytest

from mlx_serve_common.config_layers import load_config
from mlx_serve_common.settings import ConfigError

KEY = "5ecret-5ecret"


def written(home: Path, content: bytes, mode: int = 0o600) -> Path:
    path = home / "admin.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"  {KEY}\r\n"])
def test_the_key_is_what_stands_in_the_file(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content.encode())
    loaded = load_config(tmp_path, environ={})

    assert loaded.config.server.admin_key == KEY
    assert loaded.origins["server.admin_key"] == str(path)


def test_without_the_file_there_is_no_key(tmp_path: Path) -> None:
    assert load_config(tmp_path, environ={}).config.server.admin_key is None


def test_whatever_else_gives_one_comes_first(tmp_path: Path) -> None:
    written(tmp_path, KEY.encode())
    environ = {"MLX_SERVE_ADMIN_KEY": "0ther-0ther"}

    assert load_config(tmp_path, environ=environ).config.server.admin_key == "0ther-0ther"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_key_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, KEY.encode(), mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        load_config(tmp_path, environ={})

    assert str(path) in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"short", b"two words here", b"\xff" * 20, b"a\0b" * 5])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    written(tmp_path, content)
    with pytest.raises(ConfigError, match=r"server\.admin_key") as caught:
        load_config(tmp_path, environ={})

    assert "short" not in str(caught.value)
    assert "two words" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "admin.key", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(tmp_path, environ={})


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "admin.key").symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, environ={})
