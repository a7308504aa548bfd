"""A person's home folder with a stand-in for systemd or launchd."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.cli.conftest import CommandLine, Finished, cli, free_port

__all__ = ["cli", "free_port"]

_HERE = Path(__file__).parent

# The real commands as they are on a Mac, as far as choosing a supervisor goes.
_ON_A_MAC = """
import sys, types
from mlx_serve_gateway.supervision import supervisor
supervisor.sys = types.SimpleNamespace(platform="darwin")
from mlx_serve_gateway.cli.main import main
main()
"""


class Serviced:
    """The commands, and what the stand-in saw of them."""

    def __init__(self, cli: CommandLine, folder: Path, tool: str, port: int) -> None:
        self.cli = cli
        self.port = port
        self.on_a_mac = tool == "launchctl"
        self.user_home = cli.home.parent
        self.folder = folder / "supervisor"
        self.folder.mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        stand_in = programs / tool
        command = shlex.join([sys.executable, str(_HERE / f"fake_{tool}.py")])
        stand_in.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        stand_in.chmod(0o755)
        cli.env |= {
            "FAKE_SUPERVISOR": str(self.folder),
            "HOME": str(self.user_home),
            "PATH": f"{programs}:{cli.env['PATH']}",
        }
        # What a service would not see either.
        del cli.env["MLX_SERVE_HOST"]
        cli.env.pop("XDG_CONFIG_HOME", None)
        self.configure("")

    def configure(self, more: str) -> None:
        server = f"server: {{host: 127.0.0.1, port: {self.port}}}\n"
        (self.cli.home / "config.yaml").write_text(server + more)

    def run(self, *arguments: str) -> Finished:
        program = ["-c", _ON_A_MAC] if self.on_a_mac else ["-P", "-m", "mlx_serve_gateway.cli.main"]
        return subprocess.run(
            [sys.executable, *program, *arguments],
            env=self.cli.env,
            capture_output=True,
            text=True,
            timeout=100,
        )

    def service(self, *arguments: str) -> Finished:
        return self.run("service", *arguments)

    def done(self, *arguments: str) -> Finished:
        """A command of ``service`` that has to succeed."""
        told = self.service(*arguments)
        assert told.returncode == 0, told
        return told

    def calls(self) -> list[str]:
        """What was asked of the supervisor since the last look, questions left out."""
        file = self.folder / "calls"
        seen = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [call.strip() for call in seen if not call.startswith(("show ", "print "))]

    def refuse(self, verb: str, text: str) -> None:
        (self.folder / f"refuse-{verb}").write_text(text)


@pytest.fixture
def systemd(cli: CommandLine, tmp_path: Path, free_port: int) -> Iterator[Serviced]:
    yield Serviced(cli, tmp_path / "fake", "systemctl", free_port)


@pytest.fixture
def launchd(cli: CommandLine, tmp_path: Path, free_port: int) -> Iterator[Serviced]:
    yield Serviced(cli, tmp_path / "fake", "launchctl", free_port)
