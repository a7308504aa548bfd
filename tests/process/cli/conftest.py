"""A home folder of its own, the real commands run in it, and nothing left running afterwards."""

import http.client
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import mlx_serve_gateway
from tests.store import ModelStore
from tests.waiting import until

_SOURCE = Path(mlx_serve_gateway.__file__).parent.parent
_LIMIT_S = 50
Finished = subprocess.CompletedProcess[str]


class CommandLine:
    """Runs ``mlx-serve`` as a person of this home folder would."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ours = {name: text for name, text in os.environ.items() if "MLX_SERVE" not in name}
        self.env = ours | {
            "MLX_SERVE_HOME": str(home),
            "MLX_SERVE_HOST": "127.0.0.1",
            "MLX_SERVE_TEST_BACKENDS": "1",
            "PYTHONPATH": str(_SOURCE),
        }

    def command(self, *arguments: str, program: str = "main") -> list[str]:
        module = f"mlx_serve_gateway.cli.{program}"
        return [sys.executable, "-P", "-m", module, *arguments]

    def run(self, *arguments: str, program: str = "main") -> Finished:
        return subprocess.run(
            self.command(*arguments, program=program),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )

    def spawn(self, *arguments: str, **how: Any) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        streams = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe}
        return subprocess.Popen(
            self.command(*arguments), env=self.env, text=True, **(streams | how)
        )

    def start(self, *arguments: str) -> int:
        """Start a server in the background; its port."""
        started = self.run("start", *(arguments or ("--port", "0")))
        assert started.returncode == 0, started
        found = re.search(r"http://127\.0\.0\.1:(\d+)", started.stdout)
        assert found is not None, started
        return int(found[1])

    def record(self, port: int) -> dict[str, Any]:
        text = (self.home / f"mlx-serve-{port}.pid").read_bytes()
        record: dict[str, Any] = msgspec.json.decode(text)
        return record

    def pid(self, port: int) -> int:
        pid: int = self.record(port)["pid"]
        return pid

    def install_fake(self, name: str, **options: Any) -> None:
        ModelStore(self.home / "models").add(name, **options)

    def processes(self) -> list[psutil.Process]:
        """Every live process that was started with this home folder."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("MLX_SERVE_HOME") == str(self.home)
        except psutil.Error:
            return False


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """Commands in a fresh home folder; whatever still runs in it at the end is a failure."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    cli = CommandLine(home)
    yield cli
    cli.run("stop", "--all", "--force")
    left = cli.processes()
    for process in left:
        process.kill()
    assert left == []


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def get(port: int, path: str) -> tuple[int, Any]:
    return _ask(port, "GET", path, None)


def embed(port: int, model: str, text: str) -> tuple[int, Any]:
    body = msgspec.json.encode({"model": model, "input": text})
    return _ask(port, "POST", "/v1/embeddings", body)


def _ask(port: int, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, msgspec.json.decode(response.read())
    finally:
        connection.close()


class Running:
    """A request in flight: a thread waits for its answer."""

    def __init__(self, port: int, model: str, text: str) -> None:
        self._threads = ThreadPoolExecutor(1)
        self._answer: Future[tuple[int, Any]] = self._threads.submit(embed, port, model, text)
        until(lambda: get(port, "/health/detail")[1]["in_flight"] == 1)

    def status(self) -> int:
        status = self._answer.result(_LIMIT_S)[0]
        self._threads.shutdown()
        return status
