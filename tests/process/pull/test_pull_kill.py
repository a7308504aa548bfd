"""Pulls killed at every point: the store stays whole, and the next pull succeeds."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlx_serve_common.events import decode_event
from mlx_serve_common.store import Store
from mlx_serve_gateway.registry import Registry
from tests.deaths import dying_at, points
from tests.hub.faults import Fault
from tests.process.ollama.asking import Stream
from tests.process.pull.conftest import REPO, WEIGHTS, Home
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

_POINTS = points(
    "mlx_serve_worker.downloads/Folder:make",
    "mlx_serve_worker.download/Part:recall",
    "mlx_serve_worker.download:_receive",
    "pathlib/Path:replace",
    "mlx_serve_worker.gathering/Gathering:gather",
    "mlx_serve_worker.pull:run_confined",
    "mlx_serve_worker.downloads/Folder:remove",
    "mlx_serve_worker.flight/Flight:record",
)


def assert_whole(home: Home) -> None:
    until(lambda: not home.processes(), 5, "the end of every process")
    home.models.mkdir(exist_ok=True)
    registry = Registry(home.models, {})
    assert registry.broken() == []
    assert [model.name for model in registry.models()] == home.installed()
    if registry.models():
        home.assert_works()


@pytest.mark.parametrize("point", _POINTS)
def test_death_at_any_point(point: str, home: Home) -> None:
    dying = dying_at(point, home.command())
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


def test_killed_server_takes_its_pull_along(home: Home, short_dir: Path) -> None:
    """Leaving the gateway's block checks that nothing of it lives on."""
    half = 60_000
    home.hub.faults[WEIGHTS] = Fault(times=1, stall_after=half)
    with home.server(short_dir) as gateway:
        stream = Stream(gateway, model=REPO)
        until(lambda: home.kept_bytes() >= half, 30, "half of it")
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        stream.leave()
    assert_whole(home)
    home.hub.bytes_sent.clear()
    with home.server(short_dir) as gateway:
        assert Stream(gateway, model=REPO).rest()[-1] == {"status": "success"}
        assert len(gateway.embed("tiny", "a text").vectors()) == 1
    size = len(home.hub.repositories[REPO].files[WEIGHTS].content)
    assert home.hub.bytes_sent[WEIGHTS] == size - half
    home.assert_nothing_left()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next event that is told ends it")
def test_pull_ends_with_the_command_that_was_killed(home: Home) -> None:
    """All that the job sees of that is that nobody reads its events."""
    half = 60_000
    home.hub.faults[WEIGHTS] = Fault(times=1, stall_after=half)
    with subprocess.Popen(
        home.command(), env=home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        until(lambda: home.kept_bytes() >= half, 30, "half of it")
        assert job.stdout is not None
        assert job.stderr is not None
        job.stdout.close()
        job.wait(5)
        assert b"Traceback" not in job.stderr.read()
    assert_whole(home)
    assert home.kept_bytes() >= half
    home.run()
    home.assert_nothing_left()


def test_server_sweeps_what_killed_jobs_have_left(home: Home, short_dir: Path) -> None:
    home.run()
    with Store(home.models).staging() as at_work:
        abandoned = home.models / ".staging" / "abandoned"
        (abandoned / "1_Pooling").mkdir(parents=True)
        with home.server(short_dir) as gateway:
            assert len(gateway.embed("tiny", "a text").vectors()) == 1
        assert home.staged() == [at_work]
