"""``doctor`` on a sound machine, and on one with planted problems."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.process.cli.conftest import CommandLine, Finished

pytestmark = [pytest.mark.process, pytest.mark.engine]


def checks(told: Finished) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in msgspec.json.decode(told.stdout)["checks"]}


def doctor(cli: CommandLine, *arguments: str) -> Finished:
    return cli.run("doctor", "--json", "--offline", *arguments)


def configured(cli: CommandLine, text: str) -> None:
    (cli.home / "config.yaml").write_text(text)


def test_a_sound_machine(cli: CommandLine, free_port: int) -> None:
    cli.install_fake("ok")
    cli.env["MLX_SERVE_PORT"] = str(free_port)
    told = doctor(cli)
    found = checks(told)
    assert told.returncode == 0
    assert [each for each in found.values() if each["state"] == "fail"] == []
    assert found["models"]["message"] == "1 installed"
    assert found["device"]["state"] == "ok"
    assert found["port"]["message"] == f"{free_port} on 127.0.0.1 is free"
    assert "model hub" not in found
    shown = cli.run("doctor", "--offline")
    assert shown.returncode == 0
    assert shown.stdout.startswith("STATE  CHECK")
    assert shown.stderr.startswith(f"{len(found)} checks: ")


def test_planted_problems(cli: CommandLine, tmp_path: Path) -> None:
    damaged = cli.home / "models/damaged"
    damaged.mkdir(parents=True)
    (damaged / "manifest.json").write_text("{")
    (cli.home / "models/.staging/0123").mkdir(parents=True)
    (cli.home / "mlx-serve-8111.pid").write_text("{}")
    other = tmp_path / "bin/mlx-serve"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    cli.env["PATH"] = f"{other.parent}{os.pathsep}{cli.env['PATH']}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        configured(cli, f"server: {{port: {port}}}\ncache: {{memory_budget: 900000GB}}\n")
        told = doctor(cli)
        shown = cli.run("doctor", "--offline")
    found = checks(told)
    states = {name: each["state"] for name, each in found.items() if each["state"] != "ok"}
    assert states.pop("blas", "warn") == "warn"
    assert states.pop("free space", "warn") == "warn"
    assert states == {
        "program": "warn",
        "models": "fail",
        "leftovers": "warn",
        "memory": "fail",
        "port": "fail",
        "pid files": "warn",
    }
    assert all(found[name]["remedy"] for name in states)
    assert found["models"]["remedy"].startswith("mlx-serve remove damaged")
    assert str(other) in found["program"]["message"]
    assert f"--port {port + 1}" in found["port"]["remedy"]
    assert told.returncode == shown.returncode == 1
    assert "→ mlx-serve remove damaged" in shown.stdout


def test_looking_changes_nothing(cli: CommandLine) -> None:
    (cli.home / "models/.staging/0123").mkdir(parents=True)
    (cli.home / "mlx-serve-8111.pid").write_text("{}")

    def everything() -> list[tuple[Path, int]]:
        return sorted((path, path.lstat().st_mtime_ns) for path in cli.home.rglob("*"))

    before = everything()
    doctor(cli)
    assert everything() == before


def test_a_wrong_configuration_hides_nothing_else(cli: CommandLine) -> None:
    configured(cli, "server:\n  prot: 1\n")
    told = doctor(cli)
    found = checks(told)
    assert told.returncode == 1
    assert "config.yaml:2: server.prot" in found["configuration"]["message"]
    assert found["models folder"]["state"] == "ok"


def test_a_home_folder_that_is_none(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cli.env["MLX_SERVE_HOME"] = str(tmp_path / "file/home")
    told = doctor(cli)
    assert told.returncode == 1
    assert checks(told)["home folder"]["state"] == "fail"


def test_a_server_that_runs_and_one_that_hangs(cli: CommandLine) -> None:
    port = cli.start()
    cli.env["MLX_SERVE_PORT"] = str(port)
    found = checks(doctor(cli))
    assert found["port"]["message"] == f"{port}: mlx-serve runs there (pid {cli.pid(port)})"
    assert found["pid files"]["state"] == "ok"
    os.kill(cli.pid(port), signal.SIGSTOP)
    told = doctor(cli)
    os.kill(cli.pid(port), signal.SIGCONT)
    assert told.returncode == 1
    assert f"mlx-serve stop --force --port {port}" in checks(told)["port"]["remedy"]


def test_without_mlx(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx/__init__.py").write_text("raise ImportError('no libmlx')")
    cli.env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{cli.env['PYTHONPATH']}"
    told = doctor(cli)
    assert told.returncode == 1
    assert checks(told)["device"]["message"] == "MLX cannot compute: ImportError: no libmlx"


def test_a_hub_that_does_not_answer_is_no_failure(cli: CommandLine, free_port: int) -> None:
    cli.env |= {"HF_ENDPOINT": f"http://127.0.0.1:{free_port}", "NO_PROXY": "127.0.0.1"}
    told = cli.run("doctor", "--json")
    assert checks(told)["model hub"]["state"] == "warn"
    cli.env["HF_HUB_OFFLINE"] = "1"
    assert checks(cli.run("doctor", "--json"))["model hub"]["state"] == "ok"


def test_mlx_is_not_loaded_by_the_command_itself(cli: CommandLine) -> None:
    script = (
        "import sys, mlx_serve_gateway.cli.main as m; from click.testing import CliRunner; "
        "CliRunner().invoke(m.mlx_serve, ['doctor', '--offline', '--json']); "
        "print(*(name for name in ('mlx', 'numpy', 'huggingface_hub') if name in sys.modules))"
    )
    told = subprocess.run([*cli.command()[:2], "-c", script], env=cli.env, capture_output=True)
    assert told.stdout == b"\n", told
