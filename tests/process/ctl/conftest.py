"""One gateway for everybody here, and ``mlx-serve-ctl`` as a person runs it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.ctl.relay import Relay
from tests.process.gateways import SOURCE, Gateway
from tests.process.homes import Home
from tests.process.ollama.asking import serving
from tests.store import ModelStore

LIMIT_S = 30
Finished = subprocess.CompletedProcess[str]


class Ctl:
    """The command in a home folder of its own, for the gateway at ``url``."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        ours = {name: text for name, text in os.environ.items() if "MLX_SERVE" not in name}
        self.env = ours | {"MLX_SERVE_HOME": str(home), "PYTHONPATH": str(SOURCE)}
        self._url = url

    def command(self, what: str, *arguments: str) -> list[str]:
        program = [sys.executable, "-P", "-m", "mlx_serve_gateway.cli.ctl"]
        return [*program, what, f"--url={self._url}", *arguments]

    def run(self, what: str, *arguments: str) -> Finished:
        return subprocess.run(
            self.command(what, *arguments),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    @contextmanager
    def spawn(self, what: str, *arguments: str, **how: Any) -> Iterator["subprocess.Popen[str]"]:
        """The command while the block runs; a block that fails waits for nothing."""
        pipe = subprocess.PIPE
        streams = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe}
        command = self.command(what, *arguments)
        with subprocess.Popen(command, env=self.env, text=True, **(streams | how)) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise


@pytest.fixture(scope="package")
def gateway() -> Iterator[Gateway]:
    with Home() as home, serving(home.path, home.store) as gateway:
        home.store.add("작은-모델")
        yield gateway


@pytest.fixture
def store(gateway: Gateway) -> ModelStore:
    return gateway.store


@pytest.fixture
def ctl(gateway: Gateway, tmp_path: Path) -> Ctl:
    """On the gateway's own machine."""
    return Ctl(tmp_path, f"http://127.0.0.1:{gateway.port}")


@pytest.fixture
def stranger(gateway: Gateway, tmp_path: Path) -> Iterator[Ctl]:
    """On another machine."""
    with Relay(gateway.port) as relay:
        yield Ctl(tmp_path, relay.url)
