from pathlib import Path

import pytest

from mlx_serve_gateway.cli.configuration import load, load_or_defaults
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.requested import Request


def test_the_detached_command_line_means_the_same_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = Request(
        host="::", port=0, preload=("-rf", "b"), models_dir=Path("m"), config_file=Path("c.yaml")
    )
    assert request.arguments() == [
        "--host=::",
        "--port=0",
        f"--models-dir={tmp_path / 'm'}",
        f"--config={tmp_path / 'c.yaml'}",
        "--preload=-rf",
        "--preload=b",
    ]
    assert Request().arguments() == []


def test_a_wrong_configuration_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server:\n  prot: 8001\n")
    with pytest.raises(CommandFailed, match=r"config\.yaml:2: server\.prot: .*'port'") as caught:
        load(tmp_path, None)
    assert caught.value.code is ExitCode.CONFIG
    with pytest.raises(CommandFailed):
        load_or_defaults(tmp_path, None, needed=True)
    assert load_or_defaults(tmp_path, None, needed=False).server.port == 8000


def test_a_flag_wins_and_an_absent_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {port: 8001, host: 127.0.0.1}\n")
    flags = {"server.port": ("--port", 8002), "server.host": ("--host", None)}
    server = load(tmp_path, None, {**flags, "models.preload": ("--preload", ())}).config.server
    assert (server.host, server.port) == ("127.0.0.1", 8002)
