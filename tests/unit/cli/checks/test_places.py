"""Folders, models, programs, units, ports: what is judged of a small file system."""

import errno
import os
import plistlib
from pathlib import Path

import pytest

from mlx_serve_gateway.cli.checks.programs import judge_program, on_path
from mlx_serve_gateway.cli.checks.servers import judge_bind, judge_running
from mlx_serve_gateway.cli.checks.service import (
    judge_unit,
    program_of,
    unit_files,
    waits_for_login,
)
from mlx_serve_gateway.cli.checks.storage import judge_folder, judge_models, judge_space
from mlx_serve_gateway.cli.instances import Instance


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_folder(tmp_path: Path) -> None:
    assert judge_folder(tmp_path, "elsewhere").message == str(tmp_path)
    assert "does not exist yet" in judge_folder(tmp_path / "a/b", "elsewhere").message
    (tmp_path / "file").touch()
    assert judge_folder(tmp_path / "file/models", "elsewhere").state == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert judge_folder(tmp_path / "models", "elsewhere").state == "fail"


def test_models() -> None:
    assert judge_models(0, []).state == "ok"
    verdict = judge_models(3, [("bad\x1b[2J", "no manifest")])
    assert verdict.state == "fail"
    assert "mlx-serve remove 'bad\\x1b[2J'" in (verdict.remedy or "")


@pytest.mark.parametrize(
    ("free", "state"), [(5 * 10**8, "fail"), (5 * 10**9, "warn"), (10**11, "ok")]
)
def test_space(free: int, state: str) -> None:
    assert judge_space(free).state == state


def test_the_program_that_a_shell_would_run(tmp_path: Path) -> None:
    own, other = program(tmp_path / "own/mlx-serve"), program(tmp_path / "other/mlx-serve")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/mlx-serve").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mlx-serve").symlink_to(own)

    def judged(*folders: str) -> str:
        path = os.pathsep.join(str(tmp_path / folder) for folder in folders)
        return judge_program(on_path(path), own).state

    assert judged("own", "other") == "ok"
    assert judged("bin", "other") == "ok"
    assert judged("plain", "absent") == "ok"
    assert judged("plain", "other", "own") == "warn"
    assert str(other) in judge_program([other], own).message


def test_the_program_of_a_unit(tmp_path: Path) -> None:
    python = program(tmp_path / "한 글/bin/python3")
    systemd, launchd = tmp_path / "mlx-serve.service", tmp_path / "local.mlx-serve.plist"
    systemd.write_text(f'[Service]\nExecStart=:"{python}" "-m" "x%%y"\n')
    launchd.write_bytes(plistlib.dumps({"ProgramArguments": [str(python), "start"]}))
    for file in (systemd, launchd):
        assert program_of(file) == str(python)
        assert judge_unit(file, program_of(file), python.parent).state == "ok"
        assert judge_unit(file, program_of(file), tmp_path).state == "warn"
    python.unlink()
    assert judge_unit(systemd, str(python), python.parent).state == "fail"


@pytest.mark.parametrize("content", ["", "[Service]\n", "ExecStart=\n", "\x00", "<plist/>"])
def test_a_unit_that_says_nothing(tmp_path: Path, content: str) -> None:
    for name in ("mlx-serve.service", "mlx-serve.plist"):
        file = tmp_path / name
        file.write_text(content)
        assert judge_unit(file, program_of(file), tmp_path).state == "fail"


def test_units_are_found(tmp_path: Path) -> None:
    home = tmp_path / ".mlx-serve"
    places = {
        "darwin": [
            "Library/LaunchAgents/homebrew.mxcl.mlx-serve.plist",
            ".mlx-serve/service/x.plist",
        ],
        "linux": [".config/systemd/user/mlx-serve.service"],
    }
    for platform, names in places.items():
        assert unit_files(platform, home, tmp_path, {}) == []
        file = tmp_path / names[0]
        file.parent.mkdir(parents=True)
        file.touch()
        assert unit_files(platform, home, tmp_path, {}) == [file]
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert unit_files("linux", home, tmp_path, elsewhere) == []


def test_a_unit_that_waits_for_a_login(tmp_path: Path) -> None:
    file, lingers = tmp_path / "mlx-serve.service", tmp_path / "me"
    file.touch()
    assert not waits_for_login(file, lingers)
    (tmp_path / "default.target.wants").mkdir()
    (tmp_path / "default.target.wants/mlx-serve.service").symlink_to(file)
    assert waits_for_login(file, lingers)
    lingers.touch()
    assert not waits_for_login(file, lingers)


def test_ports() -> None:
    assert judge_bind("0.0.0.0", 8000, None).state == "ok"
    taken = judge_bind("0.0.0.0", 8000, OSError(errno.EADDRINUSE, "in use"))
    assert (taken.state, "--port 8001" in (taken.remedy or "")) == ("fail", True)
    absent = judge_bind("192.0.2.1", 8000, OSError(errno.EADDRNOTAVAIL, "not available"))
    assert (absent.state, "not available" in absent.message) == ("fail", True)
    hangs = judge_running(Instance(port=8000, state="unresponsive", pid=7, problem="no answer"))
    assert (hangs.state, "--force" in (hangs.remedy or "")) == ("fail", True)
    assert judge_running(Instance(port=8000, state="up", pid=7)).state == "ok"
