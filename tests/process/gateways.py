"""A real gateway over a store of fake models, and what it leaves behind when it ends."""

import http.client
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import psutil

import mlx_serve_gateway
from mlx_serve_common.config import Config, ModelsConfig
from mlx_serve_gateway.blas import candidates, openblas_core
from mlx_serve_worker.backends.fake import vector
from tests.store import ModelStore
from tests.waiting import until

SOURCE = Path(mlx_serve_gateway.__file__).parent.parent
LIMIT_S = 30.0
GONE_S = 1.0
"""How soon after a gateway's end nothing of it may be left."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The error's code; it has to be one, in OpenAI's envelope."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.json["detail"] == error["message"]
        assert "Traceback" not in error["message"]
        return str(error["code"])

    @property
    def param(self) -> Any:
        return self.json["error"]["param"]

    def vectors(self) -> list[list[float]]:
        assert self.status == 200, self
        return [item["embedding"] for item in self.json["data"]]


class Gateway:
    """A context manager: leaving it stops the gateway and checks that nothing stays."""

    def __init__(
        self,
        home: Path,
        store: ModelStore,
        config: Config | None = None,
        *,
        host: str = "127.0.0.1",
        **env: str,
    ) -> None:
        self.home = home
        self.store = store
        self.instance = secrets.token_hex(8)
        given = config or Config()
        self._config = msgspec.structs.replace(
            given,
            server=msgspec.structs.replace(given.server, host=host, port=0),
            # Passes of its own would make a busy machine busier.
            batch=msgspec.structs.replace(given.batch, calibrate=False),
            models=msgspec.structs.replace(
                given.models or ModelsConfig(), directory=str(store.models_dir)
            ),
        )
        self._env = environment(**env)
        self._log = home / "gateway.log"
        self.port = 0
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._sockets_before = set(self.sockets())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "tests.process.serving",
                    msgspec.json.encode(self._config).decode(),
                    str(self.home),
                    self.instance,
                ],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log()
        self.port = int(line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"the gateway did not stop:\n{self.log()}") from None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.assert_nothing_left()
        if error is None:
            own_lines = [line for line in self.log().splitlines() if " gateway.output " not in line]
            assert not [line for line in own_lines if "Traceback" in line], self.log()

    # --- the process -----------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def change_config(self, **sections: Any) -> None:
        """What the server finds when it reloads its configuration."""
        changed = msgspec.structs.replace(self._config, **sections)
        (self.home / "reload.json").write_bytes(msgspec.json.encode(changed))

    def signal_group(self, number: int) -> None:
        """As a terminal does for Ctrl-C."""
        os.killpg(self.pid, number)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        return self._process.wait(limit_s)

    def processes(self) -> list[psutil.Process]:
        """The workers and whatever else was started with this gateway's tag, dead or alive."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def sentinel(self) -> psutil.Process:
        (found,) = filter(_is_shell, psutil.Process(self.pid).children())
        return found

    def sockets(self) -> list[Path]:
        return sorted((self.home / "run").glob("*.sock"))

    def assert_nothing_left(self) -> None:
        until(lambda: not self.processes(), GONE_S, "the end of every worker")
        if self._process.returncode == 0:
            assert set(self.sockets()) <= self._sockets_before
            assert not _is_empty_folder(self.home / "run")

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            environ = process.environ()
        except psutil.Error:
            return False
        return environ.get("MLX_SERVE_INSTANCE") == self.instance

    # --- requests --------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        started = monotonic()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, content, monotonic() - started)
        finally:
            connection.close()

    def post(self, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """To /v1/embeddings; bytes are sent as they are."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.ask("POST", "/v1/embeddings", content, headers)

    def embed(self, model: str, texts: str | list[str], **more: Any) -> Answer:
        return self.post({"model": model, "input": texts} | more)

    def assert_serves(self, model: str) -> None:
        text = secrets.token_hex(8)
        assert self.embed(model, text).vectors() == [vector(text)]

    def detail(self) -> dict[str, Any]:
        detail: dict[str, Any] = self.ask("GET", "/health/detail").json
        return detail

    def waiting(self) -> int:
        """Inputs that are queued or being computed."""
        detail = self.detail()
        count: int = detail["in_flight"] + detail["queued"]
        return count

    def worker(self, model: str) -> dict[str, Any] | None:
        return next((each for each in self.detail()["workers"] if each["model"] == model), None)

    def worker_pid(self, model: str) -> int:
        worker = self.worker(model)
        assert worker is not None
        pid: int = worker["pid"]
        return pid


def is_alive(process: psutil.Process) -> bool:
    # Nobody may be there to reap an orphan: what only waits for that is gone as well.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two questions
        return False


def _is_shell(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] == ["/bin/sh"]
    except psutil.Error:
        return False


def environment(**more: str) -> dict[str, str]:
    """This process's, without settings of ours but those for a BLAS, which would be measured again
    by each; workers are started from this source."""
    settings = ("MLX_SERVE", "OTEL_")
    ours = {
        name: text
        for name, text in os.environ.items()
        if name in (candidates.OWN, openblas_core.OWN) or not name.startswith(settings)
    }
    return ours | {"MLX_SERVE_TEST_BACKENDS": "1", "PYTHONPATH": str(SOURCE)} | more


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
