"""A stand-in for the hub with one tiny model, and a models folder to pull it into."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.models import Manifest, read_manifest
from mlx_serve_common.store import Store
from mlx_serve_worker.patience import Patience
from mlx_serve_worker.pull import pull
from mlx_serve_worker.pull_wish import Wish
from tests.engine import safetensors_file, tiny
from tests.engine.models import embed, load, prepare
from tests.hub.repositories import HubRepository
from tests.hub.server import Hub
from tests.process.gateways import Gateway
from tests.store import ModelStore

ROOT = Path(__file__).parents[3]
REPO = "org/tiny"
WEIGHTS = "model.safetensors"
LIMIT_S = 50
# The same decisions as the real one's, without the waits.
IMPATIENT = Patience(stall_s=6.0, connect_s=2.0, delays_s=(0.01,) * 5, longest_wait_s=2.0)

_JOB = (sys.executable, "-P", "-m", "mlx_serve_worker.job")


class Home:
    """Where models are pulled to; in this process, or by jobs of their own."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.models = folder / "models"
        self.cache = folder / "hf" / "hub"
        self.events: list[JobEvent] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            **hub.environment(),
            "HF_HOME": str(folder / "hf"),
            "PYTHONPATH": str(ROOT),
        }

    # --- in this process -------------------------------------------------------------------------

    def pull(
        self, reference: str = REPO, patience: Patience = IMPATIENT, **wish: object
    ) -> Manifest:
        wanted = Wish.of(reference)._replace(**wish)  # type: ignore[arg-type]
        self.events.clear()
        last = pull(Store(self.models), wanted, self.events.append, patience)
        assert last.status == "success"
        assert last.model is not None
        return read_manifest(self.models / last.model)

    def refusal(
        self, reference: str = REPO, patience: Patience = IMPATIENT, **wish: object
    ) -> ServeError:
        """The error that a pull ends with; nothing may be installed by it."""
        with pytest.raises(ServeError) as refused:
            self.pull(reference, patience, **wish)
        assert str(self.models.parent) not in refused.value.message
        assert "http://" not in refused.value.message
        return refused.value

    # --- as a process ----------------------------------------------------------------------------

    def command(self, *more: str, repo: str = REPO) -> list[str]:
        return [*_JOB, "pull", f"--repo={repo}", f"--models-dir={self.models}", *more]

    def start(self, *more: str, repo: str = REPO) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(*more, repo=repo),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def run(self, *more: str, repo: str = REPO, **env: str) -> list[JobEvent]:
        """Its events; the exit code has to agree with the last one."""
        done = subprocess.run(
            self.command(*more, repo=repo), env=self.env | env, capture_output=True, timeout=LIMIT_S
        )
        assert b"Traceback" not in done.stdout + done.stderr, done.stderr
        return checked(done.stdout, done.returncode)

    def server(self, own_home: Path) -> Gateway:
        """One that serves these models, and pulls into the same folder."""
        hub = self.hub.environment() | {"HF_HOME": self.env["HF_HOME"]}
        return Gateway(own_home, ModelStore(self.models), None, **hub)

    # --- what is there ---------------------------------------------------------------------------

    def installed(self) -> list[str]:
        return sorted(path.name for path in self.models.glob("[!.]*/"))

    def kept(self) -> list[Path]:
        """The files of unfinished downloads."""
        return sorted(path for path in (self.models / ".downloads").rglob("*") if path.is_file())

    def kept_bytes(self) -> int:
        return sum(_size(path) for path in self.kept())

    def staged(self) -> list[Path]:
        staging = self.models / ".staging"
        return [path for path in staging.iterdir() if path.is_dir()] if staging.exists() else []

    def processes(self) -> list[psutil.Process]:
        """Whoever works on this models folder."""
        return [each for each in psutil.process_iter() if self._works_here(each)]

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return any(str(self.models.parent) in part for part in process.cmdline())
        except psutil.Error:
            return False

    def assert_works(self, name: str = "tiny") -> None:
        backend = load(self.models / name)
        vectors = embed(backend, prepare(backend, ["a text"]))
        assert vectors.shape == (1, tiny.WIDTH)
        assert np.isfinite(vectors).all()

    def assert_nothing_left(self) -> None:
        assert (self.kept(), self.staged()) == ([], [])
        folder = self.models / ".downloads"
        assert not folder.exists() or list(folder.iterdir()) == []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has just got another name
        return 0


def checked(output: bytes, code: int) -> list[JobEvent]:
    events = [decode_event(line) for line in output.splitlines()]
    assert (code == 0) == (events[-1].status == "success"), (code, events[-1])
    assert all(event.error is None for event in events[:-1])
    return events


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tiny.build(tiny.LAYOUTS["mean"], tmp_path_factory.mktemp("tiny"))
    return HubRepository.of_folder(REPO, folder).content()


@pytest.fixture(scope="session")
def large_files(
    tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The same model with a second file of 40 MB, which it has no use for but needs to be whole."""
    path = tmp_path_factory.mktemp("large") / "ballast.safetensors"
    values = np.random.RandomState(1).standard_normal(10_000_000)
    safetensors_file.write(path, {"ballast": values})
    weights = tiny_files["model.safetensors"]
    others = {name: content for name, content in tiny_files.items() if name != "model.safetensors"}
    return others | {"a.safetensors": path.read_bytes(), "b.safetensors": weights}


@pytest.fixture
def home(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_files: dict[str, bytes]
) -> Iterator[Home]:
    from huggingface_hub import close_session, constants

    hub.add(HubRepository(REPO, tiny_files))
    home = Home(hub, tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url())
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home.cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf/token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield home
    close_session()
