"""Pulls killed at any moment: the store stays whole, and the next pull succeeds."""

import random
import shutil
import signal
import subprocess
import sys
from time import monotonic

import psutil
import pytest

from mlx_serve_common.events import decode_event
from mlx_serve_common.store import Store
from mlx_serve_gateway.registry import Registry
from tests.hub.faults import Fault
from tests.process.pull.conftest import WEIGHTS, Home
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

MOMENTS = 10

_DYING = """
import importlib, os, signal, sys

from mlx_serve_worker import job

holder, name, moment = sys.argv.pop(1).split(":")
module, _, owner = holder.partition("/")
target = importlib.import_module(module)
target = getattr(target, owner) if owner else target
original = getattr(target, name)

def dying(*arguments, **options):
    if moment == "after":
        original(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(target, name, dying)
job.main()
"""

_POINTS = [
    f"{function}:{moment}"
    for function in (
        "mlx_serve_worker.downloads/Folder:make",
        "mlx_serve_worker.download/Part:recall",
        "mlx_serve_worker.download:_receive",
        "pathlib/Path:replace",
        "mlx_serve_worker.gathering/Gathering:gather",
        "mlx_serve_worker.pull:run_confined",
        "mlx_serve_worker.downloads/Folder:remove",
        "mlx_serve_worker.flight/Flight:record",
    )
    for moment in ("before", "after")
]


def processes(home: Home) -> list[psutil.Process]:
    """Whoever works on this models folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(home.models.parent) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def assert_whole(home: Home) -> None:
    until(lambda: not processes(home), 5, "the end of every process")
    home.models.mkdir(exist_ok=True)
    registry = Registry(home.models, {})
    assert registry.broken() == []
    assert [model.name for model in registry.models()] == home.installed()
    if registry.models():
        home.assert_works()


@pytest.mark.parametrize("point", _POINTS)
def test_death_at_any_point(point: str, home: Home) -> None:
    dying = home.command()
    dying[1:4] = ["-c", _DYING, point]
    died = subprocess.run(dying, env=home.env, capture_output=True, timeout=50)
    assert died.returncode == -signal.SIGKILL
    assert_whole(home)
    assert home.run()[-1].model == "tiny"
    home.assert_works()
    home.assert_nothing_left()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends by itself a little later")
def test_process_that_reads_the_files_dies_with_the_pull(home: Home) -> None:
    with home.start() as job:
        assert job.stdout is not None
        next(line for line in job.stdout if decode_event(line).status == "verifying")
        (reader,) = psutil.Process(job.pid).children()
        reader.suspend()  # so that it cannot have ended by itself
        job.kill()
    assert_whole(home)
    home.run()
    home.assert_nothing_left()


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(seed: int, home: Home) -> None:
    chance = random.Random(seed)
    home.hub.faults[WEIGHTS] = Fault(bytes_per_s=1e6)
    begun = monotonic()
    home.run()
    lasts_s = monotonic() - begun
    for _ in range(MOMENTS):
        shutil.rmtree(home.models / "tiny", ignore_errors=True)
        with home.start() as job:
            try:
                job.wait(chance.uniform(0, lasts_s))
            except subprocess.TimeoutExpired:
                job.kill()
        assert_whole(home)
    assert home.run()[-1].model == "tiny"
    home.assert_works()
    # What was published at the last moment may leave a folder, which the next pull takes away.
    with Store(home.models).staging():
        pass
    assert home.staged() == []
    assert sys.platform != "linux" or not processes(home)
