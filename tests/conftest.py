"""What tests of every kind share."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mlx_serve_gateway.blas import candidates, openblas_core
from tests.clock import FakeClock
from tests.store import ModelStore


def pytest_configure() -> None:
    # A shell that runs us in the background, or nohup, has them ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Hundreds of gateways would measure again which library is the fastest here.
    os.environ.setdefault(candidates.OWN, "OpenBLAS")
    os.environ.setdefault(openblas_core.OWN, os.environ.get(openblas_core.THEIRS, ""))
    # A machine that is crowded is no fault of what is tested.
    settings.register_profile(
        "crowded", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("crowded")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half characters that a test has printed cannot be sent to the process that reports."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a worker's code sets for its own process must not reach the processes of later tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name: a socket's address has 103 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")
